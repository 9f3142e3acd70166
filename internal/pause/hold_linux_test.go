package pause_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait. Nothing here takes more than some milliseconds.
const patience = 5 * time.Second

// A pod is a started pause with the creator's end of its gate.
type pod struct {
	cmd    *exec.Cmd
	gate   *os.File
	stderr bytes.Buffer  // of the launch helper; read after exited
	exited chan struct{} // closed when cmd is waited for
}

// start has the launch helper become the pause, in a root as podbox makes it.
func start(t *testing.T, program []byte, args ...string) *pod {
	t.Helper()
	return startCommand(t, program, helper("launch", args...))
}

// startBare executes the program at once, on the host's root. Signals are blocked
// from the fork on, whereas the Go runtime of the launch helper would unblock
// them for a while.
func startBare(t *testing.T, program []byte) *pod {
	t.Helper()
	return startCommand(t, program, &exec.Cmd{Path: "/proc/self/fd/4", Args: []string{"pause: web"}})
}

// startCommand runs cmd as PID 1 of new namespaces and does not wait for what it
// does there. Descriptor 4 is the program.
func startCommand(t *testing.T, program []byte, cmd *exec.Cmd) *pod {
	t.Helper()
	needRoot(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	memfd, err := sealed(program)
	if err != nil {
		t.Fatal(err)
	}
	defer memfd.Close()

	p := &pod{cmd: cmd, gate: write, exited: make(chan struct{})}
	cmd.Env = []string{"TMPDIR=" + os.TempDir()}
	cmd.Stderr = &p.stderr
	cmd.ExtraFiles = []*os.File{read, memfd}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		Setsid:     true,
	}
	err = onThread(func() error {
		if err := blockSignals(); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err != nil {
		write.Close()
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.exited
		write.Close()
	})
	return p
}

// hold starts a pause and lets it through the gate and behind its seal.
func hold(t *testing.T, program []byte, args ...string) *pod {
	t.Helper()
	p := start(t, program, args...)
	p.open(t)
	p.await(t, "sealed and asleep", p.dormant)
	return p
}

// sealed returns program in a memfd that nobody can change.
func sealed(program []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("podbox", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("podbox", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "podbox")
	if _, err := f.Write(program); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal: %w", err)
	}
	return f, nil
}

func helper(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{helperName, name}, args...)
	return cmd
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// enter starts cmd in the pod's PID namespace.
func (p *pod) enter(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	return onThread(func() error {
		pidfd, err := unix.PidfdOpen(p.pid(), 0)
		if err != nil {
			return err
		}
		defer unix.Close(pidfd)
		if err := unix.Setns(pidfd, unix.CLONE_NEWPID); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return cmd.Start()
	})
}

// run runs a helper to its end in the pod's PID namespace and returns what it says.
func (p *pod) run(t *testing.T, name string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := helper(name)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := p.enter(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	return out.String()
}

func (p *pod) pid() int { return p.cmd.Process.Pid }

// open lets the pause through the gate.
func (p *pod) open(t *testing.T) {
	t.Helper()
	if _, err := p.gate.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	p.gate.Close()
}

func (p *pod) signal(t *testing.T, sig unix.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// proc reads a file of the pause's /proc directory.
func (p *pod) proc(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.pid(), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// await polls until ok, and fails if the pause ends before.
func (p *pod) await(t *testing.T, what string, ok func(t *testing.T) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(t); time.Sleep(time.Millisecond) {
		select {
		case <-p.exited:
			t.Fatalf("%v while waiting until it is %s\n%s", p.cmd.ProcessState, what, &p.stderr)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("not %s:\n%s", what, p.proc(t, "status"))
		}
	}
}

// atGate tells that the pause took its name, the last thing before the gate.
func (p *pod) atGate(t *testing.T) bool {
	status := p.status()
	return field(status, "Name") == "pause" && strings.HasPrefix(field(status, "State"), "S")
}

// dormant tells that the pause is sealed and has no signal left to look at.
func (p *pod) dormant(t *testing.T) bool {
	status := p.status()
	return field(status, "Seccomp") == "2" && strings.HasPrefix(field(status, "State"), "S") &&
		strings.Trim(field(status, "SigPnd")+field(status, "ShdPnd"), "0") == ""
}

// status is empty if the process is gone.
func (p *pod) status() []byte {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	return b
}

// field returns the value of one line of a file such as /proc/PID/status.
func field(status []byte, name string) string {
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}

// wantExit waits for the pause to leave by itself.
func (p *pod) wantExit(t *testing.T, status int) {
	t.Helper()
	select {
	case <-p.exited:
		if got := p.cmd.ProcessState; got.ExitCode() != status {
			t.Errorf("%v, want %d\n%s", got, status, &p.stderr)
		}
	case <-time.After(patience):
		t.Errorf("still there, want exit status %d:\n%s", status, p.status())
	}
}

func TestLeavesForHost(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT} {
			p := hold(t, program)
			p.signal(t, sig)
			p.wantExit(t, 0)
		}
	})
}

func TestEarlySignalIsKept(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		t.Run("at once", func(t *testing.T) {
			for range 10 {
				p := startBare(t, program)
				p.signal(t, unix.SIGTERM)
				p.open(t)
				p.wantExit(t, 0)
			}
		})
		t.Run("at the gate", func(t *testing.T) {
			p := start(t, program)
			p.await(t, "at the gate", p.atGate)
			p.signal(t, unix.SIGTERM)
			p.open(t)
			p.wantExit(t, 0)
		})
	})
}

func TestOtherSignalsFromHost(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		p := hold(t, program)
		for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGCHLD, unix.SIGALRM} {
			p.signal(t, sig)
		}
		p.signal(t, unix.SIGSTOP)
		p.await(t, "stopped", func(t *testing.T) bool {
			return strings.HasPrefix(field(p.status(), "State"), "T")
		})
		p.signal(t, unix.SIGCONT)
		p.await(t, "dormant", p.dormant)
		p.signal(t, unix.SIGTERM)
		p.wantExit(t, 0)
	})
}

func TestGate(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		t.Run("closed", func(t *testing.T) {
			p := start(t, program)
			p.await(t, "at the gate", p.atGate)
			p.gate.Close()
			p.wantExit(t, 1)
		})
		t.Run("closed before exec", func(t *testing.T) {
			p := start(t, program)
			p.gate.Close()
			p.wantExit(t, 1)
		})
		t.Run("none", func(t *testing.T) {
			p := start(t, program, "-no-gate")
			p.await(t, "dormant", p.dormant)
			p.signal(t, unix.SIGTERM)
			p.wantExit(t, 0)
		})
	})
}

func TestProcMount(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		t.Run("shared", func(t *testing.T) {
			p := hold(t, program, "--", "-p", "0123abcd", "/run/podbox")
			if got := string(p.proc(t, "root/proc/1/comm")); got != "pause\n" {
				t.Errorf("/proc/1/comm is %q", got)
			}
			if mounts := string(p.proc(t, "mountinfo")); !strings.Contains(mounts, "/ /proc rw,nosuid,nodev,noexec") {
				t.Errorf("mounts:\n%s", mounts)
			}
		})
		t.Run("not shared", func(t *testing.T) {
			p := hold(t, program, "--", "0123abcd", "-p")
			if mounts := string(p.proc(t, "mountinfo")); strings.Count(mounts, "\n") != 1 {
				t.Errorf("mounts:\n%s", mounts)
			}
		})
		t.Run("impossible", func(t *testing.T) {
			p := start(t, program, "-dirs", "shm", "--", "-p")
			p.wantExit(t, 3)
		})
	})
}

// TestKeepsNothing looks at the pause from the host.
func TestKeepsNothing(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		for _, args := range [][]string{nil, {"--", "-p"}} {
			p := start(t, program, args...)
			p.await(t, "at the gate", p.atGate)
			// SIGTERM and SIGINT. While it waits for them the kernel shows none.
			if got := field(p.proc(t, "status"), "SigBlk"); got != "0000000000004002" {
				t.Errorf("SigBlk at the gate: %q", got)
			}
			p.open(t)
			p.await(t, "dormant", p.dormant)
			status := p.proc(t, "status")
			const none = "0000000000000000"
			for name, want := range map[string]string{
				"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
				"NoNewPrivs": "1", "Seccomp": "2", "Threads": "1", "NSpid": fmt.Sprintf("%d\t1", p.pid()),
				"SigIgn": "0000000000010000", // SIGCHLD
				"SigCgt": none,
			} {
				got := field(status, name)
				if mask, err := strconv.ParseUint(got, 16, 64); err == nil && name == "SigIgn" {
					// Whoever started us may ignore the two signals that the C
					// library keeps to itself, 32 and 33.
					got = fmt.Sprintf("%016x", mask&^(3<<31))
				}
				if got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid()))
			if err != nil {
				t.Fatal(err)
			}
			if len(fds) != 3 {
				t.Errorf("open files %v, want 0 to 2", fds)
			}
			if environ := p.proc(t, "environ"); len(environ) != 0 {
				t.Errorf("environment %q", environ)
			}
			rollup := p.proc(t, "smaps_rollup")
			private := kilobytes(t, rollup, "Private_Clean") + kilobytes(t, rollup, "Private_Dirty")
			t.Logf("private memory %d KB", private)
			if private > 16 {
				t.Errorf("private memory %d KB, want at most 16\n%s", private, rollup)
			}
		}
	})
}

func kilobytes(t *testing.T, rollup []byte, name string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(field(rollup, name), " kB"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLendsNothing(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		p := hold(t, program, "--", "-p")
		p.run(t, "refused")
		want := "root proc\nroot shm\ncwd /\nfd/0 /dev/null\nfd/1 /dev/null\nfd/2 /dev/null\n"
		if got := p.run(t, "look"); got != want {
			t.Errorf("root inside finds\n%swant\n%s", got, want)
		}
	})
}

func TestReapsOrphans(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		p := hold(t, program, "--", "-p")
		before := field(p.proc(t, "status"), "voluntary_ctxt_switches")

		stdin, life, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer life.Close()
		cmd := helper("orphans")
		cmd.Stdin, cmd.Stderr = stdin, os.Stderr
		err = p.enter(cmd)
		stdin.Close()
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil {
			t.Fatal(err)
		}
		adopted := p.children(t)
		if len(adopted) != orphanCount/2 || slices.Contains(adopted, "Z") {
			t.Errorf("%d children, want %d and no zombie: %v", len(adopted), orphanCount/2, adopted)
		}
		life.Close()
		p.await(t, "without children", func(t *testing.T) bool { return len(p.children(t)) == 0 })

		if after := field(p.proc(t, "status"), "voluntary_ctxt_switches"); after != before {
			t.Errorf("woken: %s context switches, then %s", before, after)
		}
		p.signal(t, unix.SIGTERM)
		p.wantExit(t, 0)
	})
}

// children returns the states of the pause's children.
func (p *pod) children(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		// PID (COMM) STATE PPID …, see proc_pid_stat(5)
		f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if string(f[1]) == strconv.Itoa(p.pid()) {
			states = append(states, string(f[0]))
		}
	}
	return states
}

func TestResistsMembers(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		p := hold(t, program, "--", "-p")
		p.run(t, "attack")
		p.await(t, "dormant", p.dormant)
		p.signal(t, unix.SIGTERM)
		p.wantExit(t, 0)
	})
}

// TestResistsLostSiginfo has a member forge a signal with an empty siginfo.
func TestResistsLostSiginfo(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		needRoot(t)
		if !hasCapability(t, unix.CAP_SYS_RESOURCE) {
			t.Skip("needs CAP_SYS_RESOURCE: without it the pause cannot lift its RLIMIT_SIGPENDING")
		}
		p := hold(t, program, "-sigpending", "0", "--", "-p")
		p.run(t, "forge")
		p.await(t, "dormant", p.dormant)
		p.signal(t, unix.SIGTERM)
		p.wantExit(t, 0)
	})
}

func hasCapability(t *testing.T, capability uint) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}
