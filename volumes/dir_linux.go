package volumes

import (
	"errors"
	"fmt"
	"os"
	"sort"

	"golang.org/x/sys/unix"
)

// A dir is an open directory that strangers may change. Its methods take the name
// of one entry, never a path, except for open, and follow no symbolic link and
// cross no mount.
type dir struct {
	*os.File
	// hook is called before each change, with what is going to be done to
	// what. An error makes it fail. Tests use it to fail and to kill.
	hook func(op, name string) error
}

// openDir opens a directory that the caller vouches for.
func openDir(path string) (dir, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return dir{File: f}, err
}

// within are the rules by which what is in a dir is looked up.
const within = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// openAt opens path in at. It stands for openat(2) with a bound of its own on
// being told to try again: openat2(2) says so when something is renamed while it
// follows "..", and strangers can rename without end.
func openAt(at *os.File, path string, flags, mode, resolve uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Mode: mode, Resolve: resolve}
	var fd int
	var err error
	for range 100 {
		fd, err = unix.Openat2(int(at.Fd()), path, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			break
		}
	}
	name := at.Name()
	if path != "." {
		name += "/" + path
	}
	if err != nil {
		return nil, &os.PathError{Op: "openat2", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// open opens a directory in d, by its name or by a path.
func (d dir) open(path string) (dir, error) {
	f, err := openAt(d.File, path, unix.O_RDONLY|unix.O_DIRECTORY, 0, within)
	return dir{f, d.hook}, busy(err)
}

// handle returns an O_PATH handle of a directory in d.
func (d dir) handle(name string) (*os.File, error) {
	f, err := openAt(d.File, name, unix.O_PATH|unix.O_DIRECTORY, 0, within)
	return f, busy(err)
}

// busy says of an error what it means where mounts are not crossed.
func busy(err error) error {
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("%w: %w", err, ErrBusy)
	}
	return err
}

func (d dir) change(op, name string, f func(fd int) error) error {
	var err error
	if d.hook != nil {
		err = d.hook(op, name)
	}
	if err == nil {
		err = f(int(d.Fd()))
	}
	if err != nil {
		return busy(&os.PathError{Op: op, Path: d.Name() + "/" + name, Err: err})
	}
	return nil
}

func (d dir) mkdir(name string, mode uint32) error {
	return d.change("mkdirat", name, func(fd int) error { return unix.Mkdirat(fd, name, mode) })
}

func (d dir) symlink(target, name string) error {
	return d.change("symlinkat", name, func(fd int) error { return unix.Symlinkat(target, fd, name) })
}

// rename gives an entry of d another name in d, in place of what has it.
func (d dir) rename(from, to string) error {
	return d.change("renameat", to, func(fd int) error { return unix.Renameat(fd, from, fd, to) })
}

// move moves an entry of d to a name in another directory that nothing has.
func (d dir) move(name string, other dir, to string) error {
	return d.change("renameat2", name, func(fd int) error {
		return unix.Renameat2(fd, name, int(other.Fd()), to, unix.RENAME_NOREPLACE)
	})
}

func (d dir) unlink(name string) error {
	return d.change("unlinkat", name, func(fd int) error { return unix.Unlinkat(fd, name, 0) })
}

func (d dir) rmdir(name string) error {
	return d.change("rmdir", name, func(fd int) error { return unix.Unlinkat(fd, name, unix.AT_REMOVEDIR) })
}

// own gives d itself an owner and a mode. The owner comes first: chown(2) clears
// bits of the mode.
func (d dir) own(uid, gid, mode uint32) error {
	return d.change("own", ".", func(int) error { return own(d.File, uid, gid, mode) })
}

func own(f *os.File, uid, gid, mode uint32) error {
	if err := unix.Fchown(int(f.Fd()), int(uid), int(gid)); err != nil {
		return os.NewSyscallError("fchown", err)
	}
	return os.NewSyscallError("fchmod", unix.Fchmod(int(f.Fd()), mode))
}

// readlink returns the target of a symbolic link in d; nothing if there is no such
// link, whatever else is there.
func (d dir) readlink(name string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(d.Fd()), name, b)
	if err == unix.ENOENT || err == unix.EINVAL {
		return "", nil
	}
	if err != nil {
		return "", &os.PathError{Op: "readlinkat", Path: d.Name() + "/" + name, Err: err}
	}
	return string(b[:n]), nil
}

// names returns what is in d, sorted.
func (d dir) names() ([]string, error) {
	if _, err := d.Seek(0, 0); err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	sort.Strings(names)
	return names, err
}
