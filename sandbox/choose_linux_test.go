package sandbox

import (
	"errors"
	"net"
	"os"
	"slices"
	"testing"

	"github.com/podbox/podbox/netns"
)

// few lets ports be chosen from ten, of which one is reserved.
func few(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{"ip_local_port_range": "21010\t21019", "ip_local_reserved_ports": "21015"} {
		path := "/proc/sys/net/ipv4/" + name
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if len(old) == 1 {
				old = []byte("\n") // an empty list is not taken otherwise
			}
			if err := os.WriteFile(path, old, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// Ports of the host that are left open are chosen so that nobody has them: no pod, no
// process, no other port of the same pod. When there is none left, nothing is made.
func TestChoosePorts(t *testing.T) {
	rt, world := newRuntime(t, nil)
	few(t)
	l, err := net.Listen("tcp", "127.0.0.1:21012")
	if err != nil {
		t.Fatal(err)
	}
	a := create(t, rt, Spec{Name: "a", Ports: []netns.Port{port(t, "21010:1"), port(t, "5000-5002"), port(t, "80")}})
	b := create(t, rt, Spec{Name: "b"})
	for range 3 {
		if err := b.Publish(bg, port(t, "80")); err != nil {
			t.Fatal(err)
		}
	}
	used := []uint16{21012, 21015}
	for _, s := range []*Sandbox{a, b} {
		for _, p := range info(t, s).Ports {
			for i := range p.Count {
				used = append(used, p.HostPort+i)
			}
		}
	}
	slices.Sort(used)
	if len(used) != 10 || len(slices.Compact(slices.Clone(used))) != 10 || used[0] != 21010 || used[9] != 21019 {
		t.Errorf("chosen: %v", used)
	}
	ports := info(t, b).Ports
	if err := b.Publish(bg, port(t, "9090:90"), port(t, "81")); !errors.Is(err, netns.ErrInUse) {
		t.Errorf("all are in use: %v, want ErrInUse", err)
	}
	if got := info(t, b).Ports; !slices.Equal(got, ports) {
		t.Errorf("after a failure it publishes %v, before %v", got, ports)
	}
	if s, err := rt.Create(bg, Spec{Name: "c", Ports: []netns.Port{port(t, "80")}}); !errors.Is(err, netns.ErrInUse) {
		t.Errorf("create: %v, %v, want ErrInUse", s, err)
	}
	l.Close()
	c := create(t, rt, Spec{Name: "c", Ports: []netns.Port{port(t, "80")}})
	if got := info(t, c).Ports[0].HostPort; got != 21012 {
		t.Errorf("chosen: %d, want the one that is free, 21012", got)
	}
	for _, s := range []*Sandbox{a, b, c} {
		if err := s.Remove(bg); err != nil {
			t.Fatal(err)
		}
	}
	world.Same(t, rt.root, "after all")
}

// What is chosen is the pod's, also when it is started again.
func TestChosenPortsStay(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	few(t)
	s := create(t, rt, Spec{Name: "p", Ports: []netns.Port{port(t, "80"), port(t, "127.0.0.1::81/udp")}})
	before := info(t, s).Ports
	if err := s.Stop(bg, StopOptions{Grace: -1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(bg); err != nil {
		t.Fatal(err)
	}
	if after := info(t, s).Ports; !slices.Equal(before, after) || before[0].HostPort == 0 || before[1].HostPort == 0 {
		t.Errorf("%v, then %v", before, after)
	}
	if err := s.Unpublish(bg, before...); err != nil {
		t.Fatal(err)
	}
	if n := len(info(t, s).Ports); n != 0 {
		t.Errorf("%d ports left", n)
	}
}
