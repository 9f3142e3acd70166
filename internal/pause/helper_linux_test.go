package pause_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// helperName is argv[0] of the test binary when it runs as one of helpers.
const helperName = "pause-test-helper"

// helpers are the programs that a test needs in another process: the one that
// becomes the pause, and members of its PID namespace.
var helpers = map[string]func(args []string) error{
	"launch":  launch,
	"attack":  member(attack),
	"forge":   member(forge),
	"orphans": member(orphans),
	"look":    member(look),
	"refused": member(refused),
}

func runHelper(args []string) int {
	// Credentials and signal masks belong to the thread, and only the first
	// thread of a process may die with it.
	runtime.LockOSThread()
	if err := helpers[args[0]](args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
		return 100
	}
	return 0
}

// launch does what the creator's child does: it is PID 1 already, makes the tiny
// root and becomes the pause. The program is descriptor 4, and stays open.
func launch(args []string) error {
	flags := flag.NewFlagSet("launch", flag.ContinueOnError)
	noGate := flags.Bool("no-gate", false, "close descriptor 3")
	dirs := flags.String("dirs", "shm,proc", "directories in the root")
	pending := flags.Int64("sigpending", -1, "RLIMIT_SIGPENDING")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := emptyRoot(strings.Split(*dirs, ",")); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if *pending >= 0 {
		limit := unix.Rlimit{Cur: uint64(*pending), Max: uint64(*pending)}
		if err := unix.Setrlimit(unix.RLIMIT_SIGPENDING, &limit); err != nil {
			return fmt.Errorf("RLIMIT_SIGPENDING: %w", err)
		}
	}
	argv, err := syscall.SlicePtrFromStrings(append([]string{"pause: web"}, flags.Args()...))
	if err != nil {
		return err
	}
	if *noGate {
		unix.Close(3)
	}
	if err := unix.Dup3(0, 2, 0); err != nil {
		return err
	}
	if err := blockSignals(); err != nil {
		return err
	}
	empty, none := []byte{0}, []*byte{nil}
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, 4, uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&none[0])), unix.AT_EMPTY_PATH, 0)
	return fmt.Errorf("execveat: %w", errno)
}

// blockSignals blocks all signals of this thread. What it starts inherits that.
func blockSignals() error {
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	return unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil)
}

// emptyRoot makes a read-only tmpfs with dirs the root of this mount namespace.
func emptyRoot(dirs []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", os.TempDir(), "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if err := os.Chdir(os.TempDir()); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// member wraps a program that runs inside the pause's PID namespace, with the
// host's filesystem but for the namespace's own procfs.
func member(f func([]string) error) func([]string) error {
	return func(args []string) error {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			return err
		}
		return f(args)
	}
}

// dropCapabilities leaves this thread its user ID and nothing else.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&header, &none[0])
}

// attack tries, as root with no capability but root's user ID, all that could
// end the pause or weaken it.
func attack([]string) error {
	if err := dropCapabilities(); err != nil {
		return err
	}
	kill := func(sig unix.Signal) func() error {
		return func() error { return unix.Kill(1, sig) }
	}
	queue := func(sig unix.Signal, code int32) func() error {
		return func() error { return sigqueue(1, sig, code) }
	}
	limit := func(resource int) func() error {
		return func() error { return unix.Prlimit(1, resource, new(unix.Rlimit), nil) }
	}
	const siQueue, siTkill, sigrtmin = -1, -6, 34
	var errs []error
	for _, try := range []struct {
		name string
		do   func() error
		want error
	}{
		{"SIGTERM", kill(unix.SIGTERM), nil},
		{"SIGINT", kill(unix.SIGINT), nil},
		{"SIGKILL", kill(unix.SIGKILL), nil},
		{"SIGSTOP", kill(unix.SIGSTOP), nil},
		{"SIGHUP", kill(unix.SIGHUP), nil},
		{"SIGSEGV", kill(unix.SIGSEGV), nil},
		{"SIGTERM to the thread", func() error { return unix.Tgkill(1, 1, unix.SIGTERM) }, nil},
		{"SIGTERM by pidfd", pidfdTerm, nil},
		{"SIGTERM queued as from PID 0", queue(unix.SIGTERM, siQueue), nil},
		{"SIGINT queued as from PID 0", queue(unix.SIGINT, siQueue), nil},
		{"SIGTERM queued as tkill", queue(unix.SIGTERM, siTkill), unix.EPERM},
		{"SIGTERM queued as kill", queue(unix.SIGTERM, 0), unix.EPERM},
		{"SIGTERM queued as from the kernel", queue(unix.SIGTERM, 0x80), unix.EPERM},
		{"SIGTERM for input", ownerTerm, nil},
		{"real-time signals", func() error {
			for range 100 {
				if err := sigqueue(1, sigrtmin, siQueue); err != nil {
					return err
				}
			}
			return nil
		}, nil},
		{"no RLIMIT_SIGPENDING", limit(unix.RLIMIT_SIGPENDING), unix.EPERM},
		{"no RLIMIT_CPU", limit(unix.RLIMIT_CPU), unix.EPERM},
		{"ptrace", func() error { return unix.PtraceSeize(1) }, unix.EPERM},
	} {
		if err := try.do(); err != try.want {
			errs = append(errs, fmt.Errorf("%s: %v, want %v", try.name, err, try.want))
		}
	}
	return errors.Join(errs...)
}

// forge queues a signal whose siginfo is lost if its target may have none queued.
func forge([]string) error {
	return sigqueue(1, unix.SIGTERM, -1)
}

// sigqueue is rt_sigqueueinfo(2) with a sender of PID 0.
func sigqueue(pid int, sig unix.Signal, code int32) error {
	info := [32]int32{0: int32(sig), 2: code}
	_, _, errno := unix.Syscall(unix.SYS_RT_SIGQUEUEINFO, uintptr(pid), uintptr(sig), uintptr(unsafe.Pointer(&info)))
	if errno != 0 {
		return errno
	}
	return nil
}

func pidfdTerm() error {
	fd, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0)
}

// ownerTerm lets the kernel send SIGTERM: for input on a pipe that PID 1 "owns".
func ownerTerm() error {
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return err
	}
	for _, op := range [][2]int{
		{unix.F_SETOWN, 1},
		{unix.F_SETSIG, int(unix.SIGTERM)},
		{unix.F_SETFL, unix.O_ASYNC},
	} {
		if _, err := unix.FcntlInt(uintptr(p[0]), op[0], op[1]); err != nil {
			return err
		}
	}
	_, err := unix.Write(p[1], []byte{0})
	return err
}

// orphanCount is how many processes orphans leaves to PID 1.
const orphanCount = 1000

// orphans has a child whose children it leaves to PID 1, half of them dead by
// then, the rest when stdin ends.
func orphans([]string) error {
	// or the exit signals run into the Go runtime of a process without threads
	if err := blockSignals(); err != nil {
		return err
	}
	child, errno := forkOrphans()
	if errno != 0 {
		return errno
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(child, &status, 0, nil); err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("status %#x", status)
	}
	return nil
}

// forkOrphans returns only in the parent. Below it, nothing but raw system calls
// is possible: there is no runtime in the children.
//
//go:norace
//go:nosplit
//go:noinline
func forkOrphans() (int, unix.Errno) {
	// clone(2) lets a parent choose which signal tells it of a death.
	exitSignals := [...]uintptr{uintptr(unix.SIGCHLD), 0, uintptr(unix.SIGTERM), uintptr(unix.SIGKILL)}
	pid, _, errno := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
	if errno != 0 || pid != 0 {
		return int(pid), errno
	}
	for i := 0; i < orphanCount; i++ {
		// SIGKILL would end the middle process before its time: dead ones get the others.
		sig := exitSignals[i%3]
		if i%2 == 0 {
			sig = exitSignals[i/2%4]
		}
		pid, _, errno = unix.RawSyscall(unix.SYS_CLONE, sig, 0, 0)
		if errno != 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
		}
		if pid == 0 {
			var b byte
			if i%2 == 0 {
				unix.RawSyscall(unix.SYS_READ, 0, uintptr(unsafe.Pointer(&b)), 1)
			}
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	return 0, 0
}

// look prints what a fully privileged member finds behind /proc/1.
func look([]string) error {
	entries, err := os.ReadDir("/proc/1/root")
	if err != nil {
		return err
	}
	for _, e := range entries {
		fmt.Println("root", e.Name())
	}
	if err := os.Mkdir("/proc/1/root/new", 0o700); !errors.Is(err, unix.EROFS) {
		fmt.Println("writable:", err)
	}
	for _, link := range []string{"cwd", "fd/0", "fd/1", "fd/2"} {
		target, err := os.Readlink("/proc/1/" + link)
		if err != nil {
			return err
		}
		fmt.Println(link, target)
	}
	return nil
}

// refused expects that a member without capabilities finds nothing at all: first
// with the pause's own user ID, then as nobody.
func refused([]string) error {
	paths := []string{"root", "cwd", "exe", "fd/0", "mem", "environ", "maps", "ns/mnt"}
	var errs []error
	try := func(who string) {
		for _, path := range paths {
			f, err := os.Open("/proc/1/" + path)
			if err == nil {
				// open(2) of maps asks nobody: read(2) does
				_, err = f.Read(make([]byte, 1))
				f.Close()
			}
			if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
				errs = append(errs, fmt.Errorf("%s opens %s: %v", who, path, err))
			}
		}
	}
	if err := unix.Setgroups(nil); err != nil {
		return err
	}
	// Keep CAP_SETUID for the second change.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	setuid := [2]unix.CapUserData{{Permitted: 1 << unix.CAP_SETUID}}
	if err := unix.Capset(&header, &setuid[0]); err != nil {
		return err
	}
	try("root")
	setuid[0].Effective = setuid[0].Permitted
	if err := unix.Capset(&header, &setuid[0]); err != nil {
		return err
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
		return errno
	}
	try("nobody")
	return errors.Join(errs...)
}
