package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == insideName {
		os.Exit(inside(os.Args[1:]))
	}
	testenv.Private()
	if root := os.Getenv("PODBOX_TEST_RUN"); root != "" {
		runForever(root)
	}
	if root := os.Getenv("PODBOX_TEST_GATE"); root != "" {
		waitForever(root)
	}
	goleak.VerifyTestMain(m)
}

var bg = context.Background()

func newPod(t testing.TB, spec sandbox.Spec) *sandbox.Sandbox {
	t.Helper()
	testenv.NeedRoot(t)
	root := t.TempDir()
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	rt, err := sandbox.Open(sandbox.Options{Root: root, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	spec.Name = "p"
	pod, err := rt.Create(bg, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pod.Remove(bg); err != nil {
			t.Error(err)
		}
		rt.Close()
	})
	return pod
}

func command(args ...string) *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=" + DefaultPath}}}
}

// output runs a program to its end and returns what it wrote.
func output(t testing.TB, pod *sandbox.Sandbox, spec *specs.Spec, stdin io.Reader) (string, int) {
	t.Helper()
	var out bytes.Buffer
	p, err := Start(bg, pod, spec, IO{Stdin: stdin, Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	status, err := p.Wait(bg)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), status
}

func TestView(t *testing.T) {
	pod := newPod(t, sandbox.Spec{Hostname: "inside", Hosts: []sandbox.Host{{Name: "other", IP: netns.Gateway}}})
	out, status := output(t, pod, command("sh", "-c", `
hostname; cat /etc/hosts; ls /sys/class/net; stat -f -c %T /dev/shm; readlink /proc/self/ns/net
test -e /etc/hostname && cat /etc/hostname; true`), nil)
	if status != 0 {
		t.Errorf("status %d: %s", status, out)
	}
	host, _ := os.Readlink("/proc/self/ns/net")
	for _, want := range []string{"inside\n", "169.254.1.1\tother\n", "10.88.0.2\tinside\n", "\neth0\nlo\n", "tmpfs\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, host) {
		t.Error("in the host's network namespace")
	}
	// The host sees nothing of it.
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(b), "podbox") {
		t.Errorf("mounts on the host: %v", err)
	}
}

// TestNames looks at a pod's names from inside a container.
func TestNames(t *testing.T) {
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	pod := newPod(t, sandbox.Spec{
		Hostname: "web", Domain: "sub.ns.svc.cluster.local", HostnameIsFQDN: true,
		DNS:   sandbox.DNS{Only: true, Servers: []netip.Addr{one}, Options: []string{"ndots:2", "rotate"}},
		Hosts: []sandbox.Host{{Name: "foo", IP: one}, {Name: "x", IP: two}, {Name: "bar", IP: one}},
	})
	const fqdn = "web.sub.ns.svc.cluster.local"
	got, _ := output(t, pod, container(t, newRootfs(t), "hostname; cat /etc/hostname /etc/resolv.conf; grep -v local /etc/hosts; grep web /etc/hosts"), nil)
	if want := fqdn + "\n" + fqdn + "\noptions ndots:2 rotate\nnameserver 10.0.0.1\n10.0.0.1\tfoo\tbar\n10.0.0.2\tx\n10.88.0.2\t" + fqdn + "\tweb\n"; !strings.HasPrefix(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// On the host's network a pod has the host's names before its own.
	host, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	pod = newPod(t, sandbox.Spec{Network: netns.Host(), Hosts: []sandbox.Host{{Name: "foo", IP: one}}})
	got, _ = output(t, pod, container(t, newRootfs(t), "cat /etc/hosts"), nil)
	if want := string(host) + "10.0.0.1\tfoo\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestStatus(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	for script, want := range map[string]int{
		"exit 0": 0, "exit 7": 7, "exit 255": 255, "kill -TERM $$": 143, "kill -KILL $$": 137,
	} {
		if _, got := output(t, pod, command("sh", "-c", script), nil); got != want {
			t.Errorf("%s: %d, want %d", script, got, want)
		}
	}
	for _, tt := range []struct {
		spec *specs.Spec
		want error
	}{
		{command("nosuchprogram"), unix.ENOENT},
		{command("/nonexistent/program"), unix.ENOENT},
		{command("/etc/passwd"), unix.EACCES},
		{command("/proc"), unix.EACCES},
	} {
		var ee *spawn.ExecError
		_, err := Start(bg, pod, tt.spec, IO{})
		if !errors.As(err, &ee) || !errors.Is(err, tt.want) {
			t.Errorf("%v: %v, want %v", tt.spec.Process.Args, err, tt.want)
		}
	}
	bad := command("true")
	bad.Process.Cwd = "/nonexistent"
	var call *spawn.Error
	if _, err := Start(bg, pod, bad, IO{}); !errors.As(err, &call) || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("missing directory: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	spec := command("sh", "-c", "id -u; id -g; id -G; umask; ulimit -n; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; pwd")
	mask := uint32(0o27)
	spec.Process.User = specs.User{UID: 1234, GID: 2345, AdditionalGids: []uint32{3456, 4567}, Umask: &mask}
	spec.Process.NoNewPrivileges = true
	spec.Process.Cwd = "/tmp"
	spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 77, Hard: 88}}
	out, _ := output(t, pod, spec, nil)
	want := "1234\n2345\n2345 3456 4567\n0027\n77\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n/tmp\n"
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	if out, _ := output(t, pod, command("sh", "-c", "ulimit -Sn; ls /proc/self/fd | wc -l"), nil); out != "1024\n4\n" {
		t.Errorf("files: %q", out)
	}
}

func TestStreams(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	big := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB
	if out, _ := output(t, pod, command("cat"), strings.NewReader(big)); out != big {
		t.Errorf("got %d bytes back of %d", len(out), len(big))
	}
	// Input that never ends does not keep Wait.
	r, w := io.Pipe()
	if _, status := output(t, pod, command("true"), r); status != 0 {
		t.Errorf("status %d", status)
	}
	w.Close()
	r.Close()
	// Without input there is none.
	if out, _ := output(t, pod, command("cat"), nil); out != "" {
		t.Errorf("read %q from nowhere", out)
	}
	// A writer that fails ends the program, not the other way round.
	p, err := Start(bg, pod, command("yes"), IO{Stdout: failing{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(bg, 5*time.Second)
	defer cancel()
	if status, err := p.Wait(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("status %d, %v", status, err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestWaitContext(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	p, err := Start(bg, pod, command("sleep", "1000"), IO{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(bg, 20*time.Millisecond)
	defer cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	for range 2 {
		if status, err := p.Wait(bg); status != 143 || err != nil {
			t.Errorf("status %d, %v", status, err)
		}
	}
	if err := p.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal after the end: %v", err)
	}
}

func TestTerminal(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	spec := command("sh", "-c", "stty size; tty >/dev/null && echo terminal; read x; echo got $x")
	spec.Process.Terminal = true
	spec.Process.ConsoleSize = &specs.Box{Width: 91, Height: 17}
	out, status := output(t, pod, spec, strings.NewReader("hello\n"))
	if status != 0 || !strings.Contains(out, "17 91") || !strings.Contains(out, "terminal") || !strings.Contains(out, "got hello") {
		t.Errorf("%d: %q", status, out)
	}
	cat := command("cat")
	cat.Process.Terminal = true
	if out, status := output(t, pod, cat, strings.NewReader("line\n")); status != 0 || !strings.Contains(out, "line") {
		t.Errorf("end of input: %d %q", status, out)
	}
}

func TestUnsupportedFields(t *testing.T) {
	for want, change := range map[string]func(*specs.Spec){
		"mounts[0].type proc":     func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/proc", Type: "proc"}} },
		"vm":                      func(s *specs.Spec) { s.VM = new(specs.VM) },
		"process.user.username":   func(s *specs.Spec) { s.Process.User.Username = "x" },
		"process.commandLine":     func(s *specs.Spec) { s.Process.CommandLine = "x" },
		"process.execCPUAffinity": func(s *specs.Spec) { s.Process.ExecCPUAffinity = new(specs.CPUAffinity) },
		"linux.devices":           func(s *specs.Spec) { s.Linux = &specs.Linux{Devices: make([]specs.LinuxDevice, 1)} },
		"linux.intelRdt":          func(s *specs.Spec) { s.Linux = &specs.Linux{IntelRdt: new(specs.LinuxIntelRdt)} },
		"linux.timeOffsets": func(s *specs.Spec) {
			s.Linux = &specs.Linux{TimeOffsets: make(map[string]specs.LinuxTimeOffset, 1)}
			s.Linux.TimeOffsets["x"] = specs.LinuxTimeOffset{}
		},
		"linux.namespaces[0].path": func(s *specs.Spec) {
			s.Linux = &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace, Path: "/x"}}}
		},
		"hooks.createContainer": func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateContainer: make([]specs.Hook, 1)} },
		"hooks.startContainer":  func(s *specs.Spec) { s.Hooks = &specs.Hooks{StartContainer: make([]specs.Hook, 1)} },
	} {
		s := command("true")
		change(s)
		if err := check(s); !errors.Is(err, ErrNotSupported) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, s := range []*specs.Spec{
		nil,
		{},
		{Process: &specs.Process{Cwd: "/"}},
		{Process: &specs.Process{Args: []string{""}, Cwd: "/"}},
		{Process: &specs.Process{Args: []string{"x"}, Cwd: "x"}},
		{Process: &specs.Process{Args: []string{"x\x00"}, Cwd: "/"}},
		{Process: &specs.Process{Args: []string{"x"}, Cwd: "/", Env: []string{"=x"}}},
		{Process: &specs.Process{Args: []string{"x"}, Cwd: "/", Rlimits: []specs.POSIXRlimit{{Type: "x"}}}},
		{Process: &specs.Process{Args: []string{"x"}, Cwd: "/", ConsoleSize: &specs.Box{Width: 1 << 17}}},
		{Process: command("true").Process, Hostname: "x"},
		{Process: command("true").Process, Root: &specs.Root{Path: "x"}},
		{Process: command("true").Process, Linux: &specs.Linux{Resources: new(specs.LinuxResources)}},
		{Process: command("true").Process, Linux: &specs.Linux{Sysctl: map[string]string{"kernel.panic": "1"}}},
		{Process: command("true").Process, Linux: &specs.Linux{Sysctl: map[string]string{"net.x": "1"}}},
		{Process: command("true").Process, Root: &specs.Root{Path: "/"}, Mounts: []specs.Mount{{Destination: "/", Type: "tmpfs"}}},
		{Process: command("true").Process, Root: &specs.Root{Path: "/"}, Mounts: []specs.Mount{{Destination: "/x"}}},
		{Process: command("true").Process, Root: &specs.Root{Path: "/"}, Linux: &specs.Linux{MaskedPaths: []string{"x"}}},
	} {
		if err := check(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if err := check(command("true")); err != nil {
		t.Error(err)
	}
}

// Starting programs, well and badly, leaves nothing in this process.
func TestNothingLeft(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	once := func() {
		output(t, pod, command("true"), strings.NewReader("x"))
		if _, err := Start(bg, pod, command("nosuchprogram"), IO{Stdin: strings.NewReader("x"), Stdout: io.Discard}); err == nil {
			t.Error("started")
		}
		bad := command("true")
		bad.Process.Terminal, bad.Process.Cwd = true, "/nonexistent"
		if _, err := Start(bg, pod, bad, IO{}); err == nil {
			t.Error("started")
		}
	}
	for range 5 {
		once()
	}
	i, _ := pod.Info()
	before, threads := testenv.Look(t, filepath.Dir(filepath.Dir(i.Dir))), testenv.Threads(t)
	for range 100 {
		once()
	}
	before.Same(t, filepath.Dir(filepath.Dir(i.Dir)), "after 300 starts")
	for range 100 {
		if testenv.Threads(t) <= threads+4 {
			return
		}
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d threads, before %d", testenv.Threads(t), threads)
}

// 64 programs at once.
func TestManyAtOnce(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			var out bytes.Buffer
			p, err := Start(bg, pod, command("sh", "-c", fmt.Sprintf("echo %d >/dev/shm/%d; cat /dev/shm/%d", i, i, i)), IO{Stdout: &out})
			if err != nil {
				t.Error(err)
				return
			}
			if status, err := p.Wait(bg); status != 0 || err != nil || out.String() != fmt.Sprintln(i) {
				t.Errorf("status %d, %v: %q", status, err, out.String())
			}
		})
	}
	wg.Wait()
}

func BenchmarkStart(b *testing.B) {
	pod := newPod(b, sandbox.Spec{})
	for b.Loop() {
		p, err := Start(bg, pod, command("/bin/true"), IO{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Wait(bg); err != nil {
			b.Fatal(err)
		}
	}
}

// The same program without a pod, by os/exec.
func BenchmarkForkExec(b *testing.B) {
	for b.Loop() {
		if err := forkExec("/bin/true"); err != nil {
			b.Fatal(err)
		}
	}
}

func forkExec(path string) error { return exec.Command(path).Run() }
