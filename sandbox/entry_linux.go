package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/nsfs"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/ipcns"
)

// An Entry is what it takes to put a process into a pod. While it is open, the
// pod is not stopped or removed.
type Entry struct {
	// Pause is a pidfd of the pod's pause: setns(2) to it with Flags joins the
	// pod's namespaces.
	Pause *os.File
	// Flags are the CLONE_NEW… constants of the namespaces that members share.
	Flags int
	// Shm, Mqueue, Sys and Proc are detached mounts of the pod's /dev/shm (the
	// same filesystem for all members), of the message queues of its IPC
	// namespace, of the sysfs(5) of its network namespace and of the proc(5) of
	// its PID namespace. They are nil if ipc, net or pid is not shared.
	Shm, Mqueue, Sys, Proc *os.File
	// Files are the pod's own versions of files in /etc, by the path that they
	// have for a member.
	Files map[string]string

	lock *flock.Lock
	rec  *record
	dir  string // of the pod
}

// Close ends the Entry. It may be called again.
func (e *Entry) Close() error {
	for _, f := range []**os.File{&e.Pause, &e.Shm, &e.Mqueue, &e.Sys, &e.Proc} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
	return e.lock.Close()
}

// OpenMark opens a file, without access to what is in it, that tells Stop and Remove
// of a child on its way into the pod: if the pod stays locked, it is killed.
func (e *Entry) OpenMark() (*os.File, error) {
	return os.OpenFile(filepath.Join(e.dir, turnstile), unix.O_PATH|unix.O_NOFOLLOW, 0)
}

// Holds reports, as an error, in which of the namespaces that the pod shares a
// process is not.
func (e *Entry) Holds(pid int) error {
	for _, n := range allNamespaces {
		want, shared := e.rec.Namespaces[n]
		if !shared {
			continue
		}
		if got, err := nsfs.OfProcess(pid, string(n)); err != nil {
			return err
		} else if got != want {
			return fmt.Errorf("%s namespace %d, want %d", n, got.Inode, want.Inode)
		}
	}
	return nil
}

// Enter opens the pod for a process to be put in. ErrNotRunning if its pause does
// not live, ErrPaused if its programs are frozen. Its errors do not name the pod: callers say what for they enter it.
func (s *Sandbox) Enter(ctx context.Context) (*Entry, error) {
	e, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.Borrow(ctx); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// Hold is Enter, but without the mounts: they are nil until Borrow is called.
func (s *Sandbox) Hold(ctx context.Context) (*Entry, error) {
	dir := s.rt.podDir(s.id)
	turn, err := flock.Wait(ctx, filepath.Join(dir, turnstile), flock.Shared)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	lock, err := flock.Wait(ctx, dir, flock.Shared)
	turn.Close()
	if err != nil {
		return nil, notFound(err)
	}
	e := &Entry{lock: lock, Files: make(map[string]string)}
	if err := s.open(e, dir); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

func (s *Sandbox) open(e *Entry, dir string) error {
	rec, err := readRecord(dir)
	if err != nil {
		return notFound(err)
	}
	if rec.State != Running {
		return fmt.Errorf("%w: its state is %s", ErrNotRunning, rec.State)
	}
	e.Pause, err = openPause(rec)
	if errors.Is(err, proc.ErrGone) {
		return fmt.Errorf("%w: its pause is gone", ErrNotRunning)
	}
	if err != nil {
		return err
	}
	if s.rt.frozen(s.id) {
		return ErrPaused
	}
	e.rec, e.dir = rec, dir
	for _, n := range rec.Spec.Share {
		e.Flags |= n.flag()
	}
	for _, name := range rec.Spec.files() {
		e.Files[memberFiles[name]] = filepath.Join(dir, name)
	}
	return nil
}

// IPC returns the IPC objects that the pod holds.
func (s *Sandbox) IPC(ctx context.Context) (*ipcns.Objects, error) {
	e, err := s.Enter(ctx)
	if err != nil {
		return nil, s.wrap("IPC objects of", err)
	}
	defer e.Close()
	if e.Flags&unix.CLONE_NEWIPC == 0 {
		return nil, s.wrap("IPC objects of", errors.New("it has no IPC namespace of its own"))
	}
	var objects *ipcns.Objects
	err = nsthread.Do(func() (err error) {
		if err := nsthread.Join(e.Pause, unix.CLONE_NEWIPC); err != nil {
			return err
		}
		objects, err = ipcns.List(e.Shm)
		return err
	})
	return objects, s.wrap("IPC objects of", err)
}
