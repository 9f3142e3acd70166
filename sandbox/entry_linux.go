package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/mnt"
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
	// Shm is a detached mount of the pod's /dev/shm, nil if ipc is not shared.
	// Its filesystem is the same for all members.
	Shm *os.File
	// Proc is a detached mount of the proc(5) of the pod's PID namespace, nil if
	// pid is not shared.
	Proc *os.File
	// Files are the pod's own versions of files in /etc, by the path that they
	// have for a member.
	Files map[string]string

	lock       *flock.Lock
	namespaces map[Namespace]nsfs.ID
}

// Close ends the Entry. It may be called again.
func (e *Entry) Close() error {
	for _, f := range []**os.File{&e.Pause, &e.Shm, &e.Proc} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
	return e.lock.Close()
}

// Holds reports, as an error, in which of the namespaces that the pod shares a
// process is not.
func (e *Entry) Holds(pid int) error {
	for _, n := range allNamespaces {
		want, shared := e.namespaces[n]
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
// not live. Its errors do not name the pod: callers say what for they enter it.
func (s *Sandbox) Enter(ctx context.Context) (*Entry, error) {
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
	if err := e.open(ctx, dir); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

func (e *Entry) open(ctx context.Context, dir string) error {
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
	e.namespaces = rec.Namespaces
	for _, n := range rec.Spec.Share {
		e.Flags |= n.flag()
	}
	for _, name := range rec.Spec.files() {
		e.Files[memberFiles[name]] = filepath.Join(dir, name)
	}
	if !rec.Spec.shares(IPC) && !rec.Spec.shares(PID) {
		return nil
	}
	return nsthread.Do(func() error {
		if err := enterPause(e.Pause); err != nil {
			return err
		}
		if rec.Spec.shares(IPC) {
			if e.Shm, err = lendShm(ctx, rec, dir); err != nil {
				return fmt.Errorf("/dev/shm: %w", err)
			}
		}
		if rec.Spec.shares(PID) {
			if e.Proc, err = mnt.Clone(pauseProc, false); err != nil {
				return err
			}
		}
		return nil
	})
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

// enterPause moves the calling thread into a pause's mount namespace.
func enterPause(pidfd *os.File) error {
	if err := nsthread.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return nsthread.Join(pidfd, unix.CLONE_NEWNS)
}

// lendShm returns a clone of the pod's /dev/shm. The first that needs it makes
// it. The calling thread is in the pause's mount namespace.
func lendShm(ctx context.Context, rec *record, dir string) (*os.File, error) {
	there, err := mnt.IsRoot(pauseShm)
	if err != nil {
		return nil, err
	}
	if !there {
		if err := makeShm(ctx, rec, dir); err != nil {
			return nil, err
		}
	}
	return mnt.Clone(pauseShm, false)
}

// shmSource is what mount tables show as the source of a pod's /dev/shm. By it
// the filesystem is found again when the pause has died.
func shmSource(rec *record) string { return "podbox-" + rec.ID }

func makeShm(ctx context.Context, rec *record, dir string) error {
	// dir is a path of the host, of which this thread sees nothing: another
	// one takes the lock.
	var lock *flock.Lock
	err := nsthread.Do(func() (err error) {
		path := filepath.Join(dir, shmLock)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		lock, err = flock.Wait(ctx, path, flock.Exclusive)
		return err
	})
	if err != nil {
		return err
	}
	defer lock.Close()
	if there, err := mnt.IsRoot(pauseShm); err != nil || there {
		return err
	}
	shm, err := ipcns.NewShm(shmSource(rec), rec.Spec.ShmSize)
	if err != nil {
		return err
	}
	defer shm.Close()
	return mnt.Attach(shm, pauseShm)
}

// Files in a pod's directory that are locked: while its /dev/shm is made, and for
// the moment of entering it.
const (
	shmLock   = "shm.lock"
	turnstile = "turnstile"
)

// attachShm gives a pause a /dev/shm.
func attachShm(pause, shm *os.File) error {
	return nsthread.Do(func() error {
		if err := enterPause(pause); err != nil {
			return err
		}
		return mnt.Attach(shm, pauseShm)
	})
}

// survivingShm returns a clone of the pod's /dev/shm as a member still has it
// mounted; nil if none has.
func survivingShm(rec *record, survivors members) (*os.File, error) {
	if !rec.Spec.shares(IPC) {
		return nil, nil
	}
	for _, m := range survivors {
		point, err := mountPoint(m.pid, shmSource(rec))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var shm *os.File
		err = nsthread.Do(func() (err error) {
			if err := enterPause(m.pidfd); err != nil {
				return err
			}
			shm, err = mnt.Clone(point, false)
			return err
		})
		if err == nil {
			return shm, nil
		}
		if !proc.Exited(m.pidfd) {
			return nil, fmt.Errorf("/dev/shm of process %d: %w", m.pid, err)
		}
	}
	return nil, nil
}

// mountPoint returns where a process has the tmpfs of the given source mounted;
// see proc_pid_mountinfo(5).
func mountPoint(pid int, source string) (string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return "", err
	}
	defer f.Close()
	found, err := mountinfo.GetMountsFromReader(f, func(i *mountinfo.Info) (skip, stop bool) {
		is := i.FSType == "tmpfs" && i.Source == source && i.Root == "/"
		return !is, is
	})
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", fs.ErrNotExist
	}
	return found[0].Mountpoint, nil
}
