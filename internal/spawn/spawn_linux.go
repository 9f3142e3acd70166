package spawn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A call is one system call of the child. The layout is known to the assembly.
type call struct {
	nr    uintptr
	args  [6]uintptr
	mode  uintptr
	want  uintptr
	tried uintptr // written by the child: 1 when it is about to make the call
	errno uintptr // written by the child
}

// What the child does about the result of a call.
const (
	must   uintptr = iota // an error ends the child
	try                   // an error is noted, the child goes on
	expect                // an error, or another result than want, ends the child
	exec                  // an error with which execvp(3) tries the next path is noted, others end the child
)

// unexpected is what the child notes when an expect call answered something
// else than was wanted. It is above every errno.
const unexpected = 4096

// A Program is the list of system calls that a child makes. The zero value is
// an empty program. A Program is started at most once.
type Program struct {
	calls  []call
	names  []string
	keep   []any // what the calls point to
	execs  []int // indexes of the calls that replace the child by a program
	mask   int   // index before which the signal mask is set, if hasMask
	cgroup *os.File

	hasMask bool
}

// An Error is the failure of one call of a Program.
type Error struct {
	Call string // what was attempted
	Err  error  // usually a unix.Errno
}

func (e *Error) Error() string { return e.Call + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// An ExecError says that no program could be executed.
type ExecError struct {
	Path string // the path that could not
	Err  unix.Errno
}

func (e *ExecError) Error() string { return "exec " + e.Path + ": " + e.Err.Error() }
func (e *ExecError) Unwrap() error { return e.Err }

// ErrDied says that the child was ended before it had executed its program.
var ErrDied = errors.New("child ended before it executed its program")

func (p *Program) add(mode uintptr, want uintptr, what string, nr uintptr, args []uintptr) {
	c := call{nr: nr, mode: mode, want: want}
	copy(c.args[:], args)
	p.calls = append(p.calls, c)
	p.names = append(p.names, what)
}

// Call adds a system call that must succeed. The words of what appear in the
// error: "set hostname".
func (p *Program) Call(what string, nr uintptr, args ...uintptr) {
	p.add(must, 0, what, nr, args)
}

// Try adds a system call that may fail.
func (p *Program) Try(what string, nr uintptr, args ...uintptr) {
	p.add(try, 0, what, nr, args)
}

// Expect adds a system call that must answer want.
func (p *Program) Expect(what string, want uintptr, nr uintptr, args ...uintptr) {
	p.add(expect, want, what, nr, args)
}

// Pointer returns the address of v's memory for use as an argument, and keeps
// it alive as long as the Program.
func Pointer[T any](p *Program, v *T) uintptr {
	p.keep = append(p.keep, v)
	return uintptr(unsafe.Pointer(v))
}

// String returns the address of a C string for use as an argument.
func (p *Program) String(s string) (uintptr, error) {
	b, err := unix.BytePtrFromString(s)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", s, err)
	}
	return Pointer(p, b), nil
}

// vector returns the address of a NULL-terminated array of C strings.
func (p *Program) vector(ss []string) (uintptr, error) {
	ptrs := make([]*byte, len(ss)+1)
	for i, s := range ss {
		b, err := unix.BytePtrFromString(s)
		if err != nil {
			return 0, fmt.Errorf("%q: %w", s, err)
		}
		ptrs[i] = b
	}
	p.keep = append(p.keep, ptrs)
	return uintptr(unsafe.Pointer(&ptrs[0])), nil
}

// Exec adds execve(2) of each path in turn, until one succeeds. When none does,
// Start returns an *ExecError with the error that tells most: what execvp(3)
// would report. Relative paths count from the child's working directory.
func (p *Program) Exec(paths, argv, env []string) error {
	if len(paths) == 0 || len(argv) == 0 {
		return unix.EINVAL
	}
	av, err := p.vector(argv)
	if err != nil {
		return err
	}
	ev, err := p.vector(env)
	if err != nil {
		return err
	}
	for _, path := range paths {
		ptr, err := p.String(path)
		if err != nil {
			return err
		}
		p.execs = append(p.execs, len(p.calls))
		p.add(exec, 0, path, unix.SYS_EXECVE, []uintptr{ptr, av, ev})
	}
	return nil
}

// ExecFD adds execveat(2) of the file open as fd.
func (p *Program) ExecFD(fd int, argv, env []string) error {
	av, err := p.vector(argv)
	if err != nil {
		return err
	}
	ev, err := p.vector(env)
	if err != nil {
		return err
	}
	empty, err := p.String("")
	if err != nil {
		return err
	}
	p.execs = append(p.execs, len(p.calls))
	p.add(exec, 0, fmt.Sprintf("descriptor %d", fd), unix.SYS_EXECVEAT,
		[]uintptr{uintptr(fd), empty, av, ev, unix.AT_EMPTY_PATH})
	return nil
}

// Files adds the calls that make fds the descriptors 0, 1, 2 … of the program,
// and close all others when it is executed: none of the parent's descriptors is
// inherited by accident, whatever flags it has. All of fds must be at least
// MinFD.
func (p *Program) Files(fds []int) error {
	for i, fd := range fds {
		if fd < MinFD {
			return fmt.Errorf("descriptor %d is below %d: %w", fd, MinFD, unix.EINVAL)
		}
		p.Call("dup3", unix.SYS_DUP3, uintptr(fd), uintptr(i), 0)
	}
	p.Call("close_range", unix.SYS_CLOSE_RANGE, uintptr(len(fds)), uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	return nil
}

// InCgroups has the child born in a cgroup of version 2, of which dir is the open
// directory, unless that is nil (CLONE_INTO_CGROUP of clone(2)); and enter those of
// version 1 whose open tasks files are given, which must stay open and not be among the
// descriptors that Files replaces. It comes before other calls.
func (p *Program) InCgroups(dir *os.File, tasks []*os.File) {
	p.cgroup = dir
	zero := Pointer(p, &[1]byte{'0'})
	for _, f := range tasks {
		p.Call("enter cgroup "+f.Name(), unix.SYS_WRITE, f.Fd(), zero, 1)
	}
}

// SetMask says where in the list of calls the child gets the signal mask that it
// executes its program with. Without it that is right before the first Exec; a
// seccomp filter may want it earlier.
func (p *Program) SetMask() { p.mask, p.hasMask = len(p.calls), true }

// MinFD is the lowest descriptor that Files accepts. [DupHigh] makes such ones.
const MinFD = 64

// DupHigh duplicates fd to a close-on-exec descriptor of at least MinFD, out of
// the way of those that Files gives to the child.
func DupHigh(fd int) (*os.File, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, MinFD)
	if err != nil {
		return nil, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	return os.NewFile(uintptr(n), ""), nil
}

// Signals says with which signals blocked a child executes its program.
type Signals int

const (
	Inherit Signals = iota // those of the calling thread
	Blocked                // all of them
)

// A Process is a child that executes its program.
type Process struct {
	PID   int      // in the PID namespace of the caller
	PidFD *os.File // refers to the process, for as long as it is open
}

// Start makes a child in the namespaces given by flags (CLONE_NEW…), and returns
// when the child has executed its program, or has failed to. If the context ends
// before, the child is killed. What the calling thread is, the child becomes: the
// caller has locked it. The caller closes PidFD and reaps the child.
func (p *Program) Start(ctx context.Context, flags uint64, sig Signals) (*Process, error) {
	c, err := p.Begin(flags, sig)
	if err != nil {
		return nil, err
	}
	return c.Await(ctx)
}

// A Child is a process on its way to the program that it executes. It shares the
// memory of its parent, which must call Await.
type Child struct {
	Process
	program *Program
	kernel  *kernelWords
}

// Begin is the first half of Start: it makes the child and returns at once.
func (p *Program) Begin(flags uint64, sig Signals) (*Child, error) {
	if len(p.execs) == 0 {
		return nil, unix.EINVAL
	}
	memory.share()
	c, err := p.start(flags|unix.CLONE_VM, sig)
	if err != nil {
		memory.unshare(true)
		return nil, err
	}
	return c, nil
}

// Await is the second half of Start. Of a child that failed nothing is left.
func (c *Child) Await(ctx context.Context) (*Process, error) {
	err := c.released(ctx)
	memory.unshare(c.leaves())
	if err == nil {
		err = c.program.result()
	}
	if err != nil {
		c.PidFD.Close()
		reap(c.PID)
		return nil, err
	}
	return &c.Process, nil
}

// leaves returns when the child has not our memory any more, and reports whether that
// is known. The kernel clears busy some microseconds before (exec_mm_release in
// exec_mmap); were we dumpable by then, others would come by our memory.
func (c *Child) leaves() bool {
	const kcmpVM = 1
	for {
		r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(unix.Getpid()), uintptr(c.PID), kcmpVM, 0, 0, 0)
		switch {
		case errno == unix.ESRCH || errno == 0 && r != 0:
			return true
		case errno != 0:
			return false
		}
		runtime.Gosched()
	}
}

// memory is that of this process, and how it is shared with children.
var memory sharedMemory

// A child may be among processes that it must not be read by, or lend its
// executable file to (CVE-2019-5736), before it executes its program: as long as it
// shares our memory that is not dumpable, which keeps them out: see
// PR_SET_DUMPABLE(2const). When no child shares it any more, and not before, it is
// made dumpable again if it was so. That is a state of the whole process, so it is
// counted for the whole process. If it is not known whether a child has left, it is
// never made dumpable again.
type sharedMemory struct {
	mu       sync.Mutex
	children int
	dumpable bool // before there were children
}

func (m *sharedMemory) share() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.children == 0 {
		d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		m.dumpable = err == nil && d == 1
		if m.dumpable {
			_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
		}
	}
	m.children++
}

func (m *sharedMemory) unshare(left bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.children--
	if !left {
		m.dumpable = false
	}
	if m.children == 0 && m.dumpable {
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	}
}

// Fork makes a child with a copy of the memory of the caller, and returns at
// once. What its calls answer is not known to the caller; after the last one the
// child ends. Signals stay blocked in the child.
func (p *Program) Fork() (*Process, error) {
	c, err := p.start(0, Blocked)
	if err != nil {
		return nil, err
	}
	return &c.Process, nil
}

// Detach makes a child, in the new namespaces that flags name, that shares the
// memory of the caller, and returns at once.
// The child makes its calls, for as long as they take, and ends, also if the
// caller has ended before. The caller keeps the Program reachable until then.
// Signals stay blocked in the child.
func (p *Program) Detach(flags uint64) (*Process, error) {
	c, err := p.start(flags|unix.CLONE_VM, Blocked)
	if err != nil {
		return nil, err
	}
	return &c.Process, nil
}

// kernelWords are what the kernel is given by address. They are on the heap,
// since a goroutine's stack may move.
type kernelWords struct {
	all, old unix.Sigset_t
	pidfd    int32
	busy     uint32 // cleared by the kernel when the child lets go of our memory
}

func (p *Program) start(flags uint64, sig Signals) (*Child, error) {
	k := &kernelWords{busy: 1}
	p.keep = append(p.keep, k)
	for i := range k.all.Val {
		k.all.Val[i] = ^k.all.Val[i]
	}
	if sig == Inherit {
		// Late: what comes before shall not be cut short. No handler can
		// run in any case, CLONE_CLEAR_SIGHAND has reset them all.
		at := p.execs[0]
		if p.hasMask {
			at = p.mask
		}
		p.insert(at, "rt_sigprocmask", call{nr: unix.SYS_RT_SIGPROCMASK, args: [6]uintptr{
			unix.SIG_SETMASK, uintptr(unsafe.Pointer(&k.old)), 0, sigsetSize,
		}})
	}
	if len(p.calls) == 0 {
		return nil, unix.EINVAL
	}
	args := cloneArgs{
		flags:      flags | unix.CLONE_CLEAR_SIGHAND | unix.CLONE_PIDFD | unix.CLONE_CHILD_CLEARTID,
		pidfd:      uint64(uintptr(unsafe.Pointer(&k.pidfd))),
		childTID:   uint64(uintptr(unsafe.Pointer(&k.busy))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	size := uintptr(cloneArgsV0)
	if p.cgroup != nil {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(p.cgroup.Fd())
		size = unsafe.Sizeof(args)
	}
	// A handler that runs in the child would run on memory shared with the
	// parent, so every signal waits until the child is on its own. The mask is
	// that of a thread: stay on it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &k.all, &k.old); err != nil {
		return nil, os.NewSyscallError("rt_sigprocmask", err)
	}
	r := clone3(&args, size, &p.calls[0], uintptr(len(p.calls)))
	err := unix.PthreadSigmask(unix.SIG_SETMASK, &k.old, nil)
	if err != nil {
		panic("spawn: restoring the signal mask: " + err.Error()) // cannot fail on a valid mask
	}
	if e := -int(r); e > 0 && e < 4096 {
		return nil, os.NewSyscallError("clone3", unix.Errno(e))
	}
	return &Child{Process{PID: int(r), PidFD: os.NewFile(uintptr(k.pidfd), "pidfd")}, p, k}, nil
}

// insert puts a call in front of the i-th.
func (p *Program) insert(i int, what string, c call) {
	p.calls = slices.Insert(p.calls, i, c)
	p.names = slices.Insert(p.names, i, what)
	for n := range p.execs {
		if p.execs[n] >= i {
			p.execs[n]++
		}
	}
}

// released returns when the child does not use our memory any more, because it
// executes a program or has ended. CLONE_VFORK would have the kernel wait for the
// same, but then Go's scheduler takes the thread for a running one, and the whole
// process hangs with a child that somebody has stopped, or that waits for a dead
// file server. If the context ends first, the child is killed.
func (c *Child) released(ctx context.Context) error {
	var err error
	pause := unix.NsecToTimespec(int64(20 * time.Millisecond))
	for atomic.LoadUint32(&c.kernel.busy) != 0 {
		// The kernel wakes a futex that is not private: clone(2),
		// CLONE_CHILD_CLEARTID.
		const futexWait = 0
		_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&c.kernel.busy)), futexWait, 1,
			uintptr(unsafe.Pointer(&pause)), 0, 0)
		if err == nil && ctx.Err() != nil {
			err = ctx.Err()
			_ = unix.PidfdSendSignal(int(c.PidFD.Fd()), unix.SIGKILL, nil, 0)
		}
	}
	runtime.KeepAlive(c)
	return err
}

// result tells from the notes that the child has left whether it executed its
// program.
func (p *Program) result() error {
	for i, c := range p.calls {
		switch {
		case c.errno == 0 || c.mode == try || c.mode == exec:
		case c.errno == unexpected:
			return &Error{p.names[i], ErrDied}
		default:
			return &Error{p.names[i], unix.Errno(c.errno)}
		}
	}
	var found *ExecError
	for _, i := range p.execs {
		c := p.calls[i]
		switch {
		case c.tried == 0:
			// An earlier path was there, but could not be executed.
			if found == nil {
				return ErrDied
			}
			return found
		case c.errno == 0:
			return nil
		}
		// As execvp(3): a file that is there but cannot be executed tells
		// more than one that is not there.
		e := unix.Errno(c.errno)
		if e == unix.ENOTDIR {
			e = unix.ENOENT
		}
		if found == nil || found.Err == unix.ENOENT {
			found = &ExecError{p.names[i], e}
		}
	}
	return found
}

// sigsetSize is the size of the kernel's sigset_t.
const sigsetSize = 8

func reap(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}

// cloneArgs is struct clone_args of clone3(2), version 2 (Linux 5.7).
type cloneArgs struct {
	flags      uint64
	pidfd      uint64
	childTID   uint64
	_          uint64 // parent_tid
	exitSignal uint64
	_          [5]uint64 // stack, stack_size, tls, set_tid, set_tid_size
	cgroup     uint64
}

// cloneArgsV0 is the size of its version 0 (Linux 5.3).
const cloneArgsV0 = 64

// clone3 makes a child that makes the n calls and ends. In the parent it
// returns the child's PID or a negated errno.
//
//go:noescape
func clone3(args *cloneArgs, size uintptr, calls *call, n uintptr) uintptr
