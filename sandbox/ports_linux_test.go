package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/netns"
)

func port(t testing.TB, s string) netns.Port {
	t.Helper()
	p, err := netns.ParsePort(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// inPod calls f on a thread in the pod's network namespace.
func inPod(t *testing.T, s *Sandbox, f func() error) {
	t.Helper()
	ns, err := netns.Of(info(t, s).PausePID)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := ns.Do(f); err != nil {
		t.Fatal(err)
	}
}

// echo answers what comes to a UDP port of a pod, for the life of the test.
func echo(t *testing.T, s *Sandbox, addr, answer string) {
	t.Helper()
	inPod(t, s, func() error {
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			b := make([]byte, 10)
			for {
				_, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = c.WriteTo([]byte(answer), from)
			}
		}()
		return nil
	})
}

// who returns what a UDP port of the host answers, "" if nothing.
func who(t *testing.T, c net.Conn) string {
	t.Helper()
	b := make([]byte, 10)
	for range 3 {
		_, _ = c.Write([]byte("?"))
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := c.Read(b); err == nil {
			return string(b[:n])
		}
	}
	return ""
}

// A sender of UDP that goes on with the same socket reaches whoever has the port now:
// before, while and after a pod publishes it, and whatever ends that.
func TestPortOfUDPMovesOn(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	c, err := net.Dial("udp4", "127.0.0.1:5353")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	check := func(want, when string) {
		t.Helper()
		if got := who(t, c); got != want {
			t.Errorf("%s: %q answers, want %q", when, got, want)
		}
	}
	p := port(t, "5353:53/udp")
	check("", "before")
	a := create(t, rt, Spec{Name: "a", Ports: []netns.Port{p}})
	echo(t, a, ":53", "a")
	check("a", "published by create")
	b := create(t, rt, Spec{Name: "b"})
	echo(t, b, ":53", "b")
	if err := a.Unpublish(bg, p); err != nil {
		t.Fatal(err)
	}
	check("", "unpublished")
	if err := b.Publish(bg, p); err != nil {
		t.Fatal(err)
	}
	check("b", "published by another")
	if err := b.Stop(bg, StopOptions{Grace: -1}); err != nil {
		t.Fatal(err)
	}
	check("", "stopped")
	if err := b.Start(bg); err != nil {
		t.Fatal(err)
	}
	echo(t, b, ":53", "b again")
	check("b again", "started")
	if err := b.Remove(bg); err != nil {
		t.Fatal(err)
	}
	if err := a.Publish(bg, p); err != nil {
		t.Fatal(err)
	}
	check("a", "after a removal")
}

// Whoever publishes or unpublishes ports and is killed leaves what is ended by publishing
// them again, or, if it was begun, by starting or updating the pod.
func TestPublishOfTheDead(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	type half struct {
		verb  string
		spec  Spec
		ports []netns.Port
	}
	try := func(tt half, how string) {
		for n := 1; ; n++ {
			s := create(t, rt, tt.spec)
			out, err := child(rt.root, tt.verb, "p", n).CombinedOutput()
			if err != nil && exitSignal(err) != unix.SIGKILL {
				t.Fatalf("%v: %s", err, out)
			}
			last := err == nil
			switch {
			case tt.verb == "publish" && len(info(t, s).Ports) == 0: // not begun
				err = s.Publish(bg, tt.ports...)
			case how == "publish":
				err = s.Publish(bg, tt.ports...)
			case how == "start":
				err = s.Start(bg)
			case how == "update":
				err = s.Update(bg, Change{Bandwidth: &netns.Bandwidth{Egress: 1e9}})
			}
			if err != nil {
				t.Error(err)
			}
			allReached(t, s, fmt.Sprintf("%s killed before step %d, then %s", tt.verb, n, how))
			if rec, err := readRecord(rt.podDir(s.ID())); err != nil || rec.Changing {
				t.Errorf("%s killed before step %d, then %s: not settled, %v", tt.verb, n, how, err)
			}
			if err := s.Remove(bg); err != nil {
				t.Fatal(err)
			}
			if last {
				if n < 4 {
					t.Errorf("%s killed before %d steps only", tt.verb, n-1)
				}
				break
			}
		}
	}
	for _, how := range []string{"publish", "start", "update"} {
		try(half{"publish", Spec{Name: "p"}, []netns.Port{trialPort, {Port: 91}}}, how)
		try(half{"unpublish", trialSpec, trialSpec.Ports[:2]}, how)
	}
}

// allReached holds that the host reaches all ports of TCP that a pod has on record.
func allReached(t *testing.T, s *Sandbox, when string) {
	t.Helper()
	listening := make(map[uint16]bool)
	for _, p := range info(t, s).Ports {
		if p.Protocol != netns.TCP {
			continue
		}
		if !listening[p.Port] {
			listening[p.Port] = true
			inPod(t, s, func() error {
				l, err := net.Listen("tcp", fmt.Sprint(":", p.Port))
				if err == nil {
					t.Cleanup(func() { l.Close() })
				}
				return err
			})
		}
		c, err := net.DialTimeout("tcp", fmt.Sprint("127.0.0.1:", p.HostPort), 5*time.Second)
		if err != nil {
			t.Errorf("%s: port %s: %v", when, p, err)
			continue
		}
		c.Close()
	}
}

// Of many that want one port one gets it, and the others are told who.
func TestPortsAtOnce(t *testing.T) {
	rt, before := newRuntime(t, nil)
	forms := []string{"8080:80", "127.0.0.1:8080:80", "0.0.0.0:8080:80", "8000-8090:8000-8090"}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var winner *Sandbox
	for i := range 24 {
		wg.Go(func() {
			s, err := rt.Create(bg, Spec{Name: fmt.Sprint("p", i), Ports: []netns.Port{port(t, forms[i%len(forms)])}})
			mu.Lock()
			defer mu.Unlock()
			var pe *PublishedError
			switch {
			case err == nil && winner == nil:
				winner = s
			case err == nil:
				t.Errorf("%v and %v have it", s, winner)
			case !errors.As(err, &pe) || !errors.Is(err, netns.ErrInUse) || pe.Pod == "":
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if winner == nil {
		t.Error("nobody has it")
	} else if err := winner.Remove(bg); err != nil {
		t.Error(err)
	}
	rt.background.Wait()
	before.Same(t, rt.root, "after all")
}

// What a creator had taken when it was killed is free to the next one that wants it.
func TestPortsOfTheDead(t *testing.T) {
	rt, before := newRuntime(t, nil)
	for n := 5; n < 9; n++ { // from the step after the claim
		out, err := child(rt.root, "create", "p", n).CombinedOutput()
		if exitSignal(err) != unix.SIGKILL {
			t.Fatalf("%v: %s", err, out)
		}
		var s *Sandbox
		for range 50 { // its pause may hold the lock until it ends
			if s, err = rt.Create(bg, Spec{Name: "q", Ports: trialSpec.Ports}); !errors.Is(err, netns.ErrInUse) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(bg); err != nil {
			t.Fatal(err)
		}
	}
	clear1(t, rt)
	before.Same(t, rt.root, "after the dead")
}

// The rules are what the records say, whoever has flushed or spoilt them.
func TestRulesFollowRecords(t *testing.T) {
	rt, before := newRuntime(t, nil)
	p := port(t, "8080:80")
	a := create(t, rt, Spec{Name: "a", Ports: []netns.Port{p}})
	create(t, rt, Spec{Name: "b"})
	reached := func() bool {
		c, err := net.DialTimeout("tcp4", "127.0.0.1:8080", 5*time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	var l net.Listener
	inPod(t, a, func() (err error) {
		l, err = net.Listen("tcp", ":80")
		return err
	})
	defer l.Close()
	heal := map[string]func() error{
		"reload":    func() error { return rt.ReloadNetwork(bg) },
		"start":     func() error { return a.Start(bg) },
		"create":    func() error { _, err := rt.Create(bg, Spec{Name: "c"}); return err },
		"publish":   func() error { return a.Publish(bg, port(t, "9090:90")) },
		"unpublish": func() error { return errors.Join(a.Unpublish(bg, port(t, "9090:90")), rt.ReloadNetwork(bg)) },
	}
	for _, how := range []string{"reload", "start", "create", "publish", "unpublish"} {
		if !reached() {
			t.Fatalf("not reached before %s", how)
		}
		if err := rt.rules.Remove(); err != nil {
			t.Fatal(err)
		}
		if reached() {
			t.Fatal("reached without rules")
		}
		if err := heal[how](); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		if !reached() {
			t.Errorf("not reached after %s", how)
		}
	}
	// A record that says more than was claimed gets no more.
	rec, err := readRecord(rt.podDir(a.ID()))
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.claims.Release(bg, a.ID(), rec.Spec.Ports); err != nil {
		t.Fatal(err)
	}
	if err := rt.ReloadNetwork(bg); err != nil || reached() {
		t.Errorf("a port that is not claimed is published; %v", err)
	}
	// And none of a pod whose record is lost.
	if err := a.Start(bg); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(rt.podDir(a.ID()), recordFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, name := range []string{"a", "b", "c"} {
		s, err := rt.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(bg); err != nil {
			t.Errorf("remove %s: %v", name, err)
		}
	}
	rt.background.Wait()
	before.Same(t, rt.root, "after removal")
}

// Others keep their tables, and the link of the host that forwards for two
// installations forwards until the last of them ends.
func TestRulesOfTwoRoots(t *testing.T) {
	a, _ := newRuntime(t, nil)
	b, before := newRuntime(t, nil)
	if a.rules.Table == b.rules.Table || !strings.HasPrefix(a.rules.Table, netns.DefaultTable+"-") {
		t.Fatalf("tables %s and %s", a.rules.Table, b.rules.Table)
	}
	if tableName(DefaultRoot) != netns.DefaultTable {
		t.Error("the default root has another table")
	}
	noRouter(t)
	ip(t, "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	t.Cleanup(func() { ip(t, "link", "del", "up0") })
	forwards := func() bool {
		b, err := os.ReadFile("/proc/sys/net/ipv4/conf/up0/forwarding")
		if err != nil {
			t.Fatal(err)
		}
		return string(b) == "1\n"
	}
	if forwards() {
		t.Fatal("the link forwards already")
	}
	inA := create(t, a, Spec{Name: "p", Ports: []netns.Port{port(t, "8080:80")}})
	inB := create(t, b, Spec{Name: "p"})
	if !forwards() {
		t.Error("the link does not forward: no answer reaches a pod")
	}
	var elsewhere *netns.ElsewhereError
	if err := inB.Publish(bg, port(t, "127.0.0.1:8080:80")); !errors.As(err, &elsewhere) || elsewhere.Table != a.rules.Table {
		t.Errorf("a port of the other installation: %v", err)
	}
	if err := inA.Remove(bg); err != nil {
		t.Error(err)
	}
	if !forwards() {
		t.Error("the link does not forward for the other installation")
	}
	if err := inB.Publish(bg, port(t, "127.0.0.1:8080:80")); err != nil {
		t.Error(err)
	}
	if err := inB.Remove(bg); err != nil {
		t.Error(err)
	}
	if forwards() {
		t.Error("the link forwards for nobody")
	}
	ip(t, "link", "del", "up0")
	a.background.Wait()
	b.background.Wait()
	before.Same(t, b.root, "after both")
	if there, err := a.rules.Present(); there || err != nil {
		t.Errorf("rules of the other are left, %v", err)
	}
	ip(t, "link", "add", "up0", "type", "veth", "peer", "name", "up1") // for Cleanup
}

// Where nothing can be told to forward, as in some containers, there are pods all the
// same, and somebody is told.
func TestNothingForwards(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	const conf = "/proc/sys/net/ipv6/conf/default/disable_ipv6"
	if err := os.WriteFile(conf, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(conf, []byte("0"), 0)
	noRouter(t)
	ip(t, "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	defer ip(t, "link", "del", "up0")
	if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount("/proc/sys", unix.MNT_DETACH)
	if err := unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	rt.log = slog.New(slog.NewTextHandler(&told, nil))
	s, err := rt.Create(bg, Spec{Ports: []netns.Port{port(t, "8080:80")}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(told.String(), "pods do not reach beyond the host") {
		t.Errorf("told: %s", told.String())
	}
	if err := s.Remove(bg); err != nil {
		t.Error(err)
	}
	if there, err := rt.rules.Present(); there || err != nil {
		t.Errorf("rules are left, %v", err)
	}
}

// noRouter makes the host of the tests one that does not forward. Its namespace has
// what it does from that of the machine.
func noRouter(t *testing.T) {
	t.Helper()
	const forward = "/proc/sys/net/ipv4/ip_forward"
	was, err := os.ReadFile(forward)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(forward, []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(forward, was, 0) })
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// Ports that a pod cannot publish are refused, and the pod stays as it was.
func TestPublishRefuses(t *testing.T) {
	rt, before := newRuntime(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := create(t, rt, Spec{Name: "p", Ports: []netns.Port{port(t, "9090:90")}})
	for form, want := range map[string]error{
		"8080:80":             netns.ErrInUse,
		"9000-9100:9000-9100": ErrInvalid, // overlaps its own
		"198.51.100.1:1:1":    ErrInvalid,
	} {
		if err := s.Publish(bg, port(t, form), port(t, "7070:70")); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", form, err, want)
		}
		if got := info(t, s).Ports; len(got) != 1 || got[0] != port(t, "9090:90") {
			t.Errorf("%s: then it has %v", form, got)
		}
	}
	var le *netns.ListenerError
	if err := s.Publish(bg, port(t, "8080:80")); !errors.As(err, &le) || le.PID != os.Getpid() {
		t.Errorf("error %v, want one that names process %d", err, os.Getpid())
	}
	if _, err := rt.Create(bg, Spec{Name: "q", Ports: []netns.Port{port(t, "8080:80")}}); !errors.As(err, &le) {
		t.Errorf("create: %v", err)
	}
	none := create(t, rt, Spec{Name: "none", Network: netns.None()})
	if err := none.Publish(bg, port(t, "80:80")); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a network: %v", err)
	}
	// Somebody takes the port while the pod is stopped.
	if err := s.Stop(bg, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	taker, err := net.Listen("tcp", ":9090")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(bg); !errors.As(err, &le) {
		t.Errorf("start: %v", err)
	}
	taker.Close()
	if err := s.Start(bg); err != nil {
		t.Error(err)
	}
	for _, p := range []*Sandbox{s, none} {
		if err := p.Remove(bg); err != nil {
			t.Error(err)
		}
	}
	l.Close()
	rt.background.Wait()
	before.Same(t, rt.root, "after all")
}
