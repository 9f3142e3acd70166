package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/sandbox"
)

// runForever starts a program that does not end, and waits for it.
func runForever(root string) {
	rt, err := sandbox.Open(sandbox.Options{Root: root})
	if err != nil {
		panic(err)
	}
	pod, err := rt.Open("p")
	if err != nil {
		panic(err)
	}
	spec := command("sleep", "1000")
	if rootfs := os.Getenv("PODBOX_TEST_ROOTFS"); rootfs != "" {
		spec = Default(rootfs, "sleep", "1000")
		spec.Linux.Resources = nil
	}
	p, err := Start(context.Background(), pod, spec, IO{})
	if err != nil {
		panic(err)
	}
	fmt.Println(p.PID())
	p.Wait(context.Background())
	os.Exit(0)
}

// waitForever starts programs and never lets them go on.
func waitForever(root string) {
	rt, err := sandbox.Open(sandbox.Options{Root: root})
	if err != nil {
		panic(err)
	}
	pod, err := rt.Open("p")
	if err != nil {
		panic(err)
	}
	for range atGates {
		go func() {
			_, _ = Launch(context.Background(), pod, command("true"), Options{Detached: true, Born: func(child proc.Identity) error {
				fmt.Println(child.PID)
				select {}
			}})
		}()
	}
	select {}
}

const atGates = 4

// ended reports whether a process has; who has taken it over may not have reaped it.
func ended(t testing.TB, pid int) bool {
	t.Helper()
	pidfd, err := proc.OpenPID(pid)
	if errors.Is(err, proc.ErrGone) {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	return proc.Exited(pidfd)
}

// startDying has another process start programs that wait, kills it, and returns their
// PIDs.
func startDying(t testing.TB, pod *sandbox.Sandbox) (pids []int) {
	t.Helper()
	i, err := pod.Info()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PODBOX_TEST_GATE="+filepath.Dir(filepath.Dir(i.Dir)))
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range atGates {
		var pid int
		if _, err := fmt.Fscan(stdout, &pid); err != nil {
			t.Error(err)
		}
		pids = append(pids, pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	return pids
}

// Whoever starts a program takes it along, however it dies.
func TestDeathSignal(t *testing.T) {
	for _, tt := range []struct {
		share  []sandbox.Namespace
		rootfs string
	}{{nil, ""}, {[]sandbox.Namespace{sandbox.Net, sandbox.IPC, sandbox.PID}, ""}, {nil, newRootfs(t)}} {
		pod := newPod(t, sandbox.Spec{Share: tt.share})
		i, err := pod.Info()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "PODBOX_TEST_RUN="+filepath.Dir(filepath.Dir(i.Dir)), "PODBOX_TEST_ROOTFS="+tt.rootfs)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Fscan(stdout, &pid); err != nil {
			t.Fatal(err)
		}
		cmd.Process.Kill()
		cmd.Wait()
		for range 200 {
			if ended(t, pid) {
				pid = 0
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if pid != 0 {
			t.Errorf("share %v, root %q: the program is still there", tt.share, tt.rootfs)
		}
	}
}

// Members of a shared PID namespace see each other and nothing else, and cannot
// end the pod, not even by filling the queue of pending signals (see package
// pause).
func TestSharedPID(t *testing.T) {
	pod := newPod(t, sandbox.Spec{Share: []sandbox.Namespace{sandbox.Net, sandbox.IPC, sandbox.PID}})
	out, _ := output(t, pod, command("sh", "-c", "cat /proc/1/comm; set -- /proc/[0-9]*; echo $#; kill -TERM 1; kill -INT 1; kill -KILL 1; ls /proc/1/root/"), nil)
	if !strings.HasPrefix(out, "pause\n2\n") || strings.Contains(out, "etc") {
		t.Errorf("view: %q", out)
	}
	if i, err := pod.Info(); err != nil || i.State != sandbox.Running {
		t.Errorf("after signals from inside: %+v, %v", i, err)
	}
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_SIGPENDING, &own); err != nil {
		t.Fatal(err)
	}
	out, _ = output(t, pod, command("sh", "-c", "grep pending /proc/self/limits"), nil)
	w := strings.Fields(out)
	if len(w) < 5 || w[3] != fmt.Sprint(own.Max/2) {
		t.Errorf("limit of pending signals: %q, of the pause %d", out, own.Max)
	}
}

// A program in a shared PID namespace that stops all that it sees, also those who
// are on their way in, keeps the pod from nothing.
func TestStopperInside(t *testing.T) {
	pod := newPod(t, sandbox.Spec{Share: []sandbox.Namespace{sandbox.Net, sandbox.IPC, sandbox.PID}})
	stopper, err := Start(bg, pod, command("sh", "-c", "trap '' STOP; while :; do kill -STOP -1; done 2>/dev/null"), IO{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(bg, 300*time.Millisecond)
			defer cancel()
			for ctx.Err() == nil {
				p, err := Start(ctx, pod, command("true"), IO{})
				if err != nil {
					continue
				}
				// It may have been stopped since.
				_ = p.Signal(unix.SIGKILL)
				p.Wait(bg)
			}
		})
	}
	wg.Wait()
	begin := time.Now()
	if err := pod.Stop(bg, sandbox.StopOptions{Grace: -1}); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 8*time.Second {
		t.Errorf("stop took %v", d)
	}
	stopper.Wait(bg)
}
