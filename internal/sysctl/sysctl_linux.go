// Package sysctl sets kernel parameters by their names. Which namespaces a
// parameter belongs to is decided by the thread that sets it: a Dir that was opened
// where /proc was at hand serves in other namespaces too.
package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/fault"
)

// ErrInvalid is matched by errors about parameters that cannot be set and values
// that they cannot have.
var ErrInvalid = fault.ErrInvalid

// A Dir is an open /proc/sys.
type Dir struct{ f *os.File }

// Open opens /proc/sys.
func Open() (*Dir, error) {
	f, err := os.OpenFile("/proc/sys", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{f}, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return d.f.Close() }

// Set sets a parameter. As sysctl(8) has it, a slash in the name stands for a dot in
// the file's.
func (d *Dir) Set(name, value string) error {
	path := strings.NewReplacer(".", "/", "/", ".").Replace(name)
	fd, err := unix.Openat2(int(d.f.Fd()), path, &unix.OpenHow{
		Flags: unix.O_WRONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err == nil {
		f := os.NewFile(uintptr(fd), name)
		_, err = f.WriteString(value)
		err = errors.Join(err, f.Close())
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission) && os.Geteuid() == 0:
		return fmt.Errorf("sysctl %q: %w: not a namespace's own on this kernel", name, ErrInvalid)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("sysctl %s=%q: %w: %w", name, value, ErrInvalid, unix.EINVAL)
	case err != nil:
		return fmt.Errorf("sysctl %s=%q: %w", name, value, err)
	}
	return nil
}
