package sandbox

import (
	"errors"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/netns"
)

// A pod has its limits when it is started again and when it gets a new link, they are
// changed while it runs, and nothing is left of them.
func TestBandwidth(t *testing.T) {
	rt, before := newRuntime(t, nil)
	both := netns.Bandwidth{Ingress: 10e6, Egress: 5e6}
	s := create(t, rt, Spec{Name: "p", Bandwidth: both})
	check := func(what string, want netns.Bandwidth) {
		t.Helper()
		if got, err := netns.ReadBandwidth(info(t, s).Link); err != nil || got != want {
			t.Errorf("%s: the link has %+v, %v, want %+v", what, got, err, want)
		}
		if got := info(t, s).Bandwidth; got != want {
			t.Errorf("%s: the record has %+v, want %+v", what, got, want)
		}
	}
	check("created", both)
	if err := s.Stop(bg, StopOptions{Grace: -1}); err != nil {
		t.Fatal(err)
	}
	if netns.Connected("pbs" + s.ID()[:12]) {
		t.Error("a stopped pod has a link to send through")
	}
	one := netns.Bandwidth{Egress: 20e6}
	if err := s.Update(bg, Change{Bandwidth: &one}); err != nil {
		t.Error(err)
	}
	if err := s.Start(bg); err != nil {
		t.Fatal(err)
	}
	check("started", one)
	joinPod(t, s, "sleep", "1000")
	killPause(t, s)
	if err := s.Start(bg); err != nil {
		t.Fatal(err)
	}
	check("healed", one)
	if wait, err := netns.Disconnect(info(t, s).Link); err != nil {
		t.Fatal(err)
	} else {
		wait()
	}
	if err := s.Start(bg); err != nil {
		t.Fatal(err)
	}
	check("wired again", one)
	// Others take the limit away, and the pod runs all the time.
	if wait, err := netns.RemoveShaper(info(t, s).Link); err != nil {
		t.Fatal(err)
	} else {
		wait()
	}
	if err := s.Start(bg); err != nil {
		t.Fatal(err)
	}
	check("limited again", one)
	for _, b := range []netns.Bandwidth{both, {Ingress: 1e9}, {}} {
		if err := s.Update(bg, Change{Bandwidth: &b}); err != nil {
			t.Error(err)
		}
		check("changed", b)
	}
	if err := s.Update(bg, Change{Bandwidth: &netns.Bandwidth{Egress: 1}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("one bit a second: %v", err)
	}
	if err := s.Update(bg, Change{Bandwidth: &both}); err != nil {
		t.Error(err)
	}
	if err := s.Remove(bg); err != nil {
		t.Error(err)
	}
	rt.background.Wait()
	before.Same(t, rt.root, "after removal")
	for _, n := range []netns.Network{netns.None(), netns.Host()} {
		if err := (Spec{Network: n, Bandwidth: both}).Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("network %s: %v", n, err)
		}
	}
}

// What sends for a pod whose creator was killed goes with the pod.
func TestShaperOfTheDead(t *testing.T) {
	rt, before := newRuntime(t, nil)
	found := false
	for n := 6; n < 14; n++ {
		out, err := child(rt.root, "create", shapedSpec.Name, n).CombinedOutput()
		if err != nil && exitSignal(err) != unix.SIGKILL {
			t.Fatalf("%v: %s", err, out)
		}
		for range 5 { // its pause may hold the lock until it ends
			swept, err := rt.Sweep(bg)
			if err != nil {
				t.Error(err)
			}
			found = found || len(swept) > 0
			time.Sleep(20 * time.Millisecond)
		}
		if err == nil { // there were less steps
			if n < 9 {
				t.Errorf("killed before %d steps only", n-1)
			}
			if s, err := rt.Open(shapedSpec.Name); err != nil {
				t.Error(err)
			} else if err := s.Remove(bg); err != nil {
				t.Error(err)
			}
		}
		rt.background.Wait()
		before.Same(t, rt.root, "swept")
		if err == nil {
			break
		}
	}
	if !found {
		t.Error("nothing was ever swept: the test proves nothing")
	}
}

// What was to send for a stopped pod, whose starter was killed, is swept; that of one that runs is
// not.
func TestShaperOfTheStopped(t *testing.T) {
	rt, before := newRuntime(t, nil)
	runs, stopped := create(t, rt, shapedSpec), create(t, rt, Spec{Name: "stopped"})
	if err := stopped.Stop(bg, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	left := "pbs" + stopped.ID()[:12]
	if err := netlink.LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: left}}); err != nil {
		t.Fatal(err)
	}
	if done, err := rt.Sweep(bg); err != nil || len(done) != 0 {
		t.Errorf("sweep: %v, %v", done, err)
	}
	rt.background.Wait()
	if _, err := netlink.LinkByName(left); !errors.As(err, new(netlink.LinkNotFoundError)) {
		t.Errorf("the link of the stopped pod: %v", err)
	}
	if _, err := netlink.LinkByName("pbs" + runs.ID()[:12]); err != nil {
		t.Errorf("the link of the pod that runs: %v", err)
	}
	for _, s := range []*Sandbox{runs, stopped} {
		if err := s.Remove(bg); err != nil {
			t.Error(err)
		}
	}
	rt.background.Wait()
	before.Same(t, rt.root, "removed")
}
