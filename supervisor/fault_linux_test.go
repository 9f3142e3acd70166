package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A fault is what strace(1) does to one system call of each thread.
type fault struct {
	calls string
	what  string
}

// noise are calls that the Go runtime makes at any time, and others that do nothing.
const noise = "!futex,nanosleep,mmap,munmap,madvise,mprotect,brk,rt_sigprocmask,rt_sigaction,rt_sigreturn,sigaltstack,sched_yield," +
	"sched_getaffinity,epoll_create1,epoll_ctl,epoll_pwait,eventfd2,gettid,getpid,geteuid,tgkill,rseq,set_robust_list,arch_prctl,prlimit64,getrandom,uname"

var (
	killed = fault{noise, "signal=SIGKILL"}
	faults = []fault{
		{"openat,mkdirat,symlinkat,mknodat,renameat,renameat2", "error=ENOSPC"},
		{"write", "error=ENOSPC"},
		{"openat,openat2,newfstatat,fstat,read,getdents64", "error=EIO"},
		{"unlinkat,renameat,renameat2,flock,fchownat,fchmodat,fchown", "error=EIO"},
		{"open_tree,move_mount,fsopen,fsconfig,fsmount,mount_setattr,mount,setns,unshare,pivot_root", "error=EINVAL"},
		{"openat,openat2,pipe2,socket,pidfd_open,fcntl,accept4,dup3", "error=EMFILE"},
		{"clone3,clone,execve,execveat,waitid,pidfd_send_signal,connect,ioctl", "error=ENOMEM"},
	}
)

// inject returns the command that has a fault happen to the n-th such call of each
// thread of a process, and of its children until they execute something.
func (f fault) inject(n int, args ...string) *exec.Cmd {
	e := fmt.Sprintf("inject=%s:%s:when=%d", f.calls, f.what, n)
	return exec.Command("strace", append([]string{"-f", "-b", "execve", "-o", "/dev/null", "-e", e}, args...)...)
}

func needStrace(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	if err := exec.Command("strace", "-b", "execve", "-o", "/dev/null", "true").Run(); err != nil {
		t.Skip("needs strace 5.6 or later: ", err)
	}
}

// Each system call of the command in turn is its last one.
func TestCommandKilledAtCalls(t *testing.T) {
	injectInCommand(t, []fault{killed}, 150, rounds(4))
}

// Each system call of the command fails in turn. It fails with one line, or copes.
func TestCallsOfCommandFail(t *testing.T) {
	injectInCommand(t, faults, 30, rounds(2))
}

// The same for the supervisor. Another container of the pod does not notice.
func TestSupervisorKilledAtCalls(t *testing.T) {
	injectInSupervisor(t, []fault{killed}, 100, rounds(4))
}

func TestCallsOfSupervisorFail(t *testing.T) {
	injectInSupervisor(t, faults, 20, rounds(2))
}

// spread calls f with n numbers from 1 to most.
func spread(n, most int, f func(int)) {
	step := max(float64(most)/float64(n), 1)
	for k := step / 2; k < float64(most); k += step {
		f(int(k) + 1)
	}
}

func injectInCommand(t *testing.T, faults []fault, most, n int) {
	rt := newRuntime(t)
	needStrace(t)
	before, rootfs := lookAround(t, rt), newRootfs(t)
	exe, err := os.Readlink("/proc/self/exe")
	must(t, err)
	for _, tt := range trials {
		t.Run(tt.name, func(t *testing.T) {
			for _, f := range faults {
				spread(n, most, func(k int) {
					p := podIn(t, rt, "cut")
					if tt.prepare != nil {
						tt.prepare(t, p, rootfs)
					}
					plain := p.command(tt.verb, rootfs, tt.script, tt.more...)
					cmd := f.inject(k, append([]string{exe}, plain.Args[1:]...)...)
					cmd.Env = plain.Env
					out, err := runFor(t, cmd)
					how := fmt.Sprintf("%s of call %d of %s", f.what, k, f.calls)
					if f.what != killed.what && err != nil {
						oneLine(t, how, out)
					}
					after(t, p, tt, rootfs, how)
				})
			}
			before.same(t, "after many faults")
		})
	}
}

// oneLine fails the test unless an error was told in a line, or the Go runtime itself
// gave up.
func oneLine(t *testing.T, how, out string) {
	t.Helper()
	if strings.Contains(out, "fatal error: ") || strings.Contains(out, "runtime: ") {
		return
	}
	if out = strings.TrimSuffix(out, "\n"); out == "" || strings.Contains(out, "panic") || strings.Count(out, "\n") > 2 {
		t.Errorf("%s: told in %q", how, out)
	}
}

// runFor runs a command, which must end.
func runFor(t *testing.T, cmd *exec.Cmd) (string, error) {
	t.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	must(t, cmd.Start())
	late := time.AfterFunc(20*time.Second, func() {
		t.Errorf("%v does not end", cmd)
		_ = cmd.Process.Kill()
	})
	defer late.Stop()
	err := cmd.Wait()
	return out.String(), err
}

// after checks what is left when a verb was cut short.
func after(t *testing.T, p *Pod, tt trial, rootfs, how string) {
	t.Helper()
	honest(t, p, how)
	if !t.Failed() {
		again(t, p, tt, rootfs)
	}
	if err := verbs["rm -f"](p, Spec{}); err != nil {
		t.Errorf("%s: remove: %v", how, err)
	}
	if t.Failed() {
		t.Fatal(how)
	}
}

func injectInSupervisor(t *testing.T, faults []fault, most, n int) {
	rt := newRuntime(t)
	needStrace(t)
	before, rootfs := lookAround(t, rt), newRootfs(t)
	for _, tt := range trials {
		if tt.verb == "run" {
			continue // has none
		}
		t.Run(tt.name, func(t *testing.T) {
			for _, f := range faults {
				spread(n, most, func(k int) {
					p := podIn(t, rt, "cut")
					if tt.prepare != nil {
						tt.prepare(t, p, rootfs)
					}
					how := fmt.Sprintf("supervisor: %s of call %d of %s", f.what, k, f.calls)
					var other *Container
					if tt.name != "start" { // it is in all others that there is a supervisor
						spec := shell(rootfs, "trap exit TERM; sleep 1000 & wait")
						spec.Name = "other"
						var err error
						other, err = p.RunBackground(bg, spec)
						must(t, err)
					}
					stop := f.attach(t, p, k)
					out, err := runFor(t, p.command(tt.verb, rootfs, tt.script, tt.more...))
					if err != nil {
						oneLine(t, how, out)
					}
					stop()
					if other != nil && (tt.verb[0] == 'r' && tt.verb != "rm -f" || strings.HasSuffix(tt.verb, "-c")) {
						if s, err := other.Status(); err != nil || s.State != Running {
							t.Errorf("%s: the other container: %+v, %v", how, s, err)
						}
					}
					after(t, p, tt, rootfs, how)
				})
			}
			before.same(t, "after many faults")
		})
	}
}

// attach has a fault happen to a pod's supervisor.
func (f fault) attach(t *testing.T, p *Pod, n int) (stop func()) {
	t.Helper()
	conn, err := p.dial()
	if err != nil {
		return func() {}
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	must(t, err)
	var cred *unix.Ucred
	must(t, raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }))
	must(t, err)
	cmd := f.inject(n, "-p", strconv.Itoa(int(cred.Pid)))
	must(t, cmd.Start())
	for traced := false; !traced; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cred.Pid))
		traced = err != nil || !strings.Contains(string(b), "TracerPid:\t0\n")
	}
	return func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	}
}
