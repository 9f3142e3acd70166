package launcher

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/sandbox"
)

// A box is a container that sleeps, for others to enter.
type box struct {
	t     testing.TB
	pod   *sandbox.Sandbox
	spec  *specs.Spec
	pidfd *os.File
}

func newBox(t testing.TB, pod *sandbox.Sandbox, spec *specs.Spec) *box {
	t.Helper()
	p, _ := running(t, pod, spec)
	pidfd, err := proc.OpenPID(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pidfd.Close() })
	return &box{t, pod, spec, pidfd}
}

// process returns the container's spec for another program.
func (b *box) process(args ...string) *specs.Spec {
	s := *b.spec
	s.Process = new(specs.Process)
	*s.Process = *b.spec.Process
	s.Process.Args = args
	return &s
}

// exec starts a program in the container, and returns what it writes and its status.
func (b *box) exec(s *specs.Spec) (string, int, error) {
	var out bytes.Buffer
	p, err := Exec(bg, b.pod, b.pidfd, s, Options{IO: IO{Stdout: &out, Stderr: &out}})
	if err != nil {
		return "", 0, err
	}
	status, err := p.Wait(bg)
	return out.String(), status, err
}

func TestExecProcess(t *testing.T) {
	pod := newPod(t, sandbox.Spec{Hostname: "pod"})
	s := container(t, newRootfs(t), "")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UTSNamespace}, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	s.Hostname = "box"
	b := newBox(t, pod, s)
	adj := 300
	for _, tt := range []struct {
		name, script string
		change       func(*specs.Spec)
		want         string
	}{
		{"namespaces", "hostname; ls /sys/class/net /proc/sys/net/ipv4/conf; cat /proc/1/comm", nil, "box\n/proc/sys/net/ipv4/conf:\nall\ndefault\nlo\n\n/sys/class/net:\nlo\nsleep\n"},
		{"limits", `[ "$(grep pending /proc/self/limits)" = "$(grep pending /proc/1/limits)" ] && ulimit -n`, nil, "1024\n"},
		{"user", "id -u; id -g; grep CapEff /proc/self/status", func(s *specs.Spec) { s.Process.User = specs.User{UID: 5, GID: 6} }, "5\n6\nCapEff:\t0000000000000000\n"},
		{"directory", "pwd", func(s *specs.Spec) { s.Process.Cwd = "/dev/shm" }, "/dev/shm\n"},
		{"directory in proc", "pwd", func(s *specs.Spec) { s.Process.Cwd = "/proc/sys/kernel" }, "/proc/sys/kernel\n"},
		{"filter", "grep Seccomp: /proc/self/status; mkdir /x 2>&1", func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno}}}
		}, "Seccomp:\t2\nmkdir: can't create directory '/x': Operation not permitted\n"},
		{"oom score", "sleep .05; cat /proc/self/oom_score_adj", func(s *specs.Spec) { s.Process.OOMScoreAdj = &adj }, "300\n"},
		{"terminal", "tty; stty size; [ -e /dev/console ] || echo none", func(s *specs.Spec) {
			s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Width: 80, Height: 25}
		}, "/dev/pts/0\r\n25 80\r\nnone\r\n"},
	} {
		e := b.process("sh", "-c", tt.script)
		linux := *e.Linux
		e.Linux = &linux
		if tt.change != nil {
			tt.change(e)
		}
		if got, _, err := b.exec(e); got != tt.want || err != nil {
			t.Errorf("%s: got %q, want %q, %v", tt.name, got, tt.want, err)
		}
	}
	if _, status, err := b.exec(b.process("sh", "-c", "exit 9")); status != 9 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	var ee *spawn.ExecError
	if _, _, err := b.exec(b.process("nosuchprogram")); !errors.As(err, &ee) || !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
	bad := b.process("true")
	bad.Process.Cwd = "/new"
	if _, _, err := b.exec(bad); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "process.cwd") {
		t.Error(err)
	}
}

// What Exec starts ends with the container, and nothing enters one that is gone.
func TestExecEnd(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	s := container(t, newRootfs(t), "")
	first, _ := running(t, pod, s)
	pidfd, err := proc.OpenPID(first.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	b := &box{t, pod, s, pidfd}
	// By any of its processes one finds the container.
	p, err := Exec(bg, pod, pidfd, b.process("sleep", "1000"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := proc.OpenPID(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	other := &box{t, pod, s, second}
	if out, _, err := other.exec(b.process("sh", "-c", "cat /proc/1/comm")); out != "sleep\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	_ = first.Signal(unix.SIGKILL)
	if status, err := p.Wait(bg); status != 137 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	for _, b := range []*box{b, other} {
		if _, _, err := b.exec(b.process("true")); !errors.Is(err, proc.ErrGone) {
			t.Errorf("into a container that is gone: %v", err)
		}
	}
}

// Of many that start a program and wait until they may let it go on, none keeps the
// children of others when their parent dies: see gateCalls.
func TestGateOfTheDead(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	pids := startDying(t, pod)
	deadline := time.Now().Add(3 * time.Second)
	for _, pid := range pids {
		for !ended(t, pid) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d is still there", pid)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}
