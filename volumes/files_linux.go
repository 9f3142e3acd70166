package volumes

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Write makes the contents of root, the directory that a volume of files is, what
// Files says, and reports whether they were anything else before. root is a handle
// of any kind. Names that begin with two dots are Write's there; names of which
// it knows nothing stay.
//
// All files change at once: at no time is one missing that is in both the old and
// the new version, and who opens ..data as a directory finds one version in it.
// The old version is removed a moment later. When Write fails, or is killed, the
// files are all as they were or all as they shall be, and the next Write clears
// away what is left over. An error with true says that the new ones are in place.
//
// Content, modes and owners that are as they shall be already are not touched.
func (v Volume) Write(root *os.File) (changed bool, err error) {
	return v.write(root, nil)
}

func (v Volume) write(root *os.File, hook func(op, name string) error) (changed bool, err error) {
	if err := v.Validate(); err != nil {
		return false, err
	}
	if v.Files == nil {
		return false, invalid("volume", v.String(), "has no files to be written")
	}
	f, err := openAt(root, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0, within)
	if err != nil {
		return false, err
	}
	defer f.Close()
	w := writer{root: dir{f, hook}, tree: v.tree()}
	w.gid, w.mode = v.root()
	return w.write()
}

// grace is how long an old version stays after a new one has taken its place: a
// reader that has just read the link ..data is on its way into it.
const grace = 20 * time.Millisecond

// A writer writes the files of one volume once.
type writer struct {
	root      dir
	tree      []*branch
	gid, mode uint32 // of directories
}

func (w *writer) write() (changed bool, err error) {
	current, err := w.root.readlink(dataLink)
	if err != nil {
		return false, err
	}
	if !isVersion(current) {
		current = ""
	}
	if err := w.sweep(current); err != nil {
		return false, err
	}
	same, err := w.isCurrent(current)
	if err != nil {
		return false, err
	}
	if same {
		_, err := w.link()
		return false, errors.Join(err, w.unlink())
	}
	if err := w.replace(); err != nil {
		return false, err
	}
	err = w.unlink()
	if current != "" {
		time.Sleep(grace)
		err = errors.Join(err, removeAll(context.Background(), w.root, current))
	}
	return true, err
}

// sweep removes what an interrupted Write left: every reserved name that is not
// in use.
func (w *writer) sweep(current string) error {
	names, err := w.root.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "..") && name != current && (name != dataLink || current == "") {
			if err := removeAll(context.Background(), w.root, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// isCurrent reports whether version is what shall be written.
func (w *writer) isCurrent(version string) (bool, error) {
	if version == "" {
		return false, nil
	}
	d, err := w.root.open(version)
	if err != nil {
		// Missing, or not a directory: it will be another version.
		return false, nil
	}
	defer d.Close()
	for _, b := range w.tree {
		same, err := w.isBranch(d, b)
		if !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (w *writer) isBranch(version dir, b *branch) (bool, error) {
	d, err := version.open(b.path)
	if err != nil {
		return false, nil
	}
	defer d.Close()
	names, err := d.names()
	if err != nil {
		return false, err
	}
	if !slices.Equal(names, b.names()) {
		return false, nil
	}
	same, err := is(d.File, unix.S_IFDIR, uint32(os.Geteuid()), w.gid, w.mode)
	for i := range b.leaf {
		if !same || err != nil {
			return false, err
		}
		same, err = b.leaf[i].isIn(d)
	}
	return same, err
}

func (l *leaf) isIn(d dir) (bool, error) {
	// Not to be opened if it is a FIFO or a device.
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.Fd()), l.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, nil
	}
	f, err := openAt(d.File, l.name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0, within)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	if same, err := is(f, unix.S_IFREG, l.uid, l.gid, l.mode); !same || err != nil {
		return false, err
	}
	content, err := io.ReadAll(io.LimitReader(f, int64(len(l.content))+1))
	return bytes.Equal(content, l.content), err
}

// is reports whether f has a type, owners and a mode.
func is(f *os.File, format, uid, gid, mode uint32) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return st.Mode == format|mode && st.Uid == uid && st.Gid == gid, nil
}

// replace makes a new version and puts it in place. When it fails, nothing of it
// is left.
func (w *writer) replace() (err error) {
	version := time.Now().UTC().Format(versionName)
	if err := w.root.mkdir(version, 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeAll(context.Background(), w.root, version))
		}
	}()
	if err := w.fill(version); err != nil {
		return err
	}
	// New links come before the new version and lead nowhere until then, so
	// that all new files appear at once.
	added, err := w.link()
	if err == nil {
		err = w.place(version, dataLink, newDataLink)
	}
	if err != nil {
		for _, name := range added {
			err = errors.Join(err, w.root.unlink(name))
		}
	}
	return err
}

// place makes a symbolic link in place of whatever has its name but a directory.
func (w *writer) place(target, name, temporary string) error {
	if err := w.root.symlink(target, temporary); err != nil {
		return err
	}
	err := w.root.rename(temporary, name)
	if err != nil {
		err = errors.Join(err, w.root.unlink(temporary))
	}
	return err
}

func (w *writer) fill(version string) error {
	d, err := w.root.open(version)
	if err != nil {
		return err
	}
	defer d.Close()
	for _, b := range w.tree {
		if err := w.fillBranch(d, b); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) fillBranch(version dir, b *branch) error {
	d, err := version.open(b.path)
	if err != nil {
		return err
	}
	defer d.Close()
	for _, name := range b.dirs {
		if err := d.mkdir(name, 0o700); err != nil {
			return err
		}
	}
	for i := range b.leaf {
		if err := b.leaf[i].writeIn(d); err != nil {
			return err
		}
	}
	return d.own(uint32(os.Geteuid()), w.gid, w.mode)
}

func (l *leaf) writeIn(d dir) error {
	return d.change("write", l.name, func(int) error {
		f, err := openAt(d.File, l.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600, within)
		if err != nil {
			return err
		}
		_, err = f.Write(l.content)
		if err == nil {
			err = own(f, l.uid, l.gid, l.mode)
		}
		return errors.Join(err, f.Close())
	})
}

// link makes the links that members know the files by, and returns those whose
// names were free.
func (w *writer) link() (added []string, err error) {
	for _, name := range w.tree[0].names() {
		target := path.Join(dataLink, name)
		has, err := w.root.readlink(name)
		if err != nil {
			return added, err
		}
		if has == target {
			continue
		}
		err = w.root.symlink(target, name)
		switch {
		case err == nil:
			added = append(added, name)
		case errors.Is(err, fs.ErrExist):
			err = w.place(target, name, newLink)
		}
		if err != nil {
			return added, err
		}
	}
	return added, nil
}

// unlink removes the links of files that are no more.
func (w *writer) unlink() error {
	names, err := w.root.names()
	if err != nil {
		return err
	}
	stay := w.tree[0].names()
	for _, name := range names {
		if strings.HasPrefix(name, "..") || slices.Contains(stay, name) {
			continue
		}
		has, err := w.root.readlink(name)
		if err == nil && has == path.Join(dataLink, name) {
			err = w.root.unlink(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
