package cgroup

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

func TestOpen(t *testing.T) {
	for name, want := range map[string]string{
		"/podbox":       "/podbox",
		"/podbox//a/b/": "/podbox/a/b",
		"/podbox/./a":   "/podbox/a",
		"/podbox/..a":   "/podbox/..a",
		"":              "",
		"/":             "",
		"//.":           "",
		"podbox":        "",
		"/podbox/../..": "",
		"/..":           "",
		"/a\nb":         "",
		"/a\x00":        "",
	} {
		g, err := Open(name)
		switch {
		case want == "" && !errors.Is(err, fs.ErrInvalid):
			t.Errorf("%q: %v, %v", name, g, err)
		case want != "" && (err != nil || g.String() != want):
			t.Errorf("%q: %v, %v", name, g, err)
		}
	}
}

func TestNoControlGroups(t *testing.T) {
	if _, err := find(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestLife(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		ctx := soon(t)
		pod := group(t, l, "pod")
		web, db := group(t, l, "pod/web"), group(t, l, "pod/db")
		// Nothing is there yet.
		if names, err := pod.Children(); err != nil || len(names) > 0 {
			t.Error(names, err)
		}
		if pids, err := pod.PIDs(); err != nil || len(pids) > 0 {
			t.Error(pids, err)
		}
		if err := errors.Join(pod.Kill(ctx), pod.Remove(ctx)); err != nil {
			t.Error(err)
		}
		if _, err := pod.Stats(); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if _, err := pod.OOMKills(); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if _, err := pod.Frozen(); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if err := pod.Thaw(); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if _, err := web.Entrance(); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}

		fds := descriptors(t)
		for range 2 {
			create(t, web, nil)
			create(t, db, &specs.LinuxResources{})
		}
		if n := descriptors(t); n > fds+1 { // the library keeps a handle
			t.Errorf("%d descriptors, %d before", n, fds)
		}
		if names, err := pod.Children(); err != nil || !slices.Equal(names, []string{"db", "web"}) {
			t.Error(names, err)
		}
		cmd := start(t, web, "sleep", "1000")
		other := start(t, db, "sleep", "1000")
		want := []int{cmd.Process.Pid, other.Process.Pid}
		slices.Sort(want)
		if pids, err := pod.PIDs(); err != nil || !slices.Equal(pids, want) {
			t.Error(pids, err)
		}
		if s := stats(t, pod); s.PIDs.Current != 2 || s.PIDs.Limit != 0 || s.Memory.Usage == 0 || s.Memory.Limit != 0 || s.CPU.Usage == 0 {
			t.Errorf("%+v", s)
		}

		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if err := pod.Remove(short); !errors.Is(err, unix.EBUSY) {
			t.Errorf("remove with processes: %v", err)
		}
		for range 2 {
			if err := web.Kill(ctx); err != nil {
				t.Error(err)
			}
		}
		cmd.Wait()
		if pids, err := pod.PIDs(); err != nil || !slices.Equal(pids, []int{other.Process.Pid}) {
			t.Error(pids, err)
		}
		start(t, web, "sleep", "1000")
		if err := pod.Kill(ctx); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := pod.Remove(ctx); err != nil {
				t.Error(err)
			}
		}
		if n := descriptors(t); n > fds+1+8 { // three programs, by pidfd and v2 directory
			t.Errorf("%d descriptors, %d before", n, fds)
		}
	})
}

// A process is born in the group in all hierarchies that it uses, and no other.
func TestEntrance(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		g := group(t, l, "pod/web")
		create(t, g, nil)
		out, err := in(t, g, "cat", "/proc/self/cgroup").Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(out) {
			f := strings.SplitN(strings.TrimSpace(string(line)), ":", 3)
			names := strings.Split(strings.TrimPrefix(f[1], "name="), ",")
			uses := slices.ContainsFunc(l.v1, func(h hierarchy) bool { return !h.onDemand && slices.Contains(h.controllers, names[0]) })
			if names[0] == "" {
				uses = l.v2 != ""
			}
			if (f[2] == g.path) != uses {
				t.Errorf("%s", line)
			}
		}
		e, err := g.Entrance()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAdd(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		a, b := group(t, l, "pod/a"), group(t, l, "pod/b")
		create(t, a, nil)
		create(t, b, nil)
		cmd := start(t, a, "sleep", "1000")
		if err := b.Add(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		if pids, err := a.PIDs(); err != nil || len(pids) > 0 {
			t.Error(pids, err)
		}
		if pids, err := b.PIDs(); err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
			t.Error(pids, err)
		}
		cmd.Process.Kill()
		cmd.Wait()
		if err := b.Add(cmd.Process.Pid); !errors.Is(err, unix.ESRCH) {
			t.Errorf("add a process that is gone: %v", err)
		}
	})
}

// A group whose path is longer than the kernel takes is found and removed all the
// same.
func TestDeep(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		g := group(t, l, "pod/web")
		create(t, g, nil)
		name := strings.Repeat("x", 255)
		dir, err := unix.Open(g.dirs()[len(g.dirs())-1], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		for i := 0; i < 20 && err == nil; i++ {
			var below int
			if err = unix.Mkdirat(dir, name, 0o755); err == nil {
				below, err = unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			}
			unix.Close(dir)
			dir = below
		}
		if err != nil {
			t.Fatal(err)
		}
		procs, err := unix.Openat(dir, "cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		unix.Close(dir)
		if err != nil {
			t.Fatal(err)
		}
		cmd := start(t, g, "sleep", "1000")
		_, err = unix.Write(procs, []byte(strconv.Itoa(cmd.Process.Pid)))
		unix.Close(procs)
		if err != nil {
			t.Fatal(err)
		}
		if pids, err := g.PIDs(); err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
			t.Error(pids, err)
		}
		if err := errors.Join(g.Kill(soon(t)), g.Remove(soon(t))); err != nil {
			t.Error(err)
		}
	})
}

// What an interrupted Create or Remove has left is found and removed.
func TestPartial(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		g := group(t, l, "pod/web")
		pod := group(t, l, "pod")
		for _, dir := range g.dirs() {
			create(t, g, nil)
			for _, d := range g.dirs() {
				if d != dir {
					os.Remove(d)
				}
			}
			want := []string{"web"}
			if !exists(dir) { // used on demand
				want = nil
			}
			if names, err := pod.Children(); err != nil || !slices.Equal(names, want) {
				t.Error(dir, names, err)
			}
			create(t, g, nil)
			if err := g.Remove(soon(t)); err != nil {
				t.Error(err)
			}
		}
	})
}

// Of a group that cannot be made nothing is left.
func TestCreateFails(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		// That is a file, as soon as the pod is there.
		if err := group(t, l, "pod/cgroup.procs/web").Create(nil); !errors.Is(err, unix.ENOTDIR) {
			t.Error(err)
		}
		if dirs := leftovers(); len(dirs) > 0 {
			t.Errorf("left: %v", dirs)
		}
		// A limit that the kernel refuses, set last.
		r := specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(1))}}
		if err := group(t, l, "pod/web").Create(&r); !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
		if dirs := leftovers(); len(dirs) > 0 {
			t.Errorf("left: %v", dirs)
		}
	})
}

func fake(t *testing.T, files map[string]string) string {
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// enable, on files that stand for a control group.
func TestEnable(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string // what subtree_control has afterwards
		err   error
	}{
		{
			"root",
			map[string]string{"cgroup.subtree_control": "cpu\n", "cgroup.controllers": "cpuset cpu io memory pids\n", "cgroup.procs": "1\n2\n"},
			"+io +memory +pids", nil,
		},
		{
			"all there",
			map[string]string{"cgroup.subtree_control": "cpu io memory pids\n"},
			"cpu io memory pids\n", nil,
		},
		{
			"not to be had",
			map[string]string{"cgroup.subtree_control": "cpu\n", "cgroup.controllers": "cpu\n"},
			"cpu\n", nil,
		},
		{
			"inner group",
			map[string]string{"cgroup.subtree_control": "", "cgroup.controllers": "memory\n", "cgroup.type": "domain\n", "cgroup.procs": ""},
			"+memory", nil,
		},
		{
			// Written to, it would become the root of a threaded subtree.
			"root of a namespace",
			map[string]string{"cgroup.subtree_control": "", "cgroup.controllers": "cpu pids\n", "cgroup.type": "domain\n", "cgroup.procs": "1\n"},
			"", unix.EBUSY,
		},
		{"gone", nil, "", fs.ErrNotExist},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := fake(t, test.files)
			if err := enable(dir, base[:]); !errors.Is(err, test.err) {
				t.Error(err)
			}
			// A file is overwritten from its start, and not made shorter.
			if got, _ := os.ReadFile(dir + "/cgroup.subtree_control"); !strings.HasPrefix(string(got), test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestFigures(t *testing.T) {
	r, w := sumV1([]byte("8:0 Read 4096\n8:0 Write 12\n8:0 Sync 1\n8:0 Total 4109\n259:0 Read 4\nTotal 4113\n"))
	if r != 4100 || w != 12 {
		t.Error(r, w)
	}
	if got, want := sumV2([]byte("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n\n253:0 rbytes=10 cost.usage=7\n")), (IO{11, 2, 3, 4}); got != want {
		t.Error(got)
	}
	if got := valueOf([]byte("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), "oom_kill"); got != 7 {
		t.Error(got)
	}
	for _, s := range []string{"max\n", "", "-4096\n"} {
		if got := number([]byte(s)); got != 0 {
			t.Errorf("%q: %d", s, got)
		}
	}
	m := Memory{Usage: 10}
	if m.setWorkingSet(11); m.WorkingSet != 0 {
		t.Error(m)
	}
}

func TestLayout(t *testing.T) {
	testenv.NeedRoot(t)
	l, err := found()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *l)
	seen := map[string]bool{}
	for _, h := range l.v1 {
		for _, c := range h.controllers {
			if seen[c] {
				t.Errorf("%s: twice", c)
			}
			seen[c] = true
			if slices.Contains(l.v2Controllers, c) {
				t.Errorf("%s: in v1 and in v2", c)
			}
		}
	}
}
