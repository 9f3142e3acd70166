package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/ipcns"
)

// Filesystems that belong to a pod are mounted in its pause's mount namespace, when
// they are first needed, and lent to members as detached mounts. So /dev/shm is
// the same for all; and a sysfs or mqueue need not be set up anew, and torn down,
// for each program: that took a fifth of the time of podbox exec.

// A loan is one such filesystem.
type loan struct {
	at   string    // where the pause has it
	kind Namespace // it is there if this kind is shared
	make func(*record) (*os.File, error)
	// place makes what it is mounted on, if that is not there always.
	place func(at string) error
	to    func(*Entry) **os.File
}

// Where a pause has what it lends; a directory of its root each. What is at
// pauseProc it mounts itself, for want of privileges later.
const (
	pauseShm    = "/shm"
	pauseMqueue = "/mqueue"
	pauseSys    = "/sys"
	pauseProc   = "/proc"

	pauseVolumes = "/volumes" // a tmpfs with a directory for each volume in memory
)

// What else there is at the root of a pause's mount namespace, for whoever builds
// that of a container from a copy of it: an empty directory to mount on, another
// that stays empty, and a null device, which a mount of it must be told to let
// work (MOUNT_ATTR_NODEV).
const (
	PauseRoot  = "/root"
	PauseEmpty = "/empty"
	PauseNull  = "/null"
)

func loans() []loan {
	return []loan{
		{at: pauseShm, kind: IPC, make: newShm, to: func(e *Entry) **os.File { return &e.Shm }},
		{at: pauseMqueue, kind: IPC, make: newMqueue, to: func(e *Entry) **os.File { return &e.Mqueue }},
		{at: pauseSys, kind: Net, make: newSys, to: func(e *Entry) **os.File { return &e.Sys }},
		{at: pauseProc, kind: PID, to: func(e *Entry) **os.File { return &e.Proc }},
	}
}

func newShm(rec *record) (*os.File, error) {
	return ipcns.NewShm(shmSource(rec), rec.Spec.ShmSize)
}

// shmSource is what mount tables show as the source of a pod's /dev/shm. By it
// the filesystem is found again when the pause has died.
func shmSource(rec *record) string { return "podbox-" + rec.ID }

func newMqueue(*record) (*os.File, error) { return ipcns.NewMqueue() }

func newSys(*record) (*os.File, error) {
	return mnt.New("sysfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC,
		mnt.Option{Key: "source", Value: "sysfs"})
}

// Borrow takes clones of all that the pod lends, from a thread in the pause's
// namespaces: a mount can be cloned in its own mount namespace only, and a sysfs
// or mqueue is of the namespaces of the thread that makes it.
func (e *Entry) Borrow(ctx context.Context) error {
	rec, dir := e.rec, e.dir
	return nsthread.Do(func() error {
		if err := nsthread.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		flags := e.Flags & (unix.CLONE_NEWNET | unix.CLONE_NEWIPC)
		if err := nsthread.Join(e.Pause, unix.CLONE_NEWNS|flags); err != nil {
			return err
		}
		for _, l := range loans() {
			if !rec.Spec.shares(l.kind) {
				continue
			}
			f, err := l.clone(ctx, rec, dir)
			if err != nil {
				return fmt.Errorf("lend %s: %w", l.at, err)
			}
			*l.to(e) = f
		}
		return nil
	})
}

// clone returns a clone of what is lent. The first that needs it makes it.
func (l *loan) clone(ctx context.Context, rec *record, dir string) (*os.File, error) {
	if err := l.ensure(ctx, rec, dir); err != nil {
		return nil, err
	}
	return mnt.Clone(l.at, false)
}

// ensure makes what is lent if it is not there.
func (l *loan) ensure(ctx context.Context, rec *record, dir string) error {
	there, err := mnt.IsRoot(l.at)
	if l.place != nil && errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil || there {
		return err
	}
	return l.mount(ctx, rec, dir)
}

func (l *loan) mount(ctx context.Context, rec *record, dir string) error {
	// dir is a path of the host, of which this thread sees nothing: another
	// one takes the lock.
	var lock *flock.Lock
	err := nsthread.Do(func() (err error) {
		path := filepath.Join(dir, mountLock)
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
	if l.place != nil {
		if err := l.place(l.at); err != nil {
			return err
		}
	}
	if there, err := mnt.IsRoot(l.at); err != nil || there {
		return err
	}
	if l.make == nil {
		return l.await(ctx)
	}
	m, err := l.make(rec)
	if err != nil {
		return err
	}
	defer m.Close()
	return mnt.Attach(m, l.at)
}

// await waits for what the pause mounts itself, as the first thing that it does.
func (l *loan) await(ctx context.Context) error {
	for range 5000 {
		if there, err := mnt.IsRoot(l.at); err != nil || there {
			return err
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("the pause has not mounted it: %w", unix.ENODEV)
}

// Files in a pod's directory that are locked: while something that it lends is
// made, and for the moment of entering it.
const (
	mountLock = "mount.lock"
	turnstile = "turnstile"
)

// enterMounts moves the calling thread into the mount namespace of a process.
func enterMounts(pidfd *os.File) error {
	if err := nsthread.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return nsthread.Join(pidfd, unix.CLONE_NEWNS)
}

// memory is what the pod has in memory and a pause that died has held: mounts, by
// where a pause has them.
type memory map[string]*os.File

func (m memory) close() {
	for _, f := range m {
		f.Close()
	}
}

// attach gives it to a new pause.
func (m memory) attach(pause *os.File) error {
	if len(m) == 0 {
		return nil
	}
	return nsthread.Do(func() error {
		if err := enterMounts(pause); err != nil {
			return err
		}
		for at, f := range m {
			if err := attachAgain(f, at); err != nil {
				return err
			}
		}
		return nil
	})
}

func attachAgain(m *os.File, at string) error {
	if filepath.Dir(at) == pauseVolumes {
		if err := makePlace(at); err != nil {
			return err
		}
	}
	return mnt.Attach(m, at)
}

// survivingMemory returns clones of what members still have mounted of it.
func survivingMemory(rec *record, survivors members) (memory, error) {
	sources := make(map[string]string)
	if rec.Spec.shares(IPC) {
		sources[pauseShm] = shmSource(rec)
	}
	for _, v := range rec.Spec.Volumes {
		if v.InMemory() {
			sources[volumePoint(v.Name)] = volumeSource(rec, v.Name)
		}
	}
	m := make(memory)
	for at, source := range sources {
		f, err := surviving(source, survivors)
		if err != nil {
			m.close()
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		if f != nil {
			m[at] = f
		}
	}
	return m, nil
}

// surviving returns a clone of the filesystem of the given source as a member still
// has it mounted; nil if none has.
func surviving(source string, survivors members) (*os.File, error) {
	for _, m := range survivors {
		point, err := mountPoint(m.pid, source)
		// Of one that is about to end, and has no mounts any more, EINVAL.
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) || err != nil && proc.Exited(m.pidfd) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var f *os.File
		err = nsthread.Do(func() (err error) {
			if err := enterMounts(m.pidfd); err != nil {
				return err
			}
			f, err = mnt.Clone(point, false)
			return err
		})
		if err == nil {
			return f, nil
		}
		if !proc.Exited(m.pidfd) {
			return nil, fmt.Errorf("process %d: %w", m.pid, err)
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
