package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/sandbox"
)

// A Process is a program that was started in a pod.
type Process struct {
	pid     int
	pidfd   *os.File
	console *os.File // the master side of its terminal
	streams *streams

	ended  chan struct{} // closed when the program has ended
	done   chan struct{} // closed when its output has been passed on too
	status int
	err    error

	mu sync.Mutex // held to signal, and to close pidfd
}

// Start starts the program of spec in pod, and returns when it has been executed.
// The context bounds the start only. The program has the resource limits of the
// calling process unless spec says otherwise, but a soft limit of at most 1024
// open files.
//
// An error that matches *[spawn.ExecError] says that the program could not be
// executed; it wraps unix.ENOENT if there is none.
func Start(ctx context.Context, pod *sandbox.Sandbox, spec *specs.Spec, streams IO) (*Process, error) {
	p, err := start(ctx, pod, spec, streams)
	if err != nil {
		return nil, fmt.Errorf("run in %v: %w", pod, err)
	}
	return p, nil
}

func start(ctx context.Context, pod *sandbox.Sandbox, spec *specs.Spec, stdio IO) (*Process, error) {
	if err := check(spec); err != nil {
		return nil, err
	}
	p := &Process{ended: make(chan struct{}), done: make(chan struct{})}
	var err error
	if spec.Process.Terminal {
		p.console, p.streams, err = openTerminal(spec.Process, stdio)
	} else {
		p.streams, err = openStreams(stdio)
	}
	if err != nil {
		return nil, err
	}
	entries := make(chan *sandbox.Entry, 1)
	started := make(chan error, 1)
	go p.run(ctx, spec, entries, started)
	entry, err := pod.Enter(ctx)
	entries <- entry
	if serr := <-started; err == nil {
		err = serr
	}
	if err != nil {
		p.streams.abandon()
		return nil, err
	}
	p.streams.begin()
	go p.finish()
	return p, nil
}

// run starts the program in the entry that it is given, unless that is nil, and
// stays with it, on one thread: when that dies with the process, so does the
// program. What does not need the entry it does before.
func (p *Process) run(ctx context.Context, spec *specs.Spec, entries <-chan *sandbox.Entry, started chan<- error) {
	_ = nsthread.Do(func() error {
		err := copyMounts()
		entry := <-entries
		if entry == nil {
			started <- nil
			return nil
		}
		var child *spawn.Process
		if err == nil {
			child, err = launch(ctx, entry, spec, p.streams.child, spec.Process.Terminal)
		}
		entry.Close()
		if err != nil {
			started <- err
			return nil
		}
		p.pid, p.pidfd = child.PID, child.PidFD
		started <- nil
		p.status, p.err = await(p.pidfd)
		close(p.ended)
		return nil
	})
}

// finish follows the program to its end.
func (p *Process) finish() {
	<-p.ended
	p.mu.Lock()
	p.pidfd.Close()
	p.mu.Unlock()
	p.err = errors.Join(p.err, p.streams.end())
	close(p.done)
}

// launch moves the calling thread into the pod and starts the program from there.
func launch(ctx context.Context, entry *sandbox.Entry, spec *specs.Spec, files []*os.File, terminal bool) (*spawn.Process, error) {
	var fds []int
	for _, f := range files {
		high, err := spawn.DupHigh(int(f.Fd()))
		if err != nil {
			return nil, err
		}
		defer high.Close()
		fds = append(fds, int(high.Fd()))
	}
	self, err := proc.OpenPID(os.Getpid())
	if err != nil {
		return nil, err
	}
	defer self.Close()
	parent, err := spawn.DupHigh(int(self.Fd()))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := buildMounts(entry); err != nil {
		return nil, err
	}
	p, err := program(entry, spec.Process, fds, terminal, parent)
	if err != nil {
		return nil, err
	}
	return p.Start(ctx, 0, spawn.Inherit)
}

// program is what the child does between fork and exec.
func program(entry *sandbox.Entry, s *specs.Process, fds []int, terminal bool, parent *os.File) (*spawn.Program, error) {
	p := new(spawn.Program)
	p.Call("setsid", unix.SYS_SETSID)
	if terminal {
		p.Call("set controlling terminal", unix.SYS_IOCTL, uintptr(fds[0]), unix.TIOCSCTTY, 0)
	}
	if err := p.Files(fds); err != nil {
		return nil, err
	}
	limits(p, entry, s.Rlimits)
	dir, err := p.String(s.Cwd)
	if err != nil {
		return nil, err
	}
	p.Call("change to directory "+s.Cwd, unix.SYS_CHDIR, dir)
	if s.User.Umask != nil {
		p.Call("umask", unix.SYS_UMASK, uintptr(*s.User.Umask))
	}
	identity(p, s.User)
	if s.NoNewPrivileges {
		p.Call("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	// Changing identity clears the death signal: it comes after.
	dieWith(p, parent)
	return p, p.Exec(candidates(s), s.Args, s.Env)
}

// identity makes the child the user that it shall be, and nothing more.
func identity(p *spawn.Program, u specs.User) {
	var groups uintptr
	if len(u.AdditionalGids) > 0 {
		groups = spawn.Pointer(p, &u.AdditionalGids[0])
	}
	uid, gid := uintptr(u.UID), uintptr(u.GID)
	p.Call("set supplementary groups", unix.SYS_SETGROUPS, uintptr(len(u.AdditionalGids)), groups)
	p.Call("set group ID", unix.SYS_SETRESGID, gid, gid, gid)
	p.Call("set user ID", unix.SYS_SETRESUID, uid, uid, uid)
}

// dieWith makes the child die with its parent, and not begin if that has died
// before it could say so.
func dieWith(p *spawn.Program, parent *os.File) {
	p.Call("set death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	// getppid(2) answers 0 across PID namespaces, a pidfd the truth: it is
	// readable once its process has ended.
	fd := spawn.Pointer(p, &unix.PollFd{Fd: int32(parent.Fd()), Events: unix.POLLIN})
	now := spawn.Pointer(p, new(unix.Timespec))
	p.Expect("find the parent alive", 0, unix.SYS_PPOLL, fd, 1, now, 0, 0)
}

// limits sets resource limits.
func limits(p *spawn.Program, entry *sandbox.Entry, ls []specs.POSIXRlimit) {
	set := func(name string, which int, cur, max uint64) {
		p.Call("set "+name, unix.SYS_PRLIMIT64, 0, uintptr(which),
			spawn.Pointer(p, &unix.Rlimit{Cur: cur, Max: max}), 0)
	}
	if entry.Flags&unix.CLONE_NEWPID != 0 {
		// A full queue of pending signals makes a forged signal look like one
		// from the host (see package pause): members must not be able to fill
		// the pause's.
		var l unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_SIGPENDING, &l); err == nil {
			set("RLIMIT_SIGPENDING", unix.RLIMIT_SIGPENDING, min(l.Cur, l.Max/2), l.Max/2)
		}
	}
	// Go raises the soft limit of open files of its own programs, which is no
	// good for others: select(2) breaks down above 1024, and some close all that
	// there could be.
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		set("RLIMIT_NOFILE", unix.RLIMIT_NOFILE, min(files.Max, 1024), files.Max)
	}
	for _, l := range ls {
		set(l.Type, rlimits[l.Type], l.Soft, l.Hard)
	}
}

var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// DefaultPath is where programs are looked for if their environment has no PATH.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// candidates are the paths to try for a program, as execvp(3) would; but where
// the calling thread sees that there is nothing, the child need not try.
func candidates(s *specs.Process) []string {
	name := s.Args[0]
	if strings.Contains(name, "/") {
		return []string{name}
	}
	list := DefaultPath
	for _, e := range s.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			list = v
		}
	}
	var paths []string
	for dir := range strings.SplitSeq(list, ":") {
		// An empty entry is the working directory.
		p := path.Join(s.Cwd, dir, name)
		if path.IsAbs(dir) {
			p = path.Join(dir, name)
		}
		if unix.Access(p, unix.F_OK) != unix.ENOENT {
			paths = append(paths, p)
		}
	}
	if len(paths) == 0 {
		paths = []string{name}
	}
	return paths
}

// await reaps the process of a pidfd and returns its exit status.
func await(pidfd *os.File) (int, error) {
	for {
		var si unix.Siginfo
		err := unix.Waitid(unix.P_PIDFD, int(pidfd.Fd()), &si, unix.WEXITED, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("wait for program: %w", os.NewSyscallError("waitid", err))
		}
		return exitStatus(&si), nil
	}
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
func (p *Process) PID() int { return p.pid }

// Signal sends a signal to the program. os.ErrProcessDone if it has ended.
func (p *Process) Signal(sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
		return os.ErrProcessDone
	default:
	}
	err := proc.Signal(p.pidfd, sig)
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
