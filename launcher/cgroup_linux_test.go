package launcher

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/cgroup"
	"github.com/podbox/podbox/sandbox"
)

// groupDirs returns where a group is, in whichever hierarchies.
func groupDirs(t testing.TB, path string) []string {
	t.Helper()
	var dirs []string
	for _, pattern := range []string{"/sys/fs/cgroup" + path, "/sys/fs/cgroup/*" + path} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, found...)
	}
	return dirs
}

// A container sees the limits that it has and nothing of other groups, and cannot
// change them.
func TestCgroupView(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	memory, pids := int64(64<<20), int64(20)
	s := container(t, root, `cut -d: -f3 /proc/self/cgroup | sort -u; cat $(find /sys/fs/cgroup -name memory.max -o -name memory.limit_in_bytes) $(find /sys/fs/cgroup -name pids.max)
find /sys/fs/cgroup -name cgroup.procs | while read f; do [ $(dirname $f) = /sys/fs/cgroup ] || [ $(dirname $(dirname $f)) = /sys/fs/cgroup ] || echo other $f; done
find /sys/fs/cgroup -name cgroup.procs -maxdepth 2 | head -1 | xargs cat | grep -c '^1$'; for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do [ ! -d $d ] || mkdir $d/x 2>&1; done | grep -v 'Read-only'; true`)
	SetCgroup(s, pod.Cgroup()+"/view", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &memory}, Pids: &specs.LinuxPids{Limit: &pids}})
	if got, _ := output(t, pod, s, nil); got != "/\n67108864\n20\n1\n" {
		t.Errorf("got %q", got)
	}
	if len(groupDirs(t, pod.Cgroup()+"/view")) == 0 {
		t.Error("the group is gone: it is for the caller to remove")
	}
}

func TestCgroupLimits(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	memory, pids := int64(48<<20), int64(8)
	s := withInside(t, container(t, root, ""))
	SetCgroup(s, pod.Cgroup()+"/limits", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &memory, Swap: &memory}, Pids: &specs.LinuxPids{Limit: &pids}})
	if err := SetDefaultSeccomp(s); err != nil {
		t.Fatal(err)
	}
	_, run := running(t, pod, s)
	for _, tt := range []struct{ name, script, want string }{
		{"within", "inside eat 8", "ate 8\n"},
		{"memory", "inside eat 100; echo $?", "137\n"},
		{"processes", "for i in 1 2 3 4 5 6 7 8 9; do sleep .1 & done; wait", "can't fork"},
	} {
		if got := run(tt.script); !strings.Contains(got, tt.want) || strings.Contains(got, "ate 100") {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
	g, err := cgroup.Open(pod.Cgroup() + "/limits")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := g.OOMKills(); n == 0 || err != nil {
		t.Errorf("%d kills for want of memory, %v", n, err)
	}
}

// Of the devices that it can make, a container can use those only that it is allowed to.
func TestCgroupDevices(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	const kmsg = 11
	s := privileged(container(t, root, "(: </dev/kmsg) 2>&1; mknod /dev/x c 1 11 && (: </dev/x) 2>&1; : </dev/zero && echo zero; echo x >/dev/null && echo null"))
	s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: kmsg}}
	rules := deviceRules()
	SetCgroup(s, pod.Cgroup()+"/devices1", &specs.LinuxResources{Devices: rules})
	const denied = "/bin/sh: can't open /dev/kmsg: Operation not permitted\n/bin/sh: can't open /dev/x: Operation not permitted\nzero\nnull\n"
	if got, _ := output(t, pod, s, nil); got != denied {
		t.Errorf("denied: %q", got)
	}
	one, minor := int64(1), int64(kmsg)
	s.Linux.CgroupsPath = pod.Cgroup() + "/devices2"
	s.Linux.Resources = &specs.LinuxResources{Devices: append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &one, Minor: &minor, Access: "r"})}
	if got, _ := output(t, pod, s, nil); got != "zero\nnull\n" {
		t.Errorf("allowed: %q", got)
	}
}

// A group that was made for a program that could not be started is gone, one that was
// there before is not.
func TestCgroupOfFailure(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	for name, change := range map[string]func(*specs.Spec){
		"no program": func(s *specs.Spec) { s.Process.Args = []string{"nosuchprogram"} },
		"no source": func(s *specs.Spec) {
			s.Mounts[0] = specs.Mount{Type: "bind", Source: "/nonexistent", Destination: "/x"}
		},
		"bad mount": func(s *specs.Spec) { s.Mounts[0].Options = append(s.Mounts[0].Options, "nosuchoption") },
		"hook":      func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/false"}}} },
		"limit":     func(s *specs.Spec) { s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: new(int64(-5))} },
	} {
		s := container(t, root, "true")
		path := pod.Cgroup() + "/failure"
		SetCgroup(s, path, &specs.LinuxResources{})
		change(s)
		if _, err := Start(bg, pod, s, IO{}); err == nil {
			t.Error(name, "started")
		}
		if left := groupDirs(t, path); len(left) > 0 {
			t.Errorf("%s: %v", name, left)
		}
	}
	s := container(t, root, "true")
	SetCgroup(s, pod.Cgroup()+"/before", nil)
	output(t, pod, s, nil)
	s.Process.Args = []string{"nosuchprogram"}
	if _, err := Start(bg, pod, s, IO{}); err == nil || len(groupDirs(t, pod.Cgroup()+"/before")) == 0 {
		t.Errorf("the group of before is gone; %v", err)
	}
}

func TestCgroupErrors(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	for want, change := range map[string]func(*specs.Spec){
		"linux.resources":          func(s *specs.Spec) { s.Linux.Resources = new(specs.LinuxResources) },
		"mounts[6] /sys/fs/cgroup": func(s *specs.Spec) { SetCgroup(s, "", nil) },
		"option memory_recursiveprot": func(s *specs.Spec) {
			SetCgroup(s, pod.Cgroup()+"/x", nil)
			s.Mounts[6].Options = append(s.Mounts[6].Options, "memory_recursiveprot")
		},
		"linux.cgroupsPath": func(s *specs.Spec) { s.Linux.CgroupsPath = "../x" },
	} {
		s := container(t, root, "true")
		change(s)
		if _, err := Start(bg, pod, s, IO{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	// A cgroup that is gone cannot be entered.
	s := container(t, root, "")
	p, _ := running(t, pod, s)
	s.Linux.CgroupsPath = pod.Cgroup() + "/nosuchgroup"
	pidfd, err := unix.PidfdOpen(p.PID(), 0)
	if err != nil {
		t.Fatal(err)
	}
	container := os.NewFile(uintptr(pidfd), "pidfd")
	defer container.Close()
	if _, err := Exec(bg, pod, container, s, Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("exec: %v", err)
	}
}
