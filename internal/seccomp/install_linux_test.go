package seccomp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The test program does one of these instead of its tests.
const (
	probeEnv  = "PODBOX_SECCOMP_PROBE"  // makes a system call under a filter
	launchEnv = "PODBOX_SECCOMP_LAUNCH" // executes its arguments under a filter
	workEnv   = "PODBOX_SECCOMP_WORK"   // does what a Go program does
)

func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv(probeEnv) != "":
		err = probe(os.Getenv(probeEnv))
	case os.Getenv(launchEnv) != "":
		err = launch(os.Getenv(launchEnv), os.Args[1:])
	case os.Getenv(workEnv) != "":
		err = work()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(200)
	}
}

// A trial is a system call to be made under a profile.
type trial struct {
	Profile *specs.LinuxSeccomp
	Number  uintptr
	Args    [6]uintptr
}

// probe ends the process with the error number of a system call.
func probe(text string) error {
	var t trial
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	if err := confine(t.Profile); err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall6(t.Number, t.Args[0], t.Args[1], t.Args[2], t.Args[3], t.Args[4], t.Args[5])
	os.Exit(int(errno))
	return nil
}

func launch(text string, argv []string) error {
	var s specs.LinuxSeccomp
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	if err := confine(&s); err != nil {
		return err
	}
	os.Unsetenv(launchEnv)
	return os.NewSyscallError("execve", unix.Exec(path, argv, os.Environ()))
}

// work starts threads, talks over sockets and runs a program.
func work() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			fmt.Fprint(c, "hello")
			c.Close()
		}
	}()
	c, err := net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
	if err != nil {
		return err
	}
	var heard bytes.Buffer
	if _, err := heard.ReadFrom(c); err != nil || heard.String() != "hello" {
		return fmt.Errorf("heard %q: %w", &heard, err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			runtime.LockOSThread()
			time.Sleep(time.Millisecond)
		})
	}
	wg.Wait()
	return exec.Command("true").Run()
}

// confine puts the calling thread under a profile, for good.
func confine(s *specs.LinuxSeccomp) error {
	f, err := Compile(s)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	return install(f)
}

// install gives the calling thread a filter.
func install(f *Filter) error {
	p := f.Program()
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(f.Flags), uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(f)
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}

// rerun runs the test program in one of its other roles.
func rerun(t *testing.T, env string, value any, args ...string) (syscall.WaitStatus, string) {
	t.Helper()
	text, ok := value.(string)
	if !ok {
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), env+"="+text)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer late.Stop()
	err := cmd.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.Sys().(syscall.WaitStatus), output.String()
}

// An outcome is an error number, or death by SIGSYS.
type outcome int

const (
	fine   outcome = 0
	killed outcome = -1
)

func outcomeOf(t *testing.T, status syscall.WaitStatus, output string) outcome {
	t.Helper()
	switch {
	case status.Signaled() && status.Signal() == unix.SIGSYS:
		return killed
	case !status.Exited() || status.ExitStatus() == 200:
		t.Fatalf("status %#x: %s", status, output)
	}
	return outcome(status.ExitStatus())
}

func denylist(rules ...specs.LinuxSyscall) *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, Syscalls: rules,
		Architectures: []specs.Arch{specs.ArchX86, specs.ArchX32, specs.ArchARM},
	}
}

func does(action specs.LinuxSeccompAction, names ...string) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: names, Action: action}
}

// TestInstalled makes system calls under filters and sees what the kernel does.
func TestInstalled(t *testing.T) {
	docker := defaultProfile(t, dockerCaps)
	errno := uint(unix.ENOMSG)
	odd := specs.LinuxSyscall{Names: []string{"getppid"}, Action: specs.ActErrno, ErrnoRet: &errno}
	const newAll = unix.CLONE_NEWNS | unix.CLONE_NEWUSER
	for _, test := range []struct {
		what    string
		profile *specs.LinuxSeccomp
		nr      uintptr
		args    [6]uintptr
		want    outcome
	}{
		{"getppid", docker, unix.SYS_GETPPID, [6]uintptr{}, fine},
		{"mount", docker, unix.SYS_MOUNT, [6]uintptr{}, outcome(unix.EPERM)},
		{"umount2", docker, unix.SYS_UMOUNT2, [6]uintptr{}, outcome(unix.EPERM)},
		{"keyctl", docker, unix.SYS_KEYCTL, [6]uintptr{}, outcome(unix.EPERM)},
		{"add_key", docker, unix.SYS_ADD_KEY, [6]uintptr{}, outcome(unix.EPERM)},
		{"bpf", docker, unix.SYS_BPF, [6]uintptr{}, outcome(unix.EPERM)},
		{"perf_event_open", docker, unix.SYS_PERF_EVENT_OPEN, [6]uintptr{}, outcome(unix.EPERM)},
		{"io_uring_setup", docker, unix.SYS_IO_URING_SETUP, [6]uintptr{}, outcome(unix.EPERM)},
		{"unshare", docker, unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_NEWUSER}, outcome(unix.EPERM)},
		{"clone, namespaces", docker, unix.SYS_CLONE, [6]uintptr{newAll}, outcome(unix.EPERM)},
		{"clone, invalid flags", docker, unix.SYS_CLONE, [6]uintptr{unix.CLONE_SIGHAND}, outcome(unix.EINVAL)},
		{"clone3", docker, unix.SYS_CLONE3, [6]uintptr{}, outcome(unix.ENOSYS)},
		{"chroot, with the capability", docker, unix.SYS_CHROOT, [6]uintptr{}, outcome(unix.EFAULT)},
		{"chroot, without", defaultProfile(t, nil), unix.SYS_CHROOT, [6]uintptr{}, outcome(unix.EPERM)},
		{"socket, unix", docker, unix.SYS_SOCKET, [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM}, fine},
		{"socket, vsock", docker, unix.SYS_SOCKET, [6]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}, outcome(unix.EPERM)},
		{"socket, alg", docker, unix.SYS_SOCKET, [6]uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET}, outcome(unix.EPERM)},
		{"personality, query", docker, unix.SYS_PERSONALITY, [6]uintptr{0xffff_ffff}, fine},
		{"personality, not randomized", docker, unix.SYS_PERSONALITY, [6]uintptr{0x40000}, outcome(unix.EPERM)},
		{"a call that is not there yet", docker, 1000, [6]uintptr{}, outcome(unix.ENOSYS)},
		{"number -1", docker, ^uintptr(0), [6]uintptr{}, outcome(unix.ENOSYS)},

		{"errnoRet", denylist(odd), unix.SYS_GETPPID, [6]uintptr{}, outcome(unix.ENOMSG)},
		{"kill", denylist(does(specs.ActKillProcess, "getppid")), unix.SYS_GETPPID, [6]uintptr{}, killed},
		{"log", denylist(does(specs.ActLog, "getppid")), unix.SYS_GETPPID, [6]uintptr{}, fine},
		{"trace, and nobody does", denylist(does(specs.ActTrace, "getppid")), unix.SYS_GETPPID, [6]uintptr{}, outcome(unix.ENOSYS)},
		{"another call", denylist(does(specs.ActKillProcess, "getppid")), unix.SYS_GETPID, [6]uintptr{}, fine},
		{"high half", denylist(with(does(specs.ActErrno, "getppid"), equal(0, 1))), unix.SYS_GETPPID, [6]uintptr{1<<32 | 1}, fine},
		{"sixth argument", denylist(with(does(specs.ActErrno, "getppid"), equal(5, 7<<32|1))), unix.SYS_GETPPID, [6]uintptr{5: 7<<32 | 1}, outcome(unix.EPERM)},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			status, output := rerun(t, probeEnv, trial{test.profile, test.nr, test.args})
			if got := outcomeOf(t, status, output); got != test.want {
				t.Errorf("%d (%v), want %d (%v)", got, unix.Errno(got), test.want, unix.Errno(test.want))
			}
		})
	}
}

// TestPrograms runs ordinary programs under Docker's profile, where it has something
// to do: each is killed where the profile says so.
func TestPrograms(t *testing.T) {
	docker := defaultProfile(t, dockerCaps)
	const threads = "import threading,socket,subprocess,os\n" +
		"t=threading.Thread(target=lambda: socket.socket().close()); t.start(); t.join()\n" +
		"print(subprocess.check_output(['sh','-c','echo sh']), os.cpu_count() > 0)"
	for _, test := range []struct {
		argv []string
		want string
	}{
		{[]string{"sh", "-c", "ls / | wc -l && grep Seccomp: /proc/self/status"}, "Seccomp:\t2"},
		{[]string{"sh", "-c", "(echo sub; exit 3); echo $?"}, "sub\n3"},
		{[]string{"busybox", "sh", "-c", "echo $(busybox uname); busybox ls / | busybox head -n 1"}, "Linux"},
		{[]string{"python3", "-c", threads}, "b'sh\\n' True"},
	} {
		if _, err := exec.LookPath(test.argv[0]); err != nil && test.argv[0] != "sh" {
			t.Logf("without %s", test.argv[0])
			continue
		}
		status, output := rerun(t, launchEnv, docker, test.argv...)
		if status != 0 || !strings.Contains(output, test.want) {
			t.Errorf("%q: status %#x, %q, want %q", test.argv, status, output, test.want)
		}
	}
	t.Setenv(workEnv, "1")
	if status, output := rerun(t, launchEnv, docker, "/proc/self/exe"); status != 0 {
		t.Errorf("a Go program: status %#x, %q", status, output)
	}

	for _, action := range []specs.LinuxSeccompAction{specs.ActKill, specs.ActKillThread, specs.ActKillProcess, specs.ActTrap} {
		s := denylist(does(action, "getcwd"))
		if status, output := rerun(t, launchEnv, s, "sh", "-c", "cd /; exec pwd -P"); outcomeOf(t, status, output) != killed {
			t.Errorf("%s: status %#x, %q", action, status, output)
		}
	}
}
