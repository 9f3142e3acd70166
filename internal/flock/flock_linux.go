// Package flock locks a file or a directory against other processes and other
// goroutines, by flock(2) on a description of its own. The kernel releases the
// lock when its holder dies.
package flock

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Exclusive and Shared are the kinds of lock.
const (
	Exclusive = unix.LOCK_EX
	Shared    = unix.LOCK_SH
)

// A Lock is held until it is closed.
type Lock struct{ f *os.File }

// Try locks path, or returns unix.EWOULDBLOCK at once if another holder is there.
func Try(path string, how int) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	// The holder before us may have removed what we opened.
	var ours, theirs unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &ours); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	if err := unix.Lstat(path, &theirs); err != nil || ours.Ino != theirs.Ino || ours.Dev != theirs.Dev {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: path, Err: os.ErrNotExist}
	}
	return &Lock{f}, nil
}

// Wait locks path as soon as it can, or returns the context's error.
func Wait(ctx context.Context, path string, how int) (*Lock, error) {
	pause := 200 * time.Microsecond
	for {
		l, err := Try(path, how)
		if err == nil || !isBusy(err) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, &os.PathError{Op: "lock", Path: path, Err: ctx.Err()}
		case <-time.After(pause):
		}
		pause = min(2*pause, 20*time.Millisecond)
	}
}

func isBusy(err error) bool {
	pe, ok := err.(*os.PathError)
	return ok && pe.Err == unix.EWOULDBLOCK
}

// Share makes an exclusive lock a shared one. There is a moment between the two in which
// another holder may come: its error is unix.EWOULDBLOCK then, and the lock is gone.
func (l *Lock) Share() error {
	for {
		err := unix.Flock(int(l.f.Fd()), Shared|unix.LOCK_NB)
		if err != unix.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}

// Close releases the lock. It may be called again.
func (l *Lock) Close() error {
	if l == nil || l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	// A child on its way to exec may have a copy of the descriptor.
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	return f.Close()
}
