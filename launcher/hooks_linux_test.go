package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/sandbox"
)

// logged returns hooks of all kinds that note their names and states in a directory,
// and after that do what is said for their kind.
func logged(dir string, then map[string]string) *specs.Hooks {
	hook := func(kind string) []specs.Hook {
		var hooks []specs.Hook
		for i := range 2 {
			name := fmt.Sprint(kind, i)
			script := "echo " + name + " >>" + dir + "/log; cat >" + dir + "/" + name + ".json; " + then[name]
			hooks = append(hooks, specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"NAME=" + name, "PATH=/bin:/usr/bin"}})
		}
		return hooks
	}
	//lint:ignore SA1019 deprecated, but in use
	return &specs.Hooks{Prestart: hook("prestart"), CreateRuntime: hook("createRuntime"), Poststart: hook("poststart"), Poststop: hook("poststop")}
}

func readLog(t testing.TB, dir string) string {
	t.Helper()
	b, err := os.ReadFile(dir + "/log")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

func TestHooks(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root, dir := newRootfs(t), t.TempDir()
	i, err := pod.Info()
	if err != nil {
		t.Fatal(err)
	}
	look := "test -e " + root + "/ran && echo ran >>" + dir + "/log; readlink /proc/self/ns/net /proc/self/ns/mnt >" + dir + "/own; " +
		"pid=$(grep -o '\"pid\":[0-9]*' " + dir + "/$NAME.json | cut -d: -f2); readlink /proc/$pid/ns/net >" + dir + "/theirs; env >" + dir + "/env; ls /proc/self/fd >" + dir + "/fds"
	s := container(t, root, "echo >/ran; sleep .1")
	s.Hooks = logged(dir, map[string]string{"createRuntime1": look, "poststart0": "sleep .02; test -e " + root + "/ran && echo ran >>" + dir + "/log"})
	s.Annotations = map[string]string{"some": "thing", "big": strings.Repeat("x", 1<<17)}
	p, err := Launch(bg, pod, s, Options{ID: "id1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(bg); err != nil {
		t.Fatal(err)
	}
	if got, want := readLog(t, dir), "prestart0 prestart1 createRuntime0 createRuntime1 poststart0 ran poststart1 poststop0 poststop1"; got != want {
		t.Errorf("order: got %s, want %s", got, want)
	}
	for name, want := range map[string]specs.State{
		"prestart0":      {Status: specs.StateCreating, Pid: p.PID()},
		"createRuntime1": {Status: specs.StateCreating, Pid: p.PID()},
		"poststart1":     {Status: specs.StateRunning, Pid: p.PID()},
		"poststop0":      {Status: specs.StateStopped},
	} {
		b, err := os.ReadFile(dir + "/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var got specs.State
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if got.Status != want.Status || got.Pid != want.Pid || got.ID != "id1" || got.Bundle != root || got.Annotations["some"] != "thing" || got.Version != specs.Version {
			t.Errorf("%s: %+v", name, got)
		}
	}
	net, _ := os.Readlink("/proc/self/ns/net")
	mounts, _ := os.Readlink("/proc/self/ns/mnt")
	pods := nsLink(t, i.PausePID, specs.NetworkNamespace)
	for file, want := range map[string]string{"own": net + "\n" + mounts + "\n", "theirs": pods + "\n", "fds": "0\n1\n2\n3\n"} {
		if b, err := os.ReadFile(dir + "/" + file); string(b) != want {
			t.Errorf("%s: %q, want %q; %v", file, b, want, err)
		}
	}
	if b, _ := os.ReadFile(dir + "/env"); !strings.Contains(string(b), "NAME=createRuntime1\n") || strings.Contains(string(b), "PODBOX") {
		t.Errorf("environment: %s", b)
	}
}

// A hook that fails ends the start, whatever has come before is undone, and nothing is
// left.
func TestHookFailures(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	const stops = " poststop0 poststop1"
	for _, tt := range []struct {
		fails, log, err string
		ran             bool
	}{
		{"prestart0", "prestart0" + stops, "hooks.prestart[0] /bin/sh: exit status 3", false},
		{"prestart1", "prestart0 prestart1" + stops, "hooks.prestart[1] /bin/sh: exit status 3", false},
		{"createRuntime0", "prestart0 prestart1 createRuntime0" + stops, "hooks.createRuntime[0] /bin/sh: exit status 3", false},
		{"poststart0", "prestart0 prestart1 createRuntime0 createRuntime1 poststart0" + stops, "hooks.poststart[0] /bin/sh: exit status 3", true},
		{"poststop0", "prestart0 prestart1 createRuntime0 createRuntime1 poststart0 poststart1" + stops, "", true},
		{"program", "prestart0 prestart1 createRuntime0 createRuntime1" + stops, "exec nosuchprogram", false},
		{"born", "prestart0 prestart1 createRuntime0 createRuntime1" + stops, "not wanted", false},
	} {
		t.Run(tt.fails, func(t *testing.T) {
			dir := t.TempDir()
			_ = os.Remove(root + "/ran")
			s := container(t, root, "echo >/ran; [ \"$0\" = once ] || exec sleep 1000")
			s.Hooks = logged(dir, map[string]string{tt.fails: "sleep .02; exit 3"})
			var opts Options
			var pid int
			switch tt.fails {
			case "program":
				s.Process.Args = []string{"nosuchprogram"}
			case "born":
				opts.Born = func(child proc.Identity) error {
					pid = child.PID
					return errors.New("not wanted")
				}
			case "poststop0":
				s.Process.Args = append(s.Process.Args, "once")
			}
			p, err := Launch(bg, pod, s, opts)
			if tt.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				_, _ = p.Wait(bg)
			} else if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %s", err, tt.err)
			}
			if got := readLog(t, dir); got != tt.log {
				t.Errorf("log %q, want %q", got, tt.log)
			}
			if _, err := os.Stat(root + "/ran"); (err == nil) != tt.ran {
				t.Errorf("the program has run: %t", err == nil)
			}
			if pid != 0 && unix.Kill(pid, 0) != unix.ESRCH {
				t.Error("the child is still there")
			}
		})
	}
}

// A hook that hangs is ended with its time, or the context's.
func TestHookTimeout(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	one := 1
	hang := specs.Hook{Path: "/bin/sleep", Args: []string{"sleep", "1000"}}
	for _, timeout := range []*int{nil, &one} {
		if timeout != nil && testing.Short() {
			continue
		}
		s := container(t, root, "true")
		hang.Timeout = timeout
		s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{hang}}
		ctx, cancel := context.WithTimeout(bg, 30*time.Millisecond)
		if timeout != nil {
			ctx = bg
		}
		begin := time.Now()
		_, err := Start(ctx, pod, s, IO{})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "hooks.createRuntime[0]") || time.Since(begin) > 3*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	}
	for _, h := range []specs.Hook{{Path: "sh"}, {}, {Path: "/bin/sh", Timeout: new(int)}} {
		s := container(t, root, "true")
		s.Hooks = &specs.Hooks{Poststop: []specs.Hook{h}}
		if _, err := Start(bg, pod, s, IO{}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "hooks: ") {
			t.Errorf("%+v: %v", h, err)
		}
	}
	s := container(t, root, "true")
	s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/nonexistent/hook"}}}
	if _, err := Start(bg, pod, s, IO{}); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "hooks.createRuntime[0] /nonexistent/hook") {
		t.Error(err)
	}
}

// Hooks are a container's, not those of what Exec starts in it.
func TestHooksAndExec(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	dir := t.TempDir()
	s := container(t, newRootfs(t), "")
	_, run := running(t, pod, s)
	s.Hooks = logged(dir, nil)
	if got := run("echo x"); got != "x\n" || readLog(t, dir) != "" {
		t.Errorf("%q, hooks %q", got, readLog(t, dir))
	}
}
