package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// value reads a file of the group: the first of v1, or the one of v2.
func value(t *testing.T, g *Group, v1, v2 string) string {
	t.Helper()
	file, mount := v2, g.layout.v2
	if controller, _, _ := strings.Cut(v1, "."); g.layout.carrying(controller) != nil {
		file, mount = v1, g.layout.carrying(controller).mount
	}
	b, err := read(g.in(mount), file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestMemory(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		const limit = 16 << 20
		pod, g := group(t, l, "pod"), group(t, l, "pod/web")
		create(t, g, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(limit))}})
		if before, err := g.OOMKills(); err != nil || before != 0 {
			t.Fatal(before, err)
		}
		err := in(t, g, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1").Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(interface{ Signal() unix.Signal }).Signal() != unix.SIGKILL {
			t.Errorf("64 MB of memory in a group of 16: %v", err)
		}
		for _, g := range []*Group{pod, g} {
			if after, err := g.OOMKills(); err != nil || after != 1 {
				t.Errorf("%v: %d killed, %v", g, after, err)
			}
		}
		s := stats(t, g)
		if s.Memory.Limit != limit || s.Memory.Peak > limit || s.Memory.Peak < limit/2 || s.Memory.WorkingSet > s.Memory.Usage {
			t.Errorf("%+v", s.Memory)
		}
		// What fits, fits.
		if err := in(t, g, "dd", "if=/dev/zero", "of=/dev/null", "bs=4M", "count=1").Run(); err != nil {
			t.Error(err)
		}
	})
}

// Swap is what podman run --memory gives, or what was asked for.
func TestSwap(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		g := group(t, l, "web")
		create(t, g, nil)
		probe := g.in(l.v2) + "/" + swapV2
		if h := l.carrying("memory"); h != nil {
			probe = g.in(h.mount) + "/" + swapV1
		}
		if !exists(probe) {
			t.Skip("the kernel does not account for swap")
		}
		const mb = int64(1 << 20)
		for _, test := range []struct {
			memory specs.LinuxMemory
			v1, v2 string
		}{
			{specs.LinuxMemory{Limit: ptr(64 * mb)}, fmt.Sprint(128 * mb), fmt.Sprint(64 * mb)},
			{specs.LinuxMemory{Limit: ptr(32 * mb)}, fmt.Sprint(64 * mb), fmt.Sprint(32 * mb)},
			{specs.LinuxMemory{Limit: ptr(256 * mb)}, fmt.Sprint(512 * mb), fmt.Sprint(256 * mb)},
			{specs.LinuxMemory{Limit: ptr(64 * mb), Swap: ptr(64 * mb)}, fmt.Sprint(64 * mb), "0"},
			{specs.LinuxMemory{Limit: ptr(int64(math.MaxInt64))}, fmt.Sprint(math.MaxInt64 &^ 4095), "max"},
			{specs.LinuxMemory{Limit: ptr(int64(-1))}, fmt.Sprint(math.MaxInt64 &^ 4095), "max"},
		} {
			create(t, g, &specs.LinuxResources{Memory: &test.memory})
			want := test.v2
			if l.carrying("memory") != nil {
				want = test.v1
			}
			got := value(t, g, swapV1, swapV2)
			if *test.memory.Limit == math.MaxInt64 && l.v2 != "" && len(l.v1) == 0 {
				continue // more than there is, in whatever words
			}
			if got != want {
				t.Errorf("limit %d: %s, want %s", *test.memory.Limit, got, want)
			}
		}
	})
}

func TestPIDs(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		g := group(t, l, "web")
		create(t, g, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(3))}})
		cmd := in(t, g, "sh", "-c", "for i in 1 2 3; do sleep 1000 >/dev/null 2>&1 & done; exit 0")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "fork") {
			t.Errorf("four processes where three are allowed: %s, %v", out, err)
		}
		if s := stats(t, g); s.PIDs.Limit != 3 || s.PIDs.Current != 2 {
			t.Errorf("%+v", s.PIDs)
		}
		create(t, g, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}})
		if s := stats(t, g); s.PIDs.Limit != 0 {
			t.Errorf("%+v", s.PIDs)
		}
	})
}

func TestCPU(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		g := group(t, l, "web")
		create(t, g, &specs.LinuxResources{CPU: &specs.LinuxCPU{
			Quota: ptr(int64(10_000)), Period: ptr(uint64(100_000)), Shares: ptr(uint64(512)),
		}})
		start(t, g, "sh", "-c", "while :; do :; done")
		before := stats(t, g)
		began := time.Now()
		time.Sleep(600 * time.Millisecond)
		after := stats(t, g)
		used, throttled := after.CPU.Usage-before.CPU.Usage, after.CPU.Throttled-before.CPU.Throttled
		if used > time.Since(began)/3 || throttled == 0 {
			t.Errorf("in %v used %v, throttled %v", time.Since(began), used, throttled)
		}
		if got := value(t, g, "cpu.shares", "cpu.weight"); got != "512" && got != "20" && got != "59" {
			t.Errorf("shares %s", got)
		}
	})
}

func TestDevices(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		var before, after unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &before); err != nil {
			t.Fatal(err)
		}
		// One kind of access does not make another, nor one device another.
		opens := func(g *Group, op, dev string) bool {
			return in(t, g, "sh", "-c", ": "+op+" "+dev).Run() == nil
		}
		g := group(t, l, "pod/web")
		create(t, g, nil)
		if !opens(g, "<", "/dev/zero") {
			t.Error("no rules: denied")
		}
		null := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(3)), Access: "rwm"}
		zero := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(5)), Access: "r"}
		create(t, g, &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{null}})
		if !opens(g, "<", "/dev/null") || opens(g, "<", "/dev/zero") {
			t.Error("only null: another, or not even that")
		}
		create(t, g, &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, null, zero}})
		if !opens(g, "<", "/dev/zero") || opens(g, ">", "/dev/zero") || opens(g, "<", "/dev/full") {
			t.Error("null, and zero to read: other access, or not even that")
		}
		// An update without rules leaves them.
		create(t, g, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(100))}})
		if opens(g, "<", "/dev/full") {
			t.Error("rules are gone")
		}
		create(t, g, &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}})
		if !opens(g, "<", "/dev/full") {
			t.Error("all: denied")
		}
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &after); err != nil || before != after {
			t.Errorf("RLIMIT_MEMLOCK %v, was %v, %v", after, before, err)
		}
	})
}

// A cpuset takes those with it who were in the group before, and who come to be below
// it without one of their own.
func TestCpuset(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		pod, web, db := group(t, l, "pod"), group(t, l, "pod/web"), group(t, l, "pod/db")
		create(t, web, nil)
		cmd := start(t, web, "sleep", "1000")
		create(t, pod, &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0"}})
		create(t, db, nil)
		late := start(t, db, "sleep", "1000")
		for _, pid := range []int{cmd.Process.Pid, late.Process.Pid} {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil || !strings.Contains(string(b), "Cpus_allowed_list:\t0\n") {
				t.Errorf("%s, %v", b, err)
			}
		}
		// On v1 a group below must not have more than it.
		if err := pod.Create(&specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0-1"}}); err != nil {
			t.Error(err)
		}
	})
}

// Limits that nothing enforces are refused by their name.
func TestMissing(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		type row struct {
			r                 specs.LinuxResources
			field, controller string
		}
		rows := []row{
			{specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(1))}}, "network.classID", "net_cls"},
			{specs.LinuxResources{Network: &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{}}}}, "network.priorities", "net_prio"},
			{specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"a": {}}}, "rdma", "rdma"},
			{specs.LinuxResources{Memory: &specs.LinuxMemory{KernelTCP: ptr(int64(1))}}, "memory.kernelTCP", "memory"},
			{specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "3MB"}}}, "hugepageLimits[0]", "hugetlb"},
		}
		if len(l.v1) > 0 {
			rows = append(rows, row{specs.LinuxResources{Unified: map[string]string{"memory.high": "1"}}, "unified[memory.high]", "memory"})
		} else {
			rows = append(rows, row{specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(1))}}, "memory.swappiness", "memory"})
			rows = append(rows, row{specs.LinuxResources{Unified: map[string]string{"none.high": "1"}}, "unified[none.high]", "none"})
		}
		g := group(t, l, "pod/web")
		for _, r := range rows {
			err := g.Create(&r.r)
			var missing *MissingError
			if !errors.As(err, &missing) || missing.Field != "linux.resources."+r.field || missing.Controller != r.controller || !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s: %v", r.field, err)
			}
			if dirs := leftovers(); len(dirs) > 0 {
				t.Fatalf("%s: left %v", r.field, dirs)
			}
			t.Log(err)
		}
	})
}

// A machine without a controller makes groups, but does not limit by it.
func TestMissingController(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		g := group(t, l, "pod/web")
		if len(l.v1) > 0 {
			less := &layout{v2: l.v2}
			for _, h := range l.v1 {
				if h.controllers[0] != "memory" {
					less.v1 = append(less.v1, h)
				}
			}
			g.layout = less
		} else {
			// The root of a cgroup namespace has processes, and is not the root.
			pod := group(t, l, "pod")
			create(t, pod, nil)
			start(t, pod, "sleep", "1000")
		}
		create(t, g, nil)
		if s := stats(t, g); s.Memory != (Memory{}) {
			t.Errorf("%+v", s)
		}
		if n, err := g.OOMKills(); err != nil || n != 0 {
			t.Error(n, err)
		}
		err := g.Create(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 20))}})
		var missing *MissingError
		if !errors.As(err, &missing) || missing.Field != "linux.resources.memory.limit" || missing.Controller != "memory" {
			t.Error(err)
		}
		if len(l.v1) == 0 && !errors.Is(err, unix.EBUSY) {
			t.Errorf("not why: %v", err)
		}
		t.Log(err)
		// A process can be put there all the same.
		start(t, g, "sleep", "1000")
	})
}

func TestUnified(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		if len(l.v1) > 0 {
			t.Skip("v2 only")
		}
		g := group(t, l, "pod/web")
		create(t, g, &specs.LinuxResources{
			Memory:  &specs.LinuxMemory{Limit: ptr(int64(64 << 20))},
			Unified: map[string]string{"memory.swap.max": "0", "memory.high": "33554432"},
		})
		for file, want := range map[string]string{"memory.swap.max": "0", "memory.high": "33554432", "memory.max": "67108864"} {
			if got := value(t, g, "none", file); got != want {
				t.Errorf("%s: %s", file, got)
			}
		}
	})
}

func TestCompile(t *testing.T) {
	for _, bad := range []specs.LinuxResources{
		{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c"}}},
		{Devices: []specs.LinuxDeviceCgroup{{Type: "p", Access: "r"}}},
		{Devices: []specs.LinuxDeviceCgroup{{Type: "cc", Access: "r"}}},
		{Devices: []specs.LinuxDeviceCgroup{{Type: "c", Access: "rx"}}},
		{Devices: []specs.LinuxDeviceCgroup{{Type: "c", Access: "r", Major: ptr(int64(-2))}}},
		{Devices: []specs.LinuxDeviceCgroup{{Type: "c", Access: "r", Minor: ptr(int64(math.MaxUint32 + 1))}}},
		{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "../../x"}}},
		{HugepageLimits: []specs.LinuxHugepageLimit{{}}},
	} {
		if l, err := compile(&bad); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%+v: %v, %v", bad, l, err)
		}
	}
	// Zero is nothing, but for the fields where it is something.
	r := specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(0)), DisableOOMKiller: ptr(false)},
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(0)), Burst: ptr(uint64(0))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(0))},
	}
	all, err := compile(&r)
	if err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, l := range all {
		for _, f := range l.fields {
			fields = append(fields, f.name)
		}
	}
	if want := []string{"pids.limit", "cpu.burst"}; !reflect.DeepEqual(fields, want) {
		t.Errorf("asked %q, want %q", fields, want)
	}
}

// A field that the runtime-spec gets some day must not be passed over.
func TestEveryField(t *testing.T) {
	for typ, n := range map[reflect.Type]int{
		reflect.TypeFor[specs.LinuxResources]():     9,
		reflect.TypeFor[specs.LinuxMemory]():        9,
		reflect.TypeFor[specs.LinuxCPU]():           9,
		reflect.TypeFor[specs.LinuxPids]():          1,
		reflect.TypeFor[specs.LinuxBlockIO]():       7,
		reflect.TypeFor[specs.LinuxNetwork]():       2,
		reflect.TypeFor[specs.LinuxDeviceCgroup]():  5,
		reflect.TypeFor[specs.LinuxHugepageLimit](): 2,
	} {
		if typ.NumField() != n {
			t.Errorf("%v: %d fields, %d are looked at", typ, typ.NumField(), n)
		}
	}
}
