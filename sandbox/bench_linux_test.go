package sandbox

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/netns"
)

// onTmpfs returns a runtime whose records are where they belong.
func onTmpfs(b *testing.B) *Runtime {
	rt, _ := newRuntime(b, nil)
	if err := unix.Mount("tmpfs", rt.root, "tmpfs", 0, "mode=700"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Unmount(rt.root, unix.MNT_DETACH) })
	return rt
}

// BenchmarkCreate makes pods; their removal is not counted. Another pod is there, so
// the rules of the host are.
func BenchmarkCreate(b *testing.B) { benchmarkCreate(b, 1, Spec{}) }

// BenchmarkCreateFirst makes pods that are the only one: each with the host's rules.
func BenchmarkCreateFirst(b *testing.B) { benchmarkCreate(b, 0, Spec{}) }

// BenchmarkCreatePorts makes pods that publish a port, beside others that do; and such
// that publish none beside others that do not.
func BenchmarkCreatePorts(b *testing.B) {
	for _, others := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("none-%d", others), func(b *testing.B) { benchmarkCreate(b, others, Spec{}) })
		for _, protocol := range []netns.Protocol{netns.TCP, netns.UDP} {
			b.Run(fmt.Sprintf("%s-%d", protocol, others), func(b *testing.B) {
				benchmarkCreate(b, others, Spec{Ports: []netns.Port{{HostPort: 8080, Port: 80, Protocol: protocol}}})
			})
		}
	}
}

// benchmarkCreate makes a pod beside others, which publish a port each if it does.
func benchmarkCreate(b *testing.B, others int, spec Spec) {
	rt := onTmpfs(b)
	for i := range others {
		var other Spec
		if len(spec.Ports) > 0 {
			other.Ports = []netns.Port{{HostPort: uint16(10000 + i), Port: 80}}
		}
		create(b, rt, other)
	}
	for b.Loop() {
		s, err := rt.Create(bg, spec)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Remove(bg); err != nil {
			b.Fatal(err)
		}
		rt.background.Wait()
		b.StartTimer()
	}
}

// BenchmarkBareCreate makes, of the same calls, the kernel's part of a pod only:
// the clone with its namespaces and the netlink requests, and keeps no record.
// It is the floor of BenchmarkCreate.
func BenchmarkBareCreate(b *testing.B) {
	rt := onTmpfs(b)
	program, mounts, err := rt.birth.open()
	if err != nil {
		b.Fatal(err)
	}
	id := strings.Repeat("0", 64)
	a := netns.Address{IP: netns.DefaultRange.Addr().Next().Next(), IP6: netns.DefaultRange6.Addr().Next().Next(), MAC: netns.MACFor(id)}
	for b.Loop() {
		var child *spawn.Process
		err := nsthread.Do(func() error {
			if err := nsthread.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			if err := nsthread.Join(mounts, 0); err != nil {
				return err
			}
			var p spawn.Program
			if err := p.ExecFD(int(program.Fd()), []string{"pause"}, nil); err != nil {
				return err
			}
			child, err = p.Start(bg, unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWNET|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS, spawn.Blocked)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		ns, err := netns.Of(child.PID)
		if err != nil {
			b.Fatal(err)
		}
		if err := netns.Connect(ns, netns.LinkName(id), a, 1500); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		wait, err := netns.Disconnect(netns.LinkName(id))
		if err != nil {
			b.Fatal(err)
		}
		_ = proc.Signal(child.PidFD, unix.SIGKILL)
		if err := awaitExit(child.PidFD); err != nil {
			b.Fatal(err)
		}
		child.PidFD.Close()
		ns.Close()
		wait()
		b.StartTimer()
	}
}

// BenchmarkRemove removes pods; their creation is not counted.
func BenchmarkRemove(b *testing.B) {
	rt := onTmpfs(b)
	for b.Loop() {
		b.StopTimer()
		s, err := rt.Create(bg, Spec{})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := s.RemoveIdle(bg); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		rt.background.Wait()
		b.StartTimer()
	}
}

// BenchmarkList lists pods that run.
func BenchmarkList(b *testing.B) {
	rt := onTmpfs(b)
	const n = 100
	for i := range n {
		create(b, rt, Spec{Name: fmt.Sprint("p", i)})
	}
	for b.Loop() {
		infos, err := rt.List(bg)
		if err != nil || len(infos) != n {
			b.Fatal(len(infos), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/n, "µs/pod")
}

// BenchmarkEnter is the part of starting a program that sandbox does.
func BenchmarkEnter(b *testing.B) {
	rt := onTmpfs(b)
	s := create(b, rt, Spec{})
	for b.Loop() {
		e, err := s.Enter(bg)
		if err != nil {
			b.Fatal(err)
		}
		e.Close()
	}
}
