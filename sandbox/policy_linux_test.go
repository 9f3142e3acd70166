package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/netns"
)

func peers(t testing.TB, words string) []netns.Peer {
	t.Helper()
	all, err := netns.ParsePeers(strings.Fields(words))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// hello has a pod answer at a TCP port, for the life of the test or until it is closed.
func hello(t *testing.T, s *Sandbox) (closer io.Closer) {
	t.Helper()
	inPod(t, s, func() error {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		closer = l
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_, _ = io.Copy(c, c)
				}()
			}
		}()
		return nil
	})
	return closer
}

// connects reports whether one pod reaches another, by both families. want is what is
// expected: it takes longer to say that a pod is not reached if it should be.
func connects(t *testing.T, from, to *Sandbox, want bool) bool {
	t.Helper()
	patience := 120 * time.Millisecond
	if want {
		patience = 5 * time.Second
	}
	i := info(t, to)
	got := map[string]bool{}
	for _, ip := range []string{i.IP, i.IP6} {
		inPod(t, from, func() error {
			c, err := net.DialTimeout("tcp", net.JoinHostPort(ip, "80"), patience)
			if err == nil {
				c.Close()
			}
			got[ip] = err == nil
			return nil
		})
	}
	if got[i.IP] != got[i.IP6] {
		t.Errorf("%s to %s: %v", info(t, from).Name, i.Name, got)
	}
	return got[i.IP]
}

// Pods that a policy names by their label or their name may come, go, and change their
// labels, before it and after it, and their addresses may become others'.
func TestPolicyFollowsPods(t *testing.T) {
	rt, before := newRuntime(t, nil)
	labels := map[string]string{"app": "web"}
	web := create(t, rt, Spec{Name: "web", Labels: labels})
	other := create(t, rt, Spec{Name: "other"})
	db := create(t, rt, Spec{Name: "db", Policy: netns.Policy{From: peers(t, "label:app=web late:80")}})
	serving := []io.Closer{hello(t, db)}
	check := func(what string, from *Sandbox, want bool) {
		t.Helper()
		if got := connects(t, from, db, want); got != want {
			t.Errorf("%s: %s connects %v", what, info(t, from).Name, got)
		}
	}
	check("there before", web, true)
	check("there before", other, false)
	late := create(t, rt, Spec{Name: "late"})
	check("named, comes later", late, true)
	web2 := create(t, rt, Spec{Name: "web2", Labels: labels})
	check("labelled, comes later", web2, true)
	for _, has := range []bool{true, false} {
		var value *string
		if has {
			value = new("web")
		}
		if err := other.Update(bg, Change{Labels: map[string]*string{"app": value}}); err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprintf("labelled while it runs: %v", has), other, has)
	}
	if err := web2.Describe(bg, nil, nil); err != nil {
		t.Fatal(err)
	}
	check("described without the label", web2, false)

	// Whoever has an address next is nobody's friend.
	i := info(t, web)
	if err := web.Remove(bg); err != nil {
		t.Fatal(err)
	}
	heir := create(t, rt, Spec{Name: "heir", Network: netns.Network{IP: netip.MustParseAddr(i.IP), IP6: netip.MustParseAddr(i.IP6)}})
	check("with the address of another", heir, false)

	// Stopped, started, healed and flushed it is the same.
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"stopped and started", func() error { return errors.Join(db.Stop(bg, StopOptions{Grace: -1}), db.Start(bg)) }},
		{"flushed and reloaded", func() error { return errors.Join(rt.rules.Remove(), rt.ReloadNetwork(bg)) }},
		{"flushed and started", func() error { return errors.Join(rt.rules.Remove(), db.Start(bg)) }},
		{"reloaded", func() error { return rt.ReloadNetwork(bg) }},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if strings.HasPrefix(step.what, "stopped") {
			serving = append(serving, hello(t, db))
		}
		check(step.what, late, true)
		check(step.what, other, false)
	}

	// With the last policy that names groups nobody's are kept.
	if err := db.Update(bg, Change{Policy: &netns.Policy{From: []netns.Peer{}}}); err != nil {
		t.Fatal(err)
	}
	check("nobody", late, false)
	if err := rt.ReloadNetwork(bg); err != nil || rt.namesGroups() {
		t.Errorf("no policy names groups, but %v; %v", rt.namesGroups(), err)
	}
	check("nobody, reloaded", late, false)
	if err := db.Update(bg, Change{Policy: &netns.Policy{}}); err != nil {
		t.Fatal(err)
	}
	check("without a policy", other, true)
	for _, l := range serving {
		l.Close()
	}
	for _, s := range []*Sandbox{other, db, late, web2, heir} {
		if err := s.Remove(bg); err != nil {
			t.Error(err)
		}
	}
	rt.background.Wait()
	before.Same(t, rt.root, "after removal")
}

// Who changes while another makes all rules anew waits for it: the other has read the
// record as it was, and has not said yet that there are groups.
func TestPolicyWaitsForRules(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	db := create(t, rt, Spec{Name: "db", Policy: netns.Policy{From: peers(t, "label:app=web")}})
	hello(t, db)
	web := create(t, rt, Spec{Name: "web"})
	lock, err := rt.lockRules(bg, flock.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.recordGroups(false); err != nil {
		t.Fatal(err)
	}
	updated := make(chan error)
	go func() { updated <- web.Update(bg, Change{Labels: map[string]*string{"app": new("web")}}) }()
	select {
	case err := <-updated:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	err = rt.recordGroups(true)
	lock.Close()
	if err := errors.Join(err, <-updated); err != nil {
		t.Fatal(err)
	}
	if !connects(t, web, db, true) {
		t.Error("its label is not in the rules")
	}
}

// Whoever comes or goes after somebody was killed who made all rules anew, before he did or
// after, makes them again: no group is without those who belong to it, or with those who do not.
func TestPolicyHalfGrouped(t *testing.T) {
	labels := map[string]string{"app": "web"}
	spec := Spec{Name: "db", Policy: netns.Policy{From: peers(t, "label:app=web")}}
	t.Run("before", func(t *testing.T) {
		rt, _ := newRuntime(t, nil)
		create(t, rt, Spec{Name: "else", Policy: netns.Policy{From: peers(t, "any")}}) // so that there are sets
		web := create(t, rt, Spec{Name: "web", Labels: labels})
		if err := rt.beginGroups(); err != nil {
			t.Fatal(err)
		}
		db := create(t, rt, spec)
		hello(t, db)
		if !connects(t, web, db, true) {
			t.Error("who was there before is not in its group")
		}
		if rt.halfGrouped() || !rt.namesGroups() {
			t.Error("it is not on record that it is done")
		}
	})
	t.Run("after", func(t *testing.T) {
		rt, _ := newRuntime(t, nil)
		db := create(t, rt, spec)
		hello(t, db)
		web := create(t, rt, Spec{Name: "web", Labels: labels})
		if err := rt.beginGroups(); err != nil {
			t.Fatal(err)
		}
		i := info(t, web)
		if err := web.Remove(bg); err != nil {
			t.Fatal(err)
		}
		if rt.halfGrouped() {
			t.Error("it is not on record that it is done")
		}
		heir := create(t, rt, Spec{Name: "heir", Network: netns.Network{IP: netip.MustParseAddr(i.IP), IP6: netip.MustParseAddr(i.IP6)}})
		if connects(t, heir, db, false) {
			t.Error("who has the address next is in the group of who had it")
		}
	})
}

// Who has an address next has none of the connections that others were allowed to it.
func TestPolicyOfHeirs(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	client := create(t, rt, Spec{Name: "client", Policy: netns.Policy{To: peers(t, "label:app=web")}})
	web := create(t, rt, Spec{Name: "web", Labels: map[string]string{"app": "web"}})
	i := info(t, web)
	at := net.JoinHostPort(i.IP, "80")
	listen := func(s *Sandbox) (c net.PacketConn) {
		t.Helper()
		inPod(t, s, func() (err error) {
			c, err = net.ListenPacket("udp", at)
			return err
		})
		t.Cleanup(func() { c.Close() })
		return c
	}
	var c net.Conn
	inPod(t, client, func() (err error) {
		c, err = net.Dial("udp", at)
		return err
	})
	defer c.Close()
	hears := func(l net.PacketConn) bool {
		t.Helper()
		_, _ = c.Write([]byte("x"))
		_ = l.SetDeadline(time.Now().Add(500 * time.Millisecond))
		_, from, err := l.ReadFrom(make([]byte, 1))
		if err == nil {
			_, err = l.WriteTo([]byte("y"), from)
		}
		return err == nil
	}
	if l := listen(web); !hears(l) {
		t.Fatal("no connection")
	}
	if err := web.Remove(bg); err != nil {
		t.Fatal(err)
	}
	heir := create(t, rt, Spec{Name: "heir", Network: netns.Network{IP: netip.MustParseAddr(i.IP)}})
	if l := listen(heir); hears(l) {
		t.Error("a connection goes on with who has the address now")
	}
}

// A policy that becomes stricter ends what it does not allow, and nothing else.
func TestPolicyEndsConnections(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	db := create(t, rt, Spec{Name: "db"})
	hello(t, db)
	good, bad := create(t, rt, Spec{Name: "good"}), create(t, rt, Spec{Name: "bad"})
	dial := func(from *Sandbox) (c net.Conn) {
		t.Helper()
		inPod(t, from, func() (err error) {
			c, err = net.DialTimeout("tcp", net.JoinHostPort(info(t, db).IP, "80"), 3*time.Second)
			return err
		})
		t.Cleanup(func() { c.Close() })
		return c
	}
	speaks := func(c net.Conn) bool {
		_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		_, err := c.Write([]byte("x"))
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		return err == nil
	}
	kept, ended := dial(good), dial(bad)
	if !speaks(kept) || !speaks(ended) {
		t.Fatal("no connection")
	}
	if err := db.Update(bg, Change{Policy: &netns.Policy{From: peers(t, "good:80")}}); err != nil {
		t.Fatal(err)
	}
	if !speaks(kept) {
		t.Error("a connection that is allowed has ended")
	}
	if speaks(ended) {
		t.Error("a connection goes on that is not allowed")
	}
	if c, err := net.DialTimeout("tcp", net.JoinHostPort(info(t, db).IP, "80"), time.Second); err != nil {
		t.Errorf("the host: %v", err)
	} else {
		c.Close()
	}
}

// What a connection that has ended is answered does not begin it again the other way round.
func TestPolicyEndsAnswers(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	db, client := create(t, rt, Spec{Name: "db"}), create(t, rt, Spec{Name: "client"})
	// pair connects client to where listen is called, and returns both ends.
	pair := func(in func(func() error), ip string) (asks, answers net.Conn) {
		t.Helper()
		var l net.Listener
		in(func() (err error) {
			l, err = net.Listen("tcp", net.JoinHostPort(ip, "0"))
			return err
		})
		defer l.Close()
		inPod(t, client, func() (err error) {
			asks, err = net.DialTimeout("tcp", l.Addr().String(), 3*time.Second)
			return err
		})
		answers, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { asks.Close(); answers.Close() })
		return asks, answers
	}
	hears := func(asks, answers net.Conn) bool {
		_ = asks.SetDeadline(time.Now().Add(500 * time.Millisecond))
		_, err := answers.Write([]byte("x"))
		if err == nil {
			_, err = io.ReadFull(asks, make([]byte, 1))
		}
		return err == nil
	}
	inDB := func(f func() error) { t.Helper(); inPod(t, db, f) }
	inHost := func(f func() error) {
		t.Helper()
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	i := info(t, db)
	for _, tt := range []struct {
		what   string
		in     func(func() error)
		ip     string
		whose  *Sandbox
		policy netns.Policy
	}{
		{"nobody to a pod", inDB, i.IP, db, netns.Policy{From: []netns.Peer{}}},
		{"nobody to a pod, by IPv6", inDB, i.IP6, db, netns.Policy{From: []netns.Peer{}}},
		{"a pod to nobody", inDB, i.IP, client, netns.Policy{To: []netns.Peer{}}},
		{"a pod to nobody, by IPv6", inDB, i.IP6, client, netns.Policy{To: []netns.Peer{}}},
		{"a pod to the host", inHost, netns.Gateway.String(), client, netns.Policy{To: []netns.Peer{}}},
	} {
		asks, answers := pair(tt.in, tt.ip)
		if !hears(asks, answers) {
			t.Fatalf("%s: no connection", tt.what)
		}
		if err := tt.whose.Update(bg, Change{Policy: &tt.policy}); err != nil {
			t.Fatal(err)
		}
		if hears(asks, answers) {
			t.Errorf("%s: a connection goes on that is not allowed", tt.what)
		}
		if err := tt.whose.Update(bg, Change{Policy: &netns.Policy{}}); err != nil {
			t.Fatal(err)
		}
	}
}

// Pods of one team talk, and those of two do not; who has the label without being
// isolated counts as well.
func TestIsolate(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	pod := func(name, team string, isolated bool) *Sandbox {
		spec := Spec{Name: name, Labels: map[string]string{"team": team}}
		if isolated {
			spec.Policy.Isolate = "team"
		}
		s := create(t, rt, spec)
		hello(t, s)
		return s
	}
	red, red2, blue, open, redOpen := pod("red", "red", true), pod("red2", "red", true), pod("blue", "blue", true), pod("open", "", false), pod("red-open", "red", false)
	for _, tt := range []struct {
		a, b *Sandbox
		want bool
	}{{red, red2, true}, {red, blue, false}, {red, open, false}, {red, redOpen, true}, {blue, redOpen, false}, {open, redOpen, true}} {
		if connects(t, tt.a, tt.b, tt.want) != tt.want || connects(t, tt.b, tt.a, tt.want) != tt.want {
			t.Errorf("%s and %s: want %v", info(t, tt.a).Name, info(t, tt.b).Name, tt.want)
		}
	}
	if err := red.Update(bg, Change{Labels: map[string]*string{"team": new("blue")}}); err != nil {
		t.Fatal(err)
	}
	if connects(t, red, red2, false) || !connects(t, red, blue, true) {
		t.Error("who has changed sides is where it was")
	}
	if err := red.Update(bg, Change{Labels: map[string]*string{"team": nil}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("isolated by a label that it has not: %v", err)
	}
	for _, spec := range []Spec{
		{Policy: netns.Policy{Isolate: "team"}},
		{Network: netns.None(), Policy: netns.Policy{From: []netns.Peer{}}},
		{Network: netns.Host(), Policy: netns.Policy{From: []netns.Peer{}}},
	} {
		if err := spec.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", spec.Policy, err)
		}
	}
}

// Of a pod whose creator was killed at any step nothing is left in the rules, which other
// pods keep.
func TestPolicyOfTheDead(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	db := create(t, rt, Spec{Name: "db", Policy: netns.Policy{From: peers(t, "label:app=web "+policedSpec.Name)}})
	hello(t, db)
	client := create(t, rt, Spec{Name: "client"})
	for n := 3; ; n++ {
		out, err := child(rt.root, "create", policedSpec.Name, n).CombinedOutput()
		if err != nil && exitSignal(err) != unix.SIGKILL {
			t.Fatalf("%v: %s", err, out)
		}
		if err == nil { // there were less steps
			if s, err := rt.Open(policedSpec.Name); err != nil {
				t.Error(err)
			} else if err := s.Remove(bg); err != nil {
				t.Error(err)
			}
		}
		var heir *Sandbox
		var made error
		for range 50 { // its pause may hold the lock until it ends
			if _, err := rt.Sweep(bg); err != nil {
				t.Error(err)
			}
			if heir, made = rt.Create(bg, Spec{Name: "heir", Network: policedSpec.Network}); made == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if made != nil {
			t.Fatal(made)
		}
		hello(t, heir)
		if connects(t, heir, db, false) {
			t.Errorf("killed before step %d: who has its address has its friends", n)
		}
		if !connects(t, client, heir, true) {
			t.Errorf("killed before step %d: who has its address has its policy", n)
		}
		if err := heir.Remove(bg); err != nil {
			t.Error(err)
		}
		if err == nil {
			if n < 9 {
				t.Errorf("killed before %d steps only", n-1)
			}
			break
		}
	}
}

// Of two who change one half each at once, neither undoes what the other has done.
func TestUpdatesAtOnce(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	s := create(t, rt, Spec{Name: "p"})
	nobody := []netns.Peer{}
	for range 5 {
		if err := s.Update(bg, Change{Policy: &netns.Policy{}}); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for _, set := range []func(*netns.Policy){
			func(p *netns.Policy) { p.From = nobody }, func(p *netns.Policy) { p.To = nobody },
		} {
			all.Go(func() {
				err := s.UpdateBy(bg, func(is *Spec) (Change, error) {
					p := is.Policy
					set(&p)
					return Change{Policy: &p}, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if p := info(t, s).Policy; p.From == nil || p.To == nil {
			t.Errorf("policy %+v", p)
		}
	}
}

// Whoever changes a pod and is killed leaves what is ended by changing or starting it
// again.
func TestUpdateOfTheDead(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	client := create(t, rt, Spec{Name: "client"})
	for n := 1; ; n++ {
		s := create(t, rt, Spec{Name: "p"})
		hello(t, s)
		out, err := child(rt.root, "update", "p", n).CombinedOutput()
		if err != nil && exitSignal(err) != unix.SIGKILL {
			t.Fatalf("%v: %s", err, out)
		}
		last := err == nil
		if n%2 == 0 {
			err = s.Update(bg, trialChange)
		} else if len(info(t, s).Labels) > 0 { // it has begun
			err = s.Start(bg)
		} else {
			err = s.Update(bg, trialChange)
		}
		if err != nil {
			t.Error(err)
		}
		i := info(t, s)
		if b, err := netns.ReadBandwidth(i.Link); err != nil || b != *trialChange.Bandwidth {
			t.Errorf("killed before step %d: bandwidth %+v, %v", n, b, err)
		}
		if connects(t, client, s, false) {
			t.Errorf("killed before step %d: everybody connects", n)
		}
		if rec, err := readRecord(rt.podDir(s.ID())); err != nil || rec.Changing {
			t.Errorf("killed before step %d: not settled, %v", n, err)
		}
		if err := s.Remove(bg); err != nil {
			t.Error(err)
		}
		if last {
			if n < 4 {
				t.Errorf("killed before %d steps only", n-1)
			}
			break
		}
	}
}

// Of a pod that somebody had begun to change who was killed, and that is removed, nothing is
// left in the rules: neither what it has on record nor what it had.
func TestRemoveHalfChanged(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	client, db := create(t, rt, Spec{Name: "client"}), create(t, rt, Spec{Name: "db"})
	hello(t, db)
	none := []netns.Peer{}
	for _, next := range []netns.Policy{{}, {From: none}} {
		s := create(t, rt, Spec{Name: "p", Policy: netns.Policy{From: none, To: none}})
		i := info(t, s)
		// As UpdateBy is, between its first step and its second.
		rec, err := readRecord(rt.podDir(s.ID()))
		if err != nil {
			t.Fatal(err)
		}
		rec.Spec.Policy, rec.Changing = next, true
		if err := errors.Join(rec.write(rt.podDir(s.ID())), s.Remove(bg)); err != nil {
			t.Fatal(err)
		}
		heir := create(t, rt, Spec{Name: "heir", Network: netns.Network{IP: netip.MustParseAddr(i.IP), IP6: netip.MustParseAddr(i.IP6)}})
		hello(t, heir)
		if !connects(t, client, heir, true) || !connects(t, heir, db, true) {
			t.Errorf("changed to %+v: who has its address has its policy", next)
		}
		if err := heir.Remove(bg); err != nil {
			t.Error(err)
		}
	}
}

// Of pods that are made at once, those whose policies name groups and those that belong
// to them, each finds the others.
func TestPoliciesAtOnce(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	const n = 6
	var servers, clients [n]*Sandbox
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			s, err := rt.Create(bg, Spec{Name: fmt.Sprint("server", i), Policy: netns.Policy{From: peers(t, fmt.Sprint("label:app=web client", i))}})
			if err != nil {
				t.Error(err)
			}
			servers[i] = s
		})
		wg.Go(func() {
			spec := Spec{Name: fmt.Sprint("client", i)}
			if i%2 == 0 {
				spec.Labels = map[string]string{"app": "web"}
			}
			s, err := rt.Create(bg, spec)
			if err != nil {
				t.Error(err)
			}
			clients[i] = s
		})
	}
	wg.Wait()
	for _, s := range slices.Concat(servers[:], clients[:]) {
		if s == nil {
			t.FailNow()
		}
		t.Cleanup(func() { s.Remove(bg) })
	}
	for i, s := range servers {
		hello(t, s)
		for j, c := range clients {
			want := j%2 == 0 || i == j
			if !want && j != n-1 && j != (i+1)%n {
				continue // it takes time to see that nothing comes
			}
			if connects(t, c, s, want) != want {
				t.Errorf("client %d to server %d: want %v", j, i, want)
			}
		}
	}
	for _, s := range slices.Concat(servers[:], clients[:]) {
		wg.Go(func() {
			if err := s.Remove(bg); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if there, err := rt.rules.Present(); there || err != nil {
		t.Errorf("after all the rules are there: %v, %v", there, err)
	}
}
