package cgroup

import (
	"context"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/internal/testenv"
)

// here returns a group for a benchmark, whose parent is there.
func here(b *testing.B) *Group {
	b.Helper()
	testenv.NeedRoot(b)
	l, err := found()
	if err != nil {
		b.Fatal(err)
	}
	create(b, group(b, l, "pod"), nil)
	return group(b, l, "pod/web")
}

func benchmarkLife(b *testing.B, r *specs.LinuxResources, timed string) {
	g := here(b)
	for b.Loop() {
		if timed != "create" {
			b.StopTimer()
		}
		create(b, g, r)
		if timed == "create" {
			b.StopTimer()
		} else {
			b.StartTimer()
		}
		if err := g.Remove(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkCreate(b *testing.B) { benchmarkLife(b, nil, "create") }

func BenchmarkCreateLimits(b *testing.B) {
	benchmarkLife(b, &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))},
		CPU:    &specs.LinuxCPU{Quota: ptr(int64(50_000)), Period: ptr(uint64(100_000))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(100))},
	}, "create")
}

func BenchmarkCreateDevices(b *testing.B) {
	var rules []specs.LinuxDeviceCgroup
	for _, minor := range []int64{3, 5, 7, 8, 9} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: &minor, Access: "rwm"})
	}
	benchmarkLife(b, &specs.LinuxResources{Devices: rules}, "create")
}

func BenchmarkRemove(b *testing.B) { benchmarkLife(b, nil, "remove") }

func BenchmarkEntrance(b *testing.B) {
	g := here(b)
	create(b, g, nil)
	for b.Loop() {
		e, err := g.Entrance()
		if err != nil {
			b.Fatal(err)
		}
		e.Close()
	}
}

func BenchmarkStats(b *testing.B) {
	g := here(b)
	create(b, g, nil)
	start(b, g, "sleep", "1000")
	for b.Loop() {
		stats(b, g)
	}
}

func BenchmarkPIDs(b *testing.B) {
	g := here(b)
	create(b, g, nil)
	start(b, g, "sleep", "1000")
	for b.Loop() {
		if _, err := g.PIDs(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFreezeThaw(b *testing.B) {
	g := here(b)
	create(b, g, nil)
	start(b, g, "sleep", "1000")
	for b.Loop() {
		if err := g.Freeze(context.Background()); err != nil {
			b.Fatal(err)
		}
		if err := g.Thaw(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKill(b *testing.B) {
	g := here(b)
	create(b, g, nil)
	for b.Loop() {
		b.StopTimer()
		cmd := start(b, g, "sleep", "1000")
		b.StartTimer()
		if err := g.Kill(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		cmd.Wait()
		b.StartTimer()
	}
}
