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

func TestViews(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		g := group(t, l, "pod/web")
		create(t, g, nil)
		controllers := 0
		for _, v := range g.Views() {
			if !exists(v.Dir) || v.Dir != filepath.Join(mountPoint, v.Name)+g.path {
				t.Errorf("%+v", v)
			}
			for _, file := range []string{"pids.max", "cpu.stat", "memory.stat"} {
				if exists(v.Dir + "/" + file) {
					controllers++
				}
			}
		}
		if controllers != 3 {
			t.Errorf("%+v", g.Views())
		}
	})
}

func TestRemoveEmpty(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		pod, web := group(t, l, "pod"), group(t, l, "pod/web")
		create(t, web, nil)
		cmd := start(t, web, "sleep", "1000")
		for _, g := range []*Group{pod, web} {
			if _, err := g.RemoveEmpty(); err != nil {
				t.Error(err)
			}
			for _, h := range l.v1 {
				if !h.onDemand && !exists(g.in(h.mount)) {
					t.Errorf("%v: removed from %s", g, h.mount)
				}
			}
			if err := g.missing(); err != nil {
				t.Error(err)
			}
		}
		if err := web.Kill(soon(t)); err != nil {
			t.Error(err)
		}
		cmd.Wait()
		for _, g := range []*Group{web, pod, pod} {
			if _, err := g.RemoveEmpty(); err != nil {
				t.Error(err)
			}
			if err := g.missing(); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v: not removed: %v", g, err)
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
