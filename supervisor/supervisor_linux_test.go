package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/crilog"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/launcher"
)

func readLog(t testing.TB, c *Container) string {
	t.Helper()
	path, err := c.logPath()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := crilog.Read(bg, path, crilog.ReadOptions{}, func(e crilog.Entry) error {
		fmt.Fprintf(&b, "%s: %s\n", e.Stream, e.Text)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestForeground(t *testing.T) {
	p := newPod(t)
	var out bytes.Buffer
	spec := shell(newRootfs(t), "echo hello; exit 3")
	spec.Name = "a"
	f, err := p.Run(bg, spec, launcher.IO{Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := f.Wait(bg); status != 3 || err != nil || out.String() != "hello\n" {
		t.Errorf("status %d, %v, output %q", status, err, out.String())
	}
	s, err := f.Container().Status()
	if err != nil || s.State != Exited || s.ExitCode == nil || *s.ExitCode != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := f.Container().Remove(bg, false, StopOptions{}); err != nil {
		t.Error(err)
	}
	spec.Remove = true
	if f, err = p.Run(bg, spec, launcher.IO{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Wait(bg); err != nil {
		t.Error(err)
	}
	if list, err := p.List(); len(list) != 0 || err != nil {
		t.Errorf("left: %v, %v", list, err)
	}
}

func TestBackground(t *testing.T) {
	p := newPod(t)
	c, err := p.RunBackground(bg, shell(newRootfs(t), "echo out; echo err >&2; sleep 0.2; exit 4"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Status(); err != nil || s.State != Running || s.PID == 0 || !s.Supervised {
		t.Errorf("%+v, %v", s, err)
	}
	if status, err := c.Wait(bg); status != 4 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	if got := readLog(t, c); got != "stdout: out\nstderr: err\n" && got != "stderr: err\nstdout: out\n" {
		t.Errorf("log %q", got)
	}
	var exec *spawn.ExecError
	spec := shell(newRootfs(t), "")
	spec.OCI.Process.Args = []string{"/nonexistent"}
	if _, err := p.RunBackground(bg, spec); !errors.As(err, &exec) || exec.Err != unix.ENOENT {
		t.Errorf("program that is not there: %v", err)
	}
	if list, err := p.List(); len(list) != 1 || err != nil {
		t.Errorf("left: %v, %v", list, err)
	}
}

func TestStop(t *testing.T) {
	p := newPod(t)
	root := newRootfs(t)
	for name, script := range map[string]string{"kind": "trap 'exit 0' TERM; echo kind >/kind; while :; do sleep 0.01; done", "stubborn": "trap '' TERM; echo stubborn >/stubborn; while :; do sleep 0.01; done"} {
		spec := shell(root, script)
		spec.Name, spec.Restart.Policy = name, Always
		c, err := p.RunBackground(bg, spec)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is ready", func() bool { b, _ := os.ReadFile(root + "/" + name); return len(b) > 0 })
		grace := map[string]time.Duration{"kind": testenv.Patience(10 * time.Second), "stubborn": 300 * time.Millisecond}[name]
		if err := c.Stop(bg, StopOptions{Grace: grace}); err != nil {
			t.Error(err)
		}
		want := map[string]int{"kind": 0, "stubborn": 137}[name]
		if s, err := c.Status(); err != nil || s.State != Exited || s.ExitCode == nil || *s.ExitCode != want {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestRestart(t *testing.T) {
	p := newPod(t)
	spec := shell(newRootfs(t), "echo $$; exit 1")
	spec.Restart = Restart{Policy: OnFailure, Retries: 3, Delay: time.Millisecond, MaxDelay: 2 * time.Millisecond}
	c, err := p.RunBackground(bg, spec)
	if err != nil {
		t.Fatal(err)
	}
	if status, err := c.Wait(bg); status != 1 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	if s, err := c.Status(); err != nil || s.Restarts != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	if got := readLog(t, c); strings.Count(got, "stdout: 1\n") != 4 {
		t.Errorf("log %q", got)
	}
}

// A supervisor that is killed loses no container, and nothing that one writes.
func TestSupervisorKilled(t *testing.T) {
	p := newPod(t)
	spec := shell(newRootfs(t), "for i in $(seq 50); do echo $i; sleep 0.01; done; exit 5")
	spec.Name = "a"
	c, err := p.RunBackground(bg, spec)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.record()
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if err := unix.Kill(r.Runner.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if s, err := c.Status(); err != nil || s.State != Running || s.Supervised {
		t.Errorf("%+v, %v", s, err)
	}
	if err := p.Start(bg); err != nil {
		t.Fatal(err)
	}
	if status, err := c.Wait(bg); status != 5 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	var want strings.Builder
	for i := range 50 {
		fmt.Fprintf(&want, "stdout: %d\n", i+1)
	}
	if got := readLog(t, c); got != want.String() {
		t.Errorf("log %q", got)
	}
}

func TestAttach(t *testing.T) {
	p := newPod(t)
	spec := shell(newRootfs(t), "cat; echo end")
	spec.Stdin = true
	c, err := p.RunBackground(bg, spec)
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Attach(bg, true)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Write([]byte("hello\n")); err != nil {
		t.Error(err)
	}
	if err := a.CloseInput(); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	if err := a.Copy(&out, &out); err != nil || out.String() != "hello\nend\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
