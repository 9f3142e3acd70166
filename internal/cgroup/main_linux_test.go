package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

// act says what the test program does instead of testing.
const act = "PODBOX_TEST_CGROUP"

func TestMain(m *testing.M) {
	if what, ok := strings.CutPrefix(os.Getenv(act), "grow"); ok && what == "" {
		bomb(false)
	}
	switch how, path, _ := strings.Cut(os.Getenv(act), ":"); how {
	case "hop":
		bomb(true)
	case "suicide":
		os.Exit(suicide(path))
	}
	status := m.Run()
	if left := leftovers(); len(left) > 0 {
		fmt.Fprintln(os.Stderr, "left behind:", left)
		status = 1
	}
	os.Exit(status)
}

// bomb makes processes as fast as it can. Those that hop end as soon as they have a
// child: who looks for them finds others each time.
func bomb(hop bool) {
	for {
		pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if hop && errno == 0 && pid != 0 {
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
}

// suicide tries what a process must not do to the group that it is in.
func suicide(path string) int {
	g, err := Open(path)
	if err != nil {
		return 1
	}
	if err := g.Freeze(context.Background()); !errors.Is(err, unix.EDEADLK) {
		return 2
	}
	if err := g.Kill(context.Background()); !errors.Is(err, unix.EDEADLK) {
		return 3
	}
	return 0
}

func testRoot() string { return fmt.Sprintf("/podbox-test-cgroup-%d", os.Getpid()) }

func leftovers() []string {
	v1, _ := filepath.Glob(mountPoint + "/*" + testRoot())
	v2, _ := filepath.Glob(mountPoint + testRoot())
	return append(v1, v2...)
}

// each runs a test on the layout of the machine, and on a hybrid a second time
// without its v2 hierarchy.
func each(t *testing.T, test func(t *testing.T, l *layout)) {
	testenv.NeedRoot(t)
	l, err := found()
	if err != nil {
		t.Fatal(err)
	}
	name := "v1"
	if l.v2 != "" && len(l.v1) > 0 {
		name = "hybrid"
	} else if l.v2 != "" {
		name = "v2"
	}
	t.Run(name, func(t *testing.T) { test(t, l) })
	if name == "hybrid" {
		t.Run("v1", func(t *testing.T) { test(t, withoutV2()) })
	}
}

func withoutV2() *layout {
	l := &layout{}
	l.findV1(mountPoint)
	return l
}

// group returns a group that a test may do with what it wants.
func group(t testing.TB, l *layout, name string) *Group {
	t.Helper()
	g := &Group{path: testRoot() + "/" + name, layout: l}
	t.Cleanup(func() {
		root := &Group{path: testRoot(), layout: l}
		ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience(20*time.Second))
		defer cancel()
		if err := root.Kill(ctx); err != nil {
			t.Error(err)
		}
		if err := root.Remove(ctx); err != nil {
			t.Error(err)
		}
	})
	return g
}

func create(t testing.TB, g *Group, r *specs.LinuxResources) {
	t.Helper()
	if err := g.Create(r); err != nil {
		t.Fatal(err)
	}
}

// in returns a command that is in the group before its program begins.
func in(t testing.TB, g *Group, argv ...string) *exec.Cmd {
	t.Helper()
	e, err := g.Entrance()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	var enter strings.Builder
	for i := range e.Tasks {
		fmt.Fprintf(&enter, "echo 0 >/proc/self/fd/%d || exit 99\n", 3+i)
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", enter.String() + `exec "$@"`, "sh"}, argv...)...)
	cmd.ExtraFiles = e.Tasks
	if e.Into != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(e.Into.Fd())}
	}
	return cmd
}

// start starts a command in the group, and returns when it has entered.
func start(t testing.TB, g *Group, argv ...string) *exec.Cmd {
	t.Helper()
	cmd := in(t, g, argv...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	link := fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid)
	eventually(t, "enter", func() bool {
		b, err := os.ReadFile(link)
		return err == nil && strings.HasPrefix(string(b), argv[0])
	})
	return cmd
}

func eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	patience := testenv.Patience(30 * time.Second)
	for end := time.Now().Add(patience); !yes(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience(20*time.Second))
	t.Cleanup(cancel)
	return ctx
}

// again runs the test program itself in the group, to do something else.
func again(t testing.TB, g *Group, what string) *exec.Cmd {
	t.Helper()
	cmd := in(t, g, "/proc/self/exe")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[len(cmd.Args)-1] = exe
	cmd.Env = append(os.Environ(), act+"="+what)
	return cmd
}

func ptr[T any](v T) *T { return &v }

func stats(t testing.TB, g *Group) *Stats {
	t.Helper()
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func descriptors(t testing.TB) int {
	runtime.GC()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
