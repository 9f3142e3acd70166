package volumes

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
)

// A Volume says what a volume shall be, in Kubernetes' words. At most one of
// Disk, Memory, HostPath, Files and Claim is given; with none it is a disk volume.
type Volume struct {
	// Name is an RFC 1123 label.
	Name     string    `json:"name"`
	Disk     *Disk     `json:"disk,omitempty"`
	Memory   *Memory   `json:"memory,omitempty"`
	HostPath *HostPath `json:"hostPath,omitempty"`
	Files    *Files    `json:"files,omitempty"`
	Claim    *Claim    `json:"claim,omitempty"`
	// FSGroup is a group that gets access to all of the volume, and to which
	// belongs what is made in it. Nil: nothing of this. A host path cannot
	// have it: what is there keeps its owners.
	FSGroup *uint32 `json:"fsGroup,omitempty"`
	// FSGroupPolicy says when what is in a volume already is given to FSGroup.
	FSGroupPolicy GroupPolicy `json:"fsGroupPolicy,omitempty"`
}

// Disk is an empty directory on the disk.
type Disk struct {
	// Size is how much it should hold at most, in bytes. 0: no limit. Nothing
	// here enforces it: who leads the pod may measure, by Usage, and act.
	Size int64 `json:"size,omitempty"`
}

// Claim is a directory on the disk that has a name of its own and outlives pods: it is
// there for the next that claims it, with all that is in it. Several pods may have it
// at once.
type Claim struct {
	// Name is an RFC 1123 subdomain.
	Name string `json:"name"`
}

// A GroupPolicy is Kubernetes' fsGroupChangePolicy.
type GroupPolicy string

const (
	GroupAlways         GroupPolicy = "Always" // what an empty one means
	GroupOnRootMismatch GroupPolicy = "OnRootMismatch"
)

// Memory is an empty tmpfs.
type Memory struct {
	// Size is how much it can hold, in bytes. 0: half of the machine's memory.
	Size int64 `json:"size,omitempty"`
}

// HostPath is a file or directory of the host.
type HostPath struct {
	// Path is absolute. Symbolic links in it are followed.
	Path string `json:"path"`
	// Type is what must be there.
	Type PathType `json:"type,omitempty"`
}

// A PathType is what must be at a host path before it is used. All but the two
// that create want it to exist.
type PathType string

const (
	PathAny               PathType = ""
	PathDirectory         PathType = "Directory"
	PathDirectoryOrCreate PathType = "DirectoryOrCreate" // makes parents too, each with mode 0755 less the umask
	PathFile              PathType = "File"
	PathFileOrCreate      PathType = "FileOrCreate" // an empty one in an existing directory, mode 0644 less the umask
	PathSocket            PathType = "Socket"
	PathCharDevice        PathType = "CharDevice"
	PathBlockDevice       PathType = "BlockDevice"
)

var pathTypes = []PathType{
	PathAny, PathDirectory, PathDirectoryOrCreate, PathFile, PathFileOrCreate, PathSocket, PathCharDevice, PathBlockDevice,
}

// Files are files with known contents, which members can only read.
type Files struct {
	Entries []File `json:"entries,omitempty"`
	// DefaultMode is the mode of files that have none of their own. 0: 0644.
	DefaultMode uint32 `json:"defaultMode,omitempty"`
	// Memory keeps the files in a tmpfs, so that secrets do not reach the disk.
	Memory bool `json:"memory,omitempty"`
}

// A File is one of the files.
type File struct {
	// Path is relative to the volume. It has no ".." and does not begin with
	// two dots; directories in it are made.
	Path    string `json:"path"`
	Content []byte `json:"content,omitempty"`
	// Mode is at most 0777. Nil: Files.DefaultMode. With FSGroup, the group may
	// read the file in any case.
	Mode *uint32 `json:"mode,omitempty"`
	// UID and GID are the file's owners. Nil: the calling process's, and
	// FSGroup if there is one.
	UID *uint32 `json:"uid,omitempty"`
	GID *uint32 `json:"gid,omitempty"`
}

// Kind returns disk, memory, hostpath, files or claim.
func (v Volume) Kind() string {
	switch {
	case v.Memory != nil:
		return "memory"
	case v.HostPath != nil:
		return "hostpath"
	case v.Files != nil:
		return "files"
	case v.Claim != nil:
		return "claim"
	}
	return "disk"
}

// DirName returns the name of the directory that Make makes in its parent: the
// volume's own or, of a claim, that of the claim.
func (v Volume) DirName() string {
	if v.Claim != nil {
		return v.Claim.Name
	}
	return v.Name
}

// InMemory reports whether the volume is a tmpfs, for NewTmpfs, and not a
// directory, for Make, or a host path.
func (v Volume) InMemory() bool { return v.Memory != nil || v.Files != nil && v.Files.Memory }

// Validate reports the first wrong value by the name of its field. It looks at
// nothing but v.
func (v Volume) Validate() error {
	if !isLabel(v.Name) {
		return invalid("volume name", v.Name, "want an RFC 1123 label: at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")
	}
	if err := v.validate(); err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	return nil
}

func (v Volume) validate() error {
	var kinds []string
	for _, k := range []struct {
		given bool
		name  string
	}{{v.Disk != nil, "disk"}, {v.Memory != nil, "memory"}, {v.HostPath != nil, "hostPath"}, {v.Files != nil, "files"}, {v.Claim != nil, "claim"}} {
		if k.given {
			kinds = append(kinds, k.name)
		}
	}
	if len(kinds) > 1 {
		return invalid("kind", strings.Join(kinds, ","), "want one")
	}
	if err := validateID("fsGroup", v.FSGroup); err != nil {
		return err
	}
	switch {
	case v.FSGroupPolicy != "" && v.FSGroupPolicy != GroupAlways && v.FSGroupPolicy != GroupOnRootMismatch:
		return invalid("fsGroupPolicy", string(v.FSGroupPolicy), "want Always or OnRootMismatch")
	case v.FSGroupPolicy != "" && v.FSGroup == nil:
		return invalid("fsGroupPolicy", string(v.FSGroupPolicy), "want none without fsGroup")
	case v.Claim != nil:
		return v.Claim.validate()
	case v.Disk != nil:
		return v.Disk.validate()
	case v.Memory != nil:
		return v.Memory.validate()
	case v.HostPath != nil && v.FSGroup != nil:
		return invalid("fsGroup", fmt.Sprint(*v.FSGroup), "want none: a host path keeps its owners")
	case v.HostPath != nil:
		return v.HostPath.validate()
	case v.Files != nil:
		return v.Files.validate()
	}
	return nil
}

func (c *Claim) validate() error {
	for label := range strings.SplitSeq(c.Name, ".") {
		if !isLabel(label) || len(c.Name) > maxClaimName {
			return invalid("claim", c.Name, "want an RFC 1123 subdomain: at most 253 of a-z, 0-9, - and .")
		}
	}
	return nil
}

// maxClaimName is Kubernetes' limit, which leaves room for the dot of a hidden name.
const maxClaimName = 253

func (d *Disk) validate() error {
	if d.Size != 0 && d.Size < minSize {
		return invalid("disk size", fmt.Sprint(d.Size), "want at least 4096 bytes, or none for no limit")
	}
	return nil
}

func (m *Memory) validate() error {
	if m.Size != 0 && m.Size < minSize {
		return invalid("memory size", fmt.Sprint(m.Size), wantSize)
	}
	return nil
}

// minSize is a page: the kernel rounds up to whole ones, and takes 0 for no limit.
const (
	minSize  = 4096
	wantSize = "want at least 4096 bytes, or none for half of the machine's memory"
)

func (h *HostPath) validate() error {
	if !path.IsAbs(h.Path) || strings.Contains(h.Path, "\x00") || slices.Contains(strings.Split(h.Path, "/"), "..") {
		return invalid("host path", h.Path, `want an absolute path without ".."`)
	}
	if !slices.Contains(pathTypes, h.Type) {
		var names []string
		for _, t := range pathTypes[1:] {
			names = append(names, string(t))
		}
		return invalid("type of host path", string(h.Type), "want "+strings.Join(names, ", ")+" or none")
	}
	return nil
}

func (f *Files) validate() error {
	if f.DefaultMode > 0o777 {
		return invalid("default mode", fmt.Sprintf("%#o", f.DefaultMode), wantMode)
	}
	isFile := map[string]bool{}
	for _, e := range f.Entries {
		if err := e.validate(); err != nil {
			return err
		}
		if isFile[path.Clean(e.Path)] {
			return invalid("file", e.Path, "want each path once")
		}
		isFile[path.Clean(e.Path)] = true
	}
	for _, e := range f.Entries {
		for p := path.Dir(path.Clean(e.Path)); p != "."; p = path.Dir(p) {
			if isFile[p] {
				return invalid("file", e.Path, p+" is a file too, and cannot be a directory")
			}
		}
	}
	return nil
}

const wantMode = "want at most 0777"

func (e *File) validate() error {
	if want := checkPath(e.Path); want != "" {
		return invalid("file", e.Path, want)
	}
	if e.Mode != nil && *e.Mode > 0o777 {
		return invalid("mode of "+e.Path, fmt.Sprintf("%#o", *e.Mode), wantMode)
	}
	if err := validateID("uid of "+e.Path, e.UID); err != nil {
		return err
	}
	return validateID("gid of "+e.Path, e.GID)
}

// checkPath returns what is wanted of the path of a file, or nothing if that is
// what it is.
func checkPath(p string) string {
	parts := strings.Split(p, "/")
	switch {
	case path.IsAbs(p) || path.Clean(p) == "." || slices.Contains(parts, ".."):
		return `want a relative path without ".."`
	case strings.HasPrefix(path.Clean(p), ".."):
		return "names that begin with two dots are reserved"
	case len(p) > 4095 || slices.ContainsFunc(parts, func(s string) bool { return len(s) > 255 }):
		return "want at most 4095 bytes, and 255 for each name"
	case strings.Contains(p, "\x00"):
		return "want no zero byte"
	}
	return ""
}

// validateID refuses the one number that means "leave it as it is" to chown(2).
func validateID(field string, id *uint32) error {
	if id != nil && *id == math.MaxUint32 {
		return invalid(field, fmt.Sprint(*id), "want less")
	}
	return nil
}

func isLabel(s string) bool {
	const alnum = "abcdefghijklmnopqrstuvwxyz0123456789"
	return s != "" && len(s) <= 63 && strings.Trim(s, alnum+"-") == "" && strings.Trim(s, "-") == s
}
