package netns

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsfs"
	"github.com/podbox/podbox/internal/nsthread"
)

// A NS is a handle on a network namespace, which lives at least as long as the
// handle is open.
type NS struct{ f *os.File }

// Open returns a handle on the namespace at path: a file of /proc/PID/ns or a
// bind mount of one, as ip-netns(8) makes them.
func Open(path string) (*NS, error) {
	// O_NONBLOCK, lest a FIFO of a stranger blocks us.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	if t, err := nsfs.Type(f); err != nil || t != unix.CLONE_NEWNET {
		f.Close()
		return nil, fmt.Errorf("open network namespace: %s: %w: not a network namespace", path, ErrInvalid)
	}
	return &NS{f}, nil
}

// Of returns a handle on the namespace of a process. The caller makes sure that
// pid is the process that it means, before and after.
func Of(pid int) (*NS, error) { return Open(nsfs.Path(pid, "net")) }

// Create makes a namespace that nothing but the handle holds. Its loopback link
// is up.
func Create() (*NS, error) {
	var ns *NS
	err := nsthread.Do(func() (err error) {
		if err := nsthread.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if err := loopbackUp(); err != nil {
			return err
		}
		ns, err = Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create network namespace: %w", err)
	}
	return ns, nil
}

// Do runs f on a thread that is in the namespace. Sockets that f opens stay in
// the namespace and may be used from anywhere afterwards. f must not start
// goroutines that rely on the namespace.
func (ns *NS) Do(f func() error) error {
	return nsthread.Do(func() error {
		if err := nsthread.Join(ns.f, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// SetUpLoopback sets the namespace's loopback link up, which gives it 127.0.0.1
// and ::1.
func (ns *NS) SetUpLoopback() error { return ns.Do(loopbackUp) }

// File returns the open namespace file. It is lent: NS closes it.
func (ns *NS) File() *os.File { return ns.f }

// Close closes the handle. It may be called again.
func (ns *NS) Close() error {
	if ns == nil || ns.f == nil {
		return nil
	}
	f := ns.f
	ns.f = nil
	return f.Close()
}
