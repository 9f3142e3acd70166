package launcher

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/sandbox"
)

// newRootfs makes a root directory with nothing but busybox in it.
func newRootfs(t testing.TB) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "true", "cat", "ls", "id", "stat", "mount", "hostname", "tty", "echo", "ip", "sleep", "ps", "mknod", "touch", "umount", "grep", "pwd"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func container(t testing.TB, rootfs, script string) *specs.Spec {
	t.Helper()
	s := Default(rootfs, "/bin/sh", "-c", script)
	s.Linux.Resources = nil
	if err := SetDefaultSeccomp(s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContainer(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	for _, tt := range []struct{ name, script, want string }{
		{"process 1", "echo $$", "1\n"},
		{"processes", "ls -d /proc/[0-9]*; true", "/proc/1\n"},
		{"root", "ls /", "bin\ndev\netc\nproc\nsys\n"},
		{"network", "ls /sys/class/net", "eth0\nlo\n"},
		{"hostname", "hostname; cat /etc/hostname", "p\np\n"},
		{"descriptors", "ls /proc/self/fd", "0\n1\n2\n3\n"},
		{"devices", "ls /dev", "core\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"},
		{"capabilities", "grep Cap /proc/self/status", "CapInh:\t0000000000000000\nCapPrm:\t00000000800405fb\nCapEff:\t00000000800405fb\nCapBnd:\t00000000800405fb\nCapAmb:\t0000000000000000\n"},
		{"no new privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"},
		{"seccomp", "grep Seccomp: /proc/self/status", "Seccomp:\t2\n"},
		{"masked", "cat /proc/keys /proc/timer_list; ls /sys/firmware", ""},
		{"read-only", "echo 1 2>&1 >/proc/sys/kernel/panic", "/bin/sh: can't create /proc/sys/kernel/panic: Read-only file system\n"},
		{"working directory", "pwd; echo $PWD", "/\n/\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, status := output(t, pod, container(t, root, tt.script), nil)
			if got != tt.want || status != 0 && tt.name != "read-only" {
				t.Errorf("status %d, got %q, want %q", status, got, tt.want)
			}
		})
	}
}

// A program that is started in a container is where the container is, with no more
// rights.
func TestExec(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	spec := container(t, newRootfs(t), "echo secret >/tmp.txt; exec sleep 1000")
	p, err := Start(bg, pod, spec, IO{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		p.Signal(unix.SIGKILL)
		p.Wait(bg)
	}()
	pidfd, err := proc.OpenPID(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	// The shell is to have become sleep before anybody looks.
	for end := time.Now().Add(testenv.Patience(5 * time.Second)); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID()))
		if err != nil || string(comm) == "sleep\n" {
			break
		}
	}
	for _, tt := range []struct{ name, script, want string }{
		{"processes", "ls -d /proc/[0-9]*; cat /proc/1/cmdline", "/proc/1\n/proc/%d\nsleep\x001000\x00"},
		{"root", "cat tmp.txt", "secret\n"},
		{"capabilities", "grep CapBnd /proc/self/status", "CapBnd:\t00000000800405fb\n"},
		{"descriptors", "ls /proc/self/fd", "0\n1\n2\n3\n"},
	} {
		var out bytes.Buffer
		s := *spec
		s.Process = &specs.Process{}
		*s.Process = *spec.Process
		s.Process.Args = []string{"/bin/sh", "-c", tt.script}
		q, err := Exec(bg, pod, pidfd, &s, Options{IO: IO{Stdout: &out, Stderr: &out}})
		if err != nil {
			t.Fatal(tt.name, err)
		}
		if status, err := q.Wait(bg); err != nil || status != 0 {
			t.Error(tt.name, status, err)
		}
		want := tt.want
		if strings.Contains(want, "%d") {
			var self int
			fmt.Sscanf(out.String(), "/proc/1\n/proc/%d\n", &self)
			want = fmt.Sprintf(want, self)
		}
		if out.String() != want {
			t.Errorf("%s: got %q, want %q", tt.name, out.String(), want)
		}
	}
}

func BenchmarkContainer(b *testing.B) {
	pod := newPod(b, sandbox.Spec{})
	root := newRootfs(b)
	for b.Loop() {
		spec := Default(root, "/bin/true")
		SetCgroup(spec, pod.Cgroup()+"/bench", spec.Linux.Resources)
		if err := SetDefaultSeccomp(spec); err != nil {
			b.Fatal(err)
		}
		p, err := Start(bg, pod, spec, IO{})
		if err != nil {
			b.Fatal(err)
		}
		if status, err := p.Wait(bg); err != nil || status != 0 {
			b.Fatal(status, err)
		}
	}
}

// The same program without a pod, by os/exec.
func BenchmarkForkExecBusybox(b *testing.B) {
	root := newRootfs(b)
	for b.Loop() {
		if err := forkExec(filepath.Join(root, "bin/true")); err != nil {
			b.Fatal(err)
		}
	}
}
