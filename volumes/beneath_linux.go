package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsthread"
)

// OpenBeneath returns an O_PATH handle of what is at a path in a volume, such as
// the subPath of a mount in Kubernetes. Symbolic links are followed as long as
// they do not lead out of the volume, be it for a moment; an absolute one does.
// The handle is beneath root even if others rename and replace what is there at
// the same time; should they do so without pause, the error is EAGAIN.
//
// If create is set, what is missing is made as directories: with the permissions
// of root, owned by the calling process, or by the group of the directory they are
// made in if that has its set-group-ID bit. "" and "." are the root. Errors:
// ErrInvalid for an absolute path and for "..", ErrEscapes, fs.ErrNotExist.
func OpenBeneath(root *os.File, unsafePath string, create bool) (*os.File, error) {
	if path.IsAbs(unsafePath) || strings.Contains(unsafePath, "\x00") || slices.Contains(strings.Split(unsafePath, "/"), "..") {
		return nil, invalid("sub-path", unsafePath, `want a relative path without ".."`)
	}
	unsafePath = path.Clean(unsafePath)
	f, err := openBeneath(root, unsafePath, unix.O_PATH)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err = mkdirBeneath(root, unsafePath); err == nil {
			f, err = openBeneath(root, unsafePath, unix.O_PATH)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("sub-path: %w", err)
	}
	return f, nil
}

func openBeneath(root *os.File, unsafePath string, flags uint64) (*os.File, error) {
	f, err := openAt(root, unsafePath, flags, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS)
	if errors.Is(err, unix.EXDEV) {
		return nil, fmt.Errorf("%w: %w", err, ErrEscapes)
	}
	return f, err
}

// mkdirBeneath makes the directories of a path, each in one that was found beneath
// root. A link that leads nowhere is not replaced.
func mkdirBeneath(root *os.File, unsafePath string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: root.Name(), Err: err}
	}
	// On a thread of its own, without a umask: a directory that got its mode
	// afterwards would keep the wrong one if we were killed before, and the
	// set-group-ID bit comes from the parent or not at all.
	return nsthread.Do(func() error {
		if err := nsthread.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		unix.Umask(0)
		parent := "."
		for name := range strings.SplitSeq(unsafePath, "/") {
			if err := mkdirIn(root, parent, name, st.Mode&0o1777); err != nil {
				return err
			}
			parent = path.Join(parent, name)
		}
		return nil
	})
}

func mkdirIn(root *os.File, unsafeParent, name string, mode uint32) error {
	d, err := openBeneath(root, unsafeParent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Mkdirat(int(d.Fd()), name, mode); err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "mkdirat", Path: d.Name() + "/" + name, Err: err}
	}
	return nil
}
