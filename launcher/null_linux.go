package launcher

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/sandbox"
)

// openNull opens a null device for the program: a container's own, whose mode is the
// container's to change, or one whose mode nobody can.
func (l *launch) openNull(entry *sandbox.Entry) (*os.File, error) {
	if l.root == nil {
		return os.OpenFile(os.DevNull, os.O_RDWR, 0)
	}
	if f, err := l.ownNull(); err == nil {
		return f, nil
	}
	var null *os.File
	err := nsthread.Do(func() error {
		if err := newMountThread(); err != nil {
			return err
		}
		if err := nsthread.Join(entry.Pause, unix.CLONE_NEWNS); err != nil {
			return err
		}
		m, err := newMask(false)
		if err != nil {
			return err
		}
		defer m.Close()
		null, err = l.reopen(m, os.O_RDWR)
		return err
	})
	return null, err
}

// ownNull opens a container's /dev/null if it is one: who has been in the container
// may have put another file there (CVE-2025-31133).
func (l *launch) ownNull() (*os.File, error) {
	f, err := openIn(l.root.root, os.DevNull, unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !isNull(f) {
		return nil, errors.New("not the null device")
	}
	return l.reopen(f, os.O_RDWR)
}

// reopen opens what f, which is open for its path only, refers to.
func (l *launch) reopen(f *os.File, flags int) (*os.File, error) {
	path := fmt.Sprintf("self/fd/%d", f.Fd())
	fd, err := unix.Openat(int(l.proc.host.Fd()), path, flags|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
