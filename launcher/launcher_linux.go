package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/sandbox"
)

// Options are those of Launch. The zero value is the default of each.
type Options struct {
	IO
	// ID is what hooks are told that the container is called.
	ID string
	// Root, unless it is nil, makes the container's root, a mount that is attached
	// nowhere, instead of Spec.Root.Path, which says nothing then but what hooks are
	// told. It is called while the pod is being entered, on a thread in the calling
	// process's mount namespace, with the container's user namespace, or nil if it has
	// none of its own. The launcher closes the mount. Its devices are dead.
	Root func(userns *os.File) (*os.File, error)
	// Detached lets the program outlive the calling process. Otherwise it is
	// killed when that ends.
	Detached bool
	// Init is a program that becomes the container's first process, is given
	// the program as its arguments, and starts it: package reaper has one.
	Init *os.File
	// Born is called when the program's process is there, in its namespaces, but
	// has executed nothing. If it returns an error, or if the calling process
	// ends before it returns, nothing is executed.
	Born func(proc.Identity) error
}

// A Process is a program that was started in a pod.
type Process struct {
	identity proc.Identity
	pidfd    *os.File
	console  *os.File // the master side of its terminal
	streams  *streams
	detached bool
	poststop func()

	ended  chan struct{} // closed when the program has ended
	done   chan struct{} // closed when its output has been passed on too
	status int
	err    error

	mu sync.Mutex // held to signal, and to close pidfd
}

// Start is Launch with the default options but for the program's streams.
func Start(ctx context.Context, pod *sandbox.Sandbox, spec *specs.Spec, streams IO) (*Process, error) {
	return Launch(ctx, pod, spec, Options{IO: streams})
}

// Launch starts the program of spec in pod, and returns when it has been executed.
// The context bounds the start only. The program has the resource limits of the
// calling process unless spec says otherwise, but a soft limit of at most 1024
// open files.
//
// An error that matches *[spawn.ExecError] says that the program could not be
// executed; it wraps unix.ENOENT if there is none.
func Launch(ctx context.Context, pod *sandbox.Sandbox, spec *specs.Spec, opts Options) (*Process, error) {
	err := check(spec)
	if err == nil {
		var p *Process
		l := newLaunch(spec, opts)
		if p, err = l.start(ctx, pod); err == nil {
			return p, nil
		}
	}
	return nil, fmt.Errorf("run in %v: %w", pod, err)
}

// start starts the program.
func (l *launch) start(ctx context.Context, pod *sandbox.Sandbox) (*Process, error) {
	p := &Process{detached: l.opts.Detached, ended: make(chan struct{}), done: make(chan struct{})}
	if !l.spec.Process.Terminal {
		var err error
		if p.streams, err = openStreams(l.opts.IO); err != nil {
			return nil, err
		}
	}
	entries := make(chan *sandbox.Entry, 1)
	started := make(chan error, 1)
	go p.run(ctx, l, entries, started)
	entry, err := pod.Hold(ctx)
	entries <- entry
	if err == nil {
		// Meanwhile the other thread makes the cgroup.
		if l.inside == nil {
			l.borrowed <- entry.Borrow(ctx)
		}
		close(l.borrowed)
	}
	if serr := <-started; err == nil {
		err = serr
	}
	if err != nil {
		p.streams.abandon()
		return nil, errors.Join(err, l.undo())
	}
	begun := make(chan struct{})
	p.poststop = func() {
		<-begun // a program may end before the hooks do that come before its end
		l.afterEnd()
	}
	p.streams.begin()
	go p.finish()
	err = l.afterStart(ctx, p)
	close(begun)
	if err != nil {
		_ = p.Signal(unix.SIGKILL)
		<-p.ended
		_, _ = p.Wait(ctx)
		return nil, errors.Join(err, l.removeGroup())
	}
	return p, nil
}

// run starts the program in the entry that it is given, unless that is nil, and
// unless the program is detached stays with it, on one thread: when that dies with
// the process, so does the program. What does not need the entry it does before.
func (p *Process) run(ctx context.Context, l *launch, entries <-chan *sandbox.Entry, started chan<- error) {
	_ = nsthread.Do(func() error {
		err := l.prepare()
		defer l.close()
		entry := <-entries
		if entry == nil {
			started <- nil
			return nil
		}
		if err == nil {
			err = l.launch(ctx, entry, p)
		} else {
			<-l.borrowed
		}
		entry.Close()
		l.close()
		started <- err
		if err == nil && !p.detached {
			p.status, p.err = await(p.pidfd)
			close(p.ended)
		}
		return nil
	})
}

// finish follows the program to its end.
func (p *Process) finish() {
	if p.detached {
		p.status, p.err = awaitIdle(p.pidfd)
		close(p.ended)
	}
	<-p.ended
	p.mu.Lock()
	p.pidfd.Close()
	p.mu.Unlock()
	p.err = errors.Join(p.err, p.streams.end())
	if p.poststop != nil {
		p.poststop()
	}
	close(p.done)
}

// await reaps the process of a pidfd and returns its exit status.
func await(pidfd *os.File) (int, error) {
	for {
		status, _, err := reap(pidfd.Fd(), 0)
		if err != unix.EINTR {
			return status, waitError(err)
		}
	}
}

// awaitIdle is await, but needs no thread meanwhile.
func awaitIdle(pidfd *os.File) (status int, err error) {
	if err := unix.SetNonblock(int(pidfd.Fd()), true); err != nil {
		return -1, err
	}
	fd, err := unix.FcntlInt(pidfd.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	f := os.NewFile(uintptr(fd), "pidfd") // which the runtime polls, since it does not block
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	perr := conn.Read(func(fd uintptr) bool {
		var ended bool
		status, ended, err = reap(fd, unix.WNOHANG)
		return ended || err != nil && err != unix.EINTR && err != unix.EAGAIN
	})
	return status, waitError(errors.Join(err, perr))
}

func waitError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("wait for program: %w", os.NewSyscallError("waitid", err))
}

func reap(pidfd uintptr, flags int) (status int, ended bool, err error) {
	var si unix.Siginfo
	if err := unix.Waitid(unix.P_PIDFD, int(pidfd), &si, unix.WEXITED|flags, nil); err != nil {
		return -1, false, err
	}
	return exitStatus(&si), si.Signo != 0, nil
}

// exitStatus reads si_code and si_status, for which package unix has no names.
func exitStatus(si *unix.Siginfo) int {
	const cldExited = 1
	status := int((*[7]int32)(unsafe.Pointer(si))[6])
	if si.Code == cldExited {
		return status
	}
	return 128 + status // killed by this signal
}

// PID returns the program's process ID in the PID namespace of the caller.
func (p *Process) PID() int { return p.identity.PID }

// Identity names the program's process so that the name cannot come to mean
// another.
func (p *Process) Identity() proc.Identity { return p.identity }

// Signal sends a signal to the program. os.ErrProcessDone if it has ended.
func (p *Process) Signal(sig unix.Signal) error { return p.signal(sig, proc.Signal) }

// SignalGroup sends a signal to the program and to those that it has started, unless they
// have made themselves a process group or a session of their own; before Linux 6.9 to
// the program alone. os.ErrProcessDone if it has ended.
func (p *Process) SignalGroup(sig unix.Signal) error { return p.signal(sig, proc.SignalGroup) }

func (p *Process) signal(sig unix.Signal, send func(*os.File, unix.Signal) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
		return os.ErrProcessDone
	default:
	}
	err := send(p.pidfd, sig)
	if errors.Is(err, proc.ErrGone) {
		return os.ErrProcessDone
	}
	return err
}

// Resize sets the size of the program's terminal.
func (p *Process) Resize(width, height uint16) error {
	if p.console == nil {
		return errors.New("program has no terminal")
	}
	return resize(p.console, width, height)
}

// Ended returns a channel that is closed when the program has ended. Its output may
// not have been passed on yet.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait returns when the program has ended and its output has been passed on: its
// exit status, or 128+N if signal N ended it. Output that is copied has been
// passed on when the last process has closed it, as with os/exec. With the
// context's error Wait returns earlier; all goes on. It may be called again.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
	case <-ctx.Done():
		return -1, ctx.Err()
	}
	return p.status, p.err
}

// setOOMScoreAdj is done for the child when it is on its own: while it shares our
// memory, it would be set for us too.
func setOOMScoreAdj(pid int, adj *int) error {
	if adj == nil {
		return nil
	}
	err := os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(strconv.Itoa(*adj)), 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil // it has ended
	}
	if err != nil {
		return fmt.Errorf("process.oomScoreAdj %d: %w", *adj, err)
	}
	return nil
}
