package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
)

// The test program is a supervisor too, and does one thing to a container or a pod
// and ends: tests kill it meanwhile.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 5 && os.Args[1] == "supervise":
		if err := Serve(context.Background(), os.Args[2:], os.NewFile(3, "ready"), Options{}); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	case len(os.Args) > 5 && os.Args[1] == "do":
		os.Exit(do(os.Args[2:]))
	}
	testenv.Private()
	goleak.VerifyTestMain(m)
}

// verbs are what can be done to a pod, or to its container "a". Containers that are
// made have a root directory and run a shell script.
var verbs = map[string]func(p *Pod, spec Spec) error{
	"run": func(p *Pod, spec Spec) error {
		f, err := p.Run(bg, spec, launcher.IO{Stdout: os.Stdout, Stderr: os.Stderr})
		if err != nil {
			return err
		}
		_, err = f.Wait(bg)
		return err
	},
	"run -d": func(p *Pod, spec Spec) error {
		_, err := p.RunBackground(bg, spec)
		return err
	},
	"start -c": func(p *Pod, _ Spec) error { return onA(p, func(c *Container) error { return c.Start(bg) }) },
	"stop -c": func(p *Pod, _ Spec) error {
		return onA(p, func(c *Container) error { return c.Stop(bg, StopOptions{Grace: 100 * time.Millisecond}) })
	},
	"restart -c": func(p *Pod, _ Spec) error {
		return onA(p, func(c *Container) error {
			return errors.Join(c.Stop(bg, StopOptions{Grace: 100 * time.Millisecond}), c.Start(bg))
		})
	},
	"rm -f -c": func(p *Pod, _ Spec) error {
		return onA(p, func(c *Container) error { return c.Remove(bg, true, StopOptions{Grace: 100 * time.Millisecond}) })
	},
	"lead":    leadAll,
	"start":   func(p *Pod, _ Spec) error { return p.Start(bg) },
	"stop":    func(p *Pod, _ Spec) error { return p.Stop(bg, sandbox.StopOptions{Grace: 100 * time.Millisecond}) },
	"rm -f":   func(p *Pod, _ Spec) error { return p.Remove(bg, sandbox.StopOptions{Grace: 100 * time.Millisecond}) },
	"kill -f": func(p *Pod, _ Spec) error { return p.Remove(bg, sandbox.StopOptions{Grace: -1}) },
}

func onA(p *Pod, f func(*Container) error) error {
	c, err := p.Container("a")
	if err != nil {
		return err
	}
	return f(c)
}

// do does a verb: "ROOT STATE POD VERB ROOTFS SCRIPT [--rm]".
func do(words []string) int {
	rt, err := sandbox.Open(sandbox.Options{Root: words[0], StateDir: words[1]})
	if err == nil {
		var pod *sandbox.Sandbox
		if pod, err = rt.Open(words[2]); err == nil {
			spec := shell(words[4], words[5])
			spec.Name, spec.Remove = "a", len(words) > 6
			err = verbs[words[3]](Open(pod, supervised), spec)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// command returns the command that does a verb to a pod.
func (p *Pod) command(verb, rootfs, script string, more ...string) *exec.Cmd {
	rt := p.Runtime()
	cmd := exec.Command("/proc/self/exe", append([]string{"do", rt.Root(), rt.StateDir(), p.ID(), verb, rootfs, script}, more...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return cmd
}

var (
	bg         = context.Background()
	supervised = Options{Command: []string{"/proc/self/exe", "supervise"}}
)

// newPod makes a pod that is removed, with all that is in it, after the test. Then
// nothing must be left.
func newPod(t testing.TB) *Pod {
	t.Helper()
	rt := newRuntime(t)
	return podIn(t, rt, "p")
}

// newRuntime opens a runtime, which must leave nothing behind.
func newRuntime(t testing.TB) *sandbox.Runtime {
	t.Helper()
	testenv.NeedRoot(t)
	root := t.TempDir()
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	rt, err := sandbox.Open(sandbox.Options{Root: filepath.Join(root, "run"), StateDir: filepath.Join(root, "state")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
		// Another OCI runtime needs it (launcher.Other). Whoever is the parent of
		// orphans and does not reap them keeps PID namespaces from ending.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
			t.Error(err)
		}
	})
	return rt
}

// podIn makes a pod that is removed after the test.
func podIn(t testing.TB, rt *sandbox.Runtime, name string) *Pod {
	t.Helper()
	pod, err := rt.Create(bg, sandbox.Spec{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	p := Open(pod, supervised)
	t.Cleanup(func() {
		if err := p.Remove(bg, sandbox.StopOptions{Grace: time.Millisecond}); err != nil {
			t.Error(err)
		}
	})
	return p
}

// A world is what there is besides a pod: it must be the same when that is removed.
type world struct {
	testenv.World
	rt *sandbox.Runtime
}

// lookAround looks at the world of a runtime that has been in use.
func lookAround(t testing.TB, rt *sandbox.Runtime) world {
	t.Helper()
	p := podIn(t, rt, "first")
	if _, err := p.RunBackground(bg, shell(newRootfs(t), "true")); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(bg, sandbox.StopOptions{Grace: -1}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its link is gone for good", func() bool {
		fds, err := os.ReadDir("/proc/self/fd")
		return err == nil && !slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
			what, _ := os.Readlink("/proc/self/fd/" + fd.Name())
			return what == "anon_inode:[pidfd]" // of the child that removes it
		})
	})
	return world{testenv.Look(t, rt.Root()), rt}
}

func (w world) same(t testing.TB, when string) {
	t.Helper()
	w.Same(t, w.rt.Root(), when)
	left, err := os.ReadDir(filepath.Join(w.rt.StateDir(), "pods"))
	if len(left) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: in the state directory is left: %v, %v", when, left, err)
	}
}

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
	for _, name := range []string{"sh", "true", "cat", "ls", "sleep", "echo", "seq", "hostname"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// shell runs a script in a root directory, or on an image, given by its ID.
func shell(rootfs, script string) Spec {
	if strings.HasPrefix(rootfs, "sha256:") {
		return Spec{Image: rootfs, OCI: launcher.Default("", "/bin/sh", "-c", script), DefaultSeccomp: true}
	}
	return Spec{OCI: launcher.Default(rootfs, "/bin/sh", "-c", script), DefaultSeccomp: true}
}

// rounds is how often something is tried that depends on the moment: few times,
// unless PODBOX_TEST_ROUNDS says how often.
func rounds(few int) int {
	if n, err := strconv.Atoi(os.Getenv("PODBOX_TEST_ROUNDS")); err == nil {
		return n
	}
	return max(few/4, 1)
}
