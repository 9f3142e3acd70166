package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/memfd"
	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/internal/nsfs"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/pause"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
)

// pauseTitle is how a pause's command line begins. It goes on with the pod's name,
// the kinds of namespace that are the pod's own, its ID and the runtime's root: by
// these a pause is found whose record is lost.
const pauseTitle = "pause: "

// A birthplace is what pauses of one Runtime are started from: the program, and
// a mount namespace with one mount, of which each pause gets a copy. Copying the
// host's instead would cost more the more the host has mounted.
type birthplace struct {
	mu      sync.Mutex
	program *os.File // a sealed memfd
	mounts  *os.File // a mount namespace
}

func (b *birthplace) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, f := range []**os.File{&b.program, &b.mounts} {
		if *f != nil {
			errs = append(errs, (*f).Close())
			*f = nil
		}
	}
	return errors.Join(errs...)
}

// prepare does what takes long.
func (b *birthplace) prepare() {
	_, _ = proc.BootID()
	_, _, _ = b.open() // an error comes again to whoever opens it
}

// open returns the two files, which stay the birthplace's.
func (b *birthplace) open() (program, mounts *os.File, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.program == nil {
		if b.program, err = memfd.New(pauseMemfd, pause.Binary()); err != nil {
			return nil, nil, fmt.Errorf("pause program: %w", err)
		}
	}
	if b.mounts == nil {
		if b.mounts, err = emptyMounts(); err != nil {
			return nil, nil, fmt.Errorf("mount namespace for the pause: %w", err)
		}
	}
	return b.program, b.mounts, nil
}

// pauseMemfd is what /proc shows as the program of a pause.
const pauseMemfd = "podbox-pause"

// emptyMounts returns a new mount namespace whose root is a read-only tmpfs with
// a few empty directories to mount on, and a null device.
func emptyMounts() (*os.File, error) {
	var ns *os.File
	err := nsthread.Do(func() error {
		root, err := mnt.New("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC,
			mnt.Option{Key: "source", Value: "pause"}, mnt.Option{Key: "mode", Value: "0555"},
			mnt.Option{Key: "size", Value: "4096"}, mnt.Option{Key: "nr_inodes", Value: "16"})
		if err != nil {
			return err
		}
		defer root.Close()
		for _, dir := range []string{pauseShm, pauseMqueue, pauseSys, pauseProc, pauseVolumes, PauseRoot, PauseEmpty} {
			if err := unix.Mkdirat(int(root.Fd()), dir[1:], 0o555); err != nil {
				return &os.PathError{Op: "mkdirat", Path: dir, Err: err}
			}
		}
		err = unix.Mknodat(int(root.Fd()), PauseNull[1:], unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
		if err != nil {
			return &os.PathError{Op: "mknodat", Path: PauseNull, Err: err}
		}
		// Whatever the caller's umask is: also users other than root shall open it again.
		if err := unix.Fchmodat(int(root.Fd()), PauseNull[1:], 0o666, 0); err != nil {
			return &os.PathError{Op: "fchmodat", Path: PauseNull, Err: err}
		}
		if err := mnt.SetReadOnly(root); err != nil {
			return err
		}
		if err := nsthread.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		ns, err = os.Open("/proc/thread-self/ns/mnt")
		if err != nil {
			return err
		}
		// Of a caller in a chroot(2) the root is not that of its mount namespace. To join
		// a mount namespace, even one's own, is to have its root: setns(2).
		if err = nsthread.Join(ns, unix.CLONE_NEWNS); err == nil {
			err = replaceRoot(root)
		}
		if err != nil {
			ns.Close()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return ns, nil
}

// replaceRoot makes a detached mount the root, and the only mount, of the calling
// thread's mount namespace.
func replaceRoot(root *os.File) error {
	if err := mnt.Propagate(unix.MS_PRIVATE); err != nil {
		return err
	}
	// A new root must be mounted somewhere; /proc is a place that exists.
	if err := mnt.Attach(root, "/proc"); err != nil {
		return err
	}
	if err := unix.Fchdir(int(root.Fd())); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	// The old root is stacked on the new one, and taken off; pivot_root(2),
	// "pivot_root(".", ".")".
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount2", err)
	}
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}

// A newborn is a pause that waits at its gate: unless commit is called, it ends,
// at the latest with the calling process.
type newborn struct {
	identity proc.Identity
	pidfd    *os.File
	gate     *os.File
}

// startPause starts a pause in new namespaces of the kinds in fresh, and in those
// that joined has open.
func (rt *Runtime) startPause(ctx context.Context, rec *record, fresh []Namespace, joined []*os.File) (*newborn, error) {
	program, mounts, err := rt.birth.open()
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	read, gate, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	b := &newborn{gate: gate}

	argv := []string{pauseTitle + rec.Spec.Name}
	if rec.Spec.shares(PID) {
		argv = append(argv, "-p")
	}
	argv = append(argv, join(rec.Spec.owned()), rec.ID, rt.root)
	flags := uint64(unix.CLONE_NEWNS | unix.CLONE_NEWPID)
	for _, n := range fresh {
		flags |= uint64(n.flag())
	}

	keepers, err := rt.Keepers(ctx)
	if err != nil {
		return nil, fmt.Errorf("cgroup of the pause: %w", err)
	}
	defer keepers.Close()
	err = nsthread.Do(func() error {
		var fds []int
		for _, f := range []*os.File{null, null, null, read} {
			high, err := spawn.DupHigh(int(f.Fd()))
			if err != nil {
				return err
			}
			defer high.Close()
			fds = append(fds, int(high.Fd()))
		}
		high, err := spawn.DupHigh(int(program.Fd()))
		if err != nil {
			return err
		}
		defer high.Close()
		if err := nsthread.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		for _, f := range append([]*os.File{mounts}, joined...) {
			if err := nsthread.Join(f, 0); err != nil {
				return err
			}
		}
		var p spawn.Program
		p.InCgroups(keepers.Into, keepers.Tasks)
		p.Call("setsid", unix.SYS_SETSID)
		if name := []byte(rec.Spec.hostname()); len(name) > 0 && slices.Contains(fresh, UTS) {
			p.Call("sethostname", unix.SYS_SETHOSTNAME, spawn.Pointer(&p, &name[0]), uintptr(len(name)))
		}
		if err := p.Files(fds); err != nil {
			return err
		}
		if err := p.ExecFD(int(high.Fd()), argv, nil); err != nil {
			return err
		}
		child, err := p.Start(ctx, flags, spawn.Blocked)
		if err != nil {
			return err
		}
		b.pidfd, b.identity.PID = child.PidFD, child.PID
		return nil
	})
	if err == nil {
		b.identity, err = proc.Identify(b.identity.PID, b.pidfd)
	}
	if err != nil {
		b.abandon()
		return nil, fmt.Errorf("start pause: %w", err)
	}
	// Best effort: it needs CAP_SYS_RESOURCE.
	_ = os.WriteFile("/proc/"+strconv.Itoa(b.identity.PID)+"/oom_score_adj", []byte("-998"), 0)
	return b, nil
}

// commit lets the pause stay. The caller still has to close it.
func (b *newborn) commit() error {
	_, err := b.gate.Write([]byte{1})
	return err
}

// abandon ends the pause, and with it what only it holds. There may be none.
func (b *newborn) abandon() {
	if b == nil {
		return
	}
	b.gate.Close()
	if b.pidfd == nil {
		return
	}
	_ = proc.Signal(b.pidfd, unix.SIGKILL)
	_ = awaitExit(b.pidfd)
	b.pidfd.Close()
	b.pidfd = nil
}

func (b *newborn) close() {
	b.gate.Close()
	if b.pidfd != nil {
		b.pidfd.Close()
	}
}

// namespaces reads which namespaces the pause is in.
func (b *newborn) namespaces(kinds []Namespace) (map[Namespace]nsfs.ID, error) {
	ids := make(map[Namespace]nsfs.ID, len(kinds))
	for _, n := range kinds {
		id, err := nsfs.OfProcess(b.identity.PID, string(n))
		if err != nil {
			return nil, err
		}
		ids[n] = id
	}
	return ids, nil
}

// openPause returns a pidfd of a pod's pause, after comparing all that is known
// of it; proc.ErrGone if it is not there any more.
func openPause(rec *record) (*os.File, error) {
	pidfd, err := rec.Pause.Open()
	if err != nil {
		return nil, err
	}
	for n, id := range rec.Namespaces {
		if inode, err := nsfs.Inode(rec.Pause.PID, string(n)); err != nil || inode != id.Inode {
			pidfd.Close()
			return nil, fmt.Errorf("pause %d: %s namespace: %w", rec.Pause.PID, n, proc.ErrGone)
		}
	}
	return pidfd, nil
}
