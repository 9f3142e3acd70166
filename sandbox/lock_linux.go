package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/proc"
)

// notFound replaces the error for a file that is not there.
func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	return err
}

// lock keeps all others from changing the pod, and from entering it.
func (s *Sandbox) lock(ctx context.Context) (*flock.Lock, error) {
	dir := s.rt.podDir(s.id)
	// Who enters passes the turnstile; it is held so that they do not keep us
	// out by entering all the time. A pod that was never finished has none.
	turn, err := flock.Wait(ctx, filepath.Join(dir, turnstile), flock.Exclusive)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	defer turn.Close()
	return flock.Wait(ctx, dir, flock.Exclusive)
}

// Still calls f while nobody is on the way into the pod: who is put into it was born in
// its cgroup by then, and has executed its program or is about to. What f then does to that does
// not leave somebody waiting who has begun to start a program. Who is on the way for more than some seconds
// is not waited for, and if f takes longer than that, others enter meanwhile.
func (s *Sandbox) Still(ctx context.Context, f func() error) error {
	wctx, cancel := context.WithTimeout(ctx, stillTime)
	lock, err := s.lock(wctx)
	cancel()
	switch {
	case err == nil:
		release := sync.OnceFunc(func() { lock.Close() })
		defer release()
		defer time.AfterFunc(stillTime, release).Stop()
	case ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
		return notFound(err)
	}
	return f()
}

// stillTime bounds the wait for those who are entering the pod, where that is only a
// courtesy, and for how long they are kept waiting.
const stillTime = 2 * time.Second

// lockTime bounds the wait for those who are entering the pod: they need
// milliseconds.
const lockTime = 3 * time.Second

// seize locks the pod even if somebody who was entering it hangs, or was stopped
// on the way in by a program in the pod: whatever is in the pod and holds the lock,
// or bears the mark of an Entry, is killed.
func (s *Sandbox) seize(ctx context.Context) (*flock.Lock, error) {
	dir := s.rt.podDir(s.id)
	for range 4 {
		wctx, cancel := context.WithTimeout(ctx, lockTime)
		lock, err := s.lock(wctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return lock, err
		}
		ms, _ := s.members() // of a bad record none are known
		for _, m := range ms {
			if holdsOpen(m.pid, dir) || holdsOpen(m.pid, filepath.Join(dir, turnstile)) {
				_ = proc.Signal(m.pidfd, unix.SIGKILL)
			}
		}
		ms.close()
	}
	// Somebody who is not in the pod. Who that is, and why it hangs, is for a
	// person to see.
	pids, err := proc.PIDs()
	if err != nil {
		return nil, err
	}
	pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == os.Getpid() || !holdsOpen(pid, dir) })
	return nil, fmt.Errorf("%w: it is locked by processes %v", ErrBusy, pids)
}

// holdsOpen reports whether a process has path open.
func holdsOpen(pid int, path string) bool {
	want, err := os.Stat(path)
	if err != nil {
		return false
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, _ := os.ReadDir(dir)
	for _, fd := range fds {
		if has, err := os.Stat(filepath.Join(dir, fd.Name())); err == nil && os.SameFile(has, want) {
			return true
		}
	}
	return false
}

// locked calls f with the pod's record, while nobody else changes the pod.
func (s *Sandbox) locked(ctx context.Context, verb string, f func(*record, *flock.Lock) error) error {
	dir := s.rt.podDir(s.id)
	lock, err := s.seize(ctx)
	if err != nil {
		return s.wrap(verb, notFound(err))
	}
	defer lock.Close()
	rec, err := readRecord(dir)
	if err != nil {
		return s.wrap(verb, notFound(err))
	}
	return s.wrap(verb, f(rec, lock))
}
