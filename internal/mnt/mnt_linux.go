// Package mnt makes and places mounts by descriptor, with the mount API of
// Linux 5.2 and mount_setattr(2) of Linux 5.12. A mount that is not attached
// yet is visible to nobody and ends with its descriptor: a crash leaves nothing.
package mnt

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/fault"
)

// An Option is a parameter of a filesystem; an option without a value is a flag.
type Option struct{ Key, Value string }

// New returns a detached mount of a new filesystem; attr are MOUNT_ATTR_ flags.
// Which namespaces the filesystem belongs to (mqueue, sysfs, proc) is decided by
// the calling thread.
func New(fstype string, attr int, options ...Option) (*os.File, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "fsopen", Path: fstype, Err: err}
	}
	defer unix.Close(fs)
	for _, o := range options {
		if o.Value == "" {
			err = unix.FsconfigSetFlag(fs, o.Key)
		} else {
			err = unix.FsconfigSetString(fs, o.Key, o.Value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: option %s=%s: %w", fstype, o.Key, o.Value, os.NewSyscallError("fsconfig", err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, &os.PathError{Op: "fsconfig create", Path: fstype, Err: err}
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return nil, &os.PathError{Op: "fsmount", Path: fstype, Err: err}
	}
	return os.NewFile(uintptr(fd), fstype), nil
}

// Clone returns a detached copy of the mount tree at path, with all below it if
// recursive. The calling thread must be in the mount namespace of path.
func Clone(path string, recursive bool) (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Attach places a detached mount on path, in the mount namespace of the calling
// thread.
func Attach(m *os.File, path string) error {
	err := unix.MoveMount(int(m.Fd()), "", unix.AT_FDCWD, path,
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS)
	if err != nil {
		return &os.PathError{Op: "move_mount", Path: path, Err: err}
	}
	return nil
}

// IsRoot reports whether path is the root of a mount.
func IsRoot(path string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_NO_AUTOMOUNT, 0, &st); err != nil {
		return false, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// CloneFile is Clone of what f has open, which must be attached to the mount
// namespace of the calling thread.
func CloneFile(f *os.File, recursive bool) (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(int(f.Fd()), "", flags)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Cover places a detached mount on what target has open. No path is walked, so
// nobody can make it lead elsewhere.
func Cover(m, target *os.File) error {
	err := unix.MoveMount(int(m.Fd()), "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return &os.PathError{Op: "move_mount", Path: target.Name(), Err: err}
	}
	return nil
}

// SetReadOnly makes a detached mount read-only.
func SetReadOnly(m *os.File) error {
	return Set(m, false, Attrs{Set: unix.MOUNT_ATTR_RDONLY}, 0)
}

// Attrs are changes to the MOUNT_ATTR_ flags of a mount.
type Attrs struct{ Set, Clear uint64 }

// Add adds a change, which wins over earlier ones.
func (a *Attrs) Add(set, clear uint64) {
	a.Set = a.Set&^clear | set
	a.Clear = a.Clear&^set | clear
	if set&unix.MOUNT_ATTR__ATIME != 0 || clear&unix.MOUNT_ATTR__ATIME != 0 {
		a.Clear |= unix.MOUNT_ATTR__ATIME // one value of several bits: mount_setattr(2)
	}
}

// Set changes the attributes of a mount, and its propagation (MS_PRIVATE …) unless
// that is 0; with all that is mounted below if recursive.
func Set(m *os.File, recursive bool, a Attrs, propagation uint64) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return setattr(int(m.Fd()), "", flags, &unix.MountAttr{Attr_set: a.Set, Attr_clr: a.Clear, Propagation: propagation})
}

// MapIDs has a detached mount show the owners of files as the user namespace has
// them: an ID-mapped mount, of Linux 5.12, and not of all filesystems: of a tmpfs since Linux 6.3. The error of one
// that does not know it matches fault.ErrNotSupported.
func MapIDs(m, userns *os.File, recursive bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	err := setattr(int(m.Fd()), "", flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())})
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("map IDs: %w by the filesystem of %s: %w", fault.ErrNotSupported, m.Name(), err)
	}
	return err
}

// Propagate sets the propagation (MS_PRIVATE, MS_SLAVE …) of the whole tree of
// the calling thread's mount namespace; see mount_namespaces(7).
func Propagate(how uint64) error {
	return setattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Propagation: how})
}

func setattr(dir int, path string, flags uint, attr *unix.MountAttr) error {
	if err := unix.MountSetattr(dir, path, flags, attr); err != nil {
		return &os.PathError{Op: "mount_setattr", Path: path, Err: err}
	}
	return nil
}
