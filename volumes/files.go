package volumes

import (
	"os"
	"path"
	"slices"
	"time"
)

// The files of a volume are laid out as the kubelet does it, since programs have
// come to watch the link ..data:
//
//	..2026_02_01_15_04_05.123456789/   one version of all files
//	..data -> ..2026_02_01_15_04_05.123456789
//	key    -> ..data/key
//	dir    -> ..data/dir
//
// All files change from one version to the next by renaming another link over
// ..data.
const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
	newLink     = "..link_tmp"
	versionName = "..2006_01_02_15_04_05.000000000"
)

// isVersion reports whether name is one that we give to a version. Whoever can
// write to the volume can have ..data say "../../etc".
func isVersion(name string) bool {
	_, err := time.Parse(versionName, name)
	return err == nil
}

// A branch is a directory of a version, with what is in it.
type branch struct {
	path string   // "." for the version itself
	dirs []string // names
	leaf []leaf
}

// A leaf is a file of a version, with everything said.
type leaf struct {
	name           string
	content        []byte
	mode, uid, gid uint32
}

// names returns the names of all that is in b, sorted.
func (b *branch) names() []string {
	names := slices.Clone(b.dirs)
	for _, l := range b.leaf {
		names = append(names, l.name)
	}
	slices.Sort(names)
	return names
}

// tree returns the directories of a version, parents first.
func (v Volume) tree() []*branch {
	var tree []*branch
	byPath := map[string]*branch{}
	var at func(p string) *branch
	at = func(p string) *branch {
		b := byPath[p]
		if b != nil {
			return b
		}
		if p != "." {
			parent := at(path.Dir(p))
			parent.dirs = append(parent.dirs, path.Base(p))
		}
		b = &branch{path: p}
		byPath[p] = b
		tree = append(tree, b)
		return b
	}
	at(".")
	for _, e := range v.Files.Entries {
		p := path.Clean(e.Path)
		b := at(path.Dir(p))
		b.leaf = append(b.leaf, v.leaf(e, path.Base(p)))
	}
	return tree
}

func (v Volume) leaf(e File, name string) leaf {
	l := leaf{
		name:    name,
		content: e.Content,
		mode:    0o644,
		uid:     uint32(os.Geteuid()),
		gid:     uint32(os.Getegid()),
	}
	if v.Files.DefaultMode != 0 {
		l.mode = v.Files.DefaultMode
	}
	if e.Mode != nil {
		l.mode = *e.Mode
	}
	if v.FSGroup != nil {
		l.gid = *v.FSGroup
		l.mode |= 0o440
	}
	if e.UID != nil {
		l.uid = *e.UID
	}
	if e.GID != nil {
		l.gid = *e.GID
	}
	return l
}
