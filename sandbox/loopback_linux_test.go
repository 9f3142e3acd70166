package sandbox

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/netns"
)

// hear returns what is said at an address of the host, "refused" if nobody listens.
func hear(t *testing.T, addr string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 3*time.Second)
	if errors.Is(err, unix.ECONNREFUSED) {
		return "refused"
	}
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// noLoopback fails the test if programs of a runtime are attached.
func noLoopback(t *testing.T, rt *Runtime) {
	t.Helper()
	if there, err := rt.loopback.Present(); there || err != nil {
		t.Errorf("programs for ::1 are left, %v", err)
	}
}

// ::1 leads to what a pod publishes for as long as it does: created, published, stopped,
// started, healed, rewired, unpublished, removed; and after the programs are lost.
func TestLoopback(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	const addr, addr2 = "[::1]:21080", "[::1]:21081"
	check := func(when, at, want string) {
		t.Helper()
		if got := hear(t, at); got != want {
			t.Errorf("%s: at %s %q, want %q", when, at, got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	noLoopback(t, rt)
	plain := create(t, rt, Spec{Name: "plain"})
	v4 := create(t, rt, Spec{Name: "v4", Ports: []netns.Port{port(t, "127.0.0.1:21080:80")}})
	noLoopback(t, rt) // nobody needs them yet
	must(v4.Remove(bg))
	a := create(t, rt, Spec{Name: "a", Ports: []netns.Port{port(t, "21080:80")}})
	say(t, a, "tcp", ":80", "a")
	check("created", addr, "a")
	must(a.Publish(bg, port(t, "[::1]:21081:80")))
	check("published", addr2, "a")
	must(a.Unpublish(bg, port(t, "[::1]:21081:80")))
	check("unpublished", addr2, "refused")
	check("another unpublished", addr, "a")
	must(rt.loopback.Remove())
	check("lost", addr, "refused")
	must(a.Publish(bg, port(t, "21081:80")))
	check("published after the loss", addr2, "a")
	check("published after the loss of another", addr, "a")
	must(rt.loopback.Remove())
	must(rt.ReloadNetwork(bg))
	check("reloaded", addr, "a")
	must(a.Stop(bg, StopOptions{Grace: -1}))
	check("stopped", addr, "refused")
	must(a.Start(bg))
	say(t, a, "tcp", ":80", "a again")
	check("started", addr, "a again")
	joinPod(t, a, "sleep", "1000")
	killPause(t, a)
	check("its pause is dead", addr, "a again")
	must(a.Start(bg))
	check("healed", addr, "a again")
	must(a.Remove(bg))
	check("removed", addr, "refused")
	b := create(t, rt, Spec{Name: "b", Ports: []netns.Port{port(t, "21080:80")}})
	say(t, b, "tcp", ":80", "b")
	check("another's now", addr, "b")

	// Another installation on the same host.
	other, _ := newRuntime(t, nil)
	c := create(t, other, Spec{Name: "c", Ports: []netns.Port{port(t, "21082:80")}})
	say(t, c, "tcp", ":80", "c")
	check("of another root", "[::1]:21082", "c")
	check("beside another root", addr, "b")
	if err := c.Publish(bg, port(t, "[::1]:21080:80")); !errors.Is(err, netns.ErrInUse) {
		t.Errorf("a port of another root: %v", err)
	}
	must(b.Remove(bg))
	must(plain.Remove(bg))
	check("beside another root that ends", "[::1]:21082", "c")
	noLoopback(t, rt)
	must(c.Remove(bg))
	noLoopback(t, other)
}
