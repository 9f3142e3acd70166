package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Open returns an O_PATH handle of what is at the host path. Where Type says so
// it is made first if nothing is there. What was checked is what is returned,
// whatever the path comes to mean meanwhile. Errors: ErrWrongType if it is of
// another type, fs.ErrNotExist if there is nothing.
func (h HostPath) Open() (*os.File, error) {
	if err := h.validate(); err != nil {
		return nil, err
	}
	f, err := h.open()
	if errors.Is(err, fs.ErrNotExist) && (h.Type == PathDirectoryOrCreate || h.Type == PathFileOrCreate) {
		if err = h.create(); err == nil {
			f, err = h.open()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("host path: %w", err)
	}
	if err := h.check(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// open asks for a directory first: a handle of anything else does not make the
// kernel mount what is mounted on demand.
func (h HostPath) open() (*os.File, error) {
	f, err := os.OpenFile(h.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return os.OpenFile(path.Clean(h.Path), unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	return f, err
}

func (h HostPath) create() error {
	if h.Type == PathDirectoryOrCreate {
		return os.MkdirAll(h.Path, 0o755)
	}
	// Exclusively: to open what somebody puts there now, a FIFO for one, could
	// take for ever.
	f, err := os.OpenFile(path.Clean(h.Path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func (h HostPath) check(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: h.Path, Err: err}
	}
	found := st.Mode & unix.S_IFMT
	want := found
	switch h.Type {
	case PathDirectory, PathDirectoryOrCreate:
		want = unix.S_IFDIR
	case PathFile, PathFileOrCreate:
		want = unix.S_IFREG
	case PathSocket:
		want = unix.S_IFSOCK
	case PathCharDevice:
		want = unix.S_IFCHR
	case PathBlockDevice:
		want = unix.S_IFBLK
	}
	if found != want {
		return fmt.Errorf("host path %q: %w: want a %s, found a %s", h.Path, ErrWrongType, typeName(want), typeName(found))
	}
	return nil
}

func typeName(format uint32) string {
	switch format {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFREG:
		return "regular file"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	case unix.S_IFIFO:
		return "FIFO"
	}
	return "file of another type"
}
