//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/podbox/podbox/netns"
)

// A soak is one run.
type soak struct {
	options
	room, root, state, table string
	others                   *netns.NS // who is beside the host
	stay                     residents
	networks                 []string // of CNI
	empty                    *world   // what must be again
	began                    time.Time
	history                  history
	running                  commands
	rests                    int

	// What has happened since the last rest: which of the invariants hold without
	// somebody's help depends on it.
	flushed, killedPodbox, killedPause, pruned atomic.Int64

	mu     sync.Mutex
	faults []string // that a worker has met
	texts  map[string]int
}

func newSoak(o options) (*soak, error) {
	room := os.Getenv(roomVariable)
	s := &soak{options: o, room: room, root: filepath.Join(room, "run"), state: filepath.Join(room, "state"), began: time.Now(), texts: make(map[string]int)}
	s.table = "podbox-" + rootHash(s.root)
	steps, err := os.Create(filepath.Join(room, "steps"))
	if err != nil {
		return s, err
	}
	s.history.log, s.history.began = steps, s.began
	if err = command("ip", "link", "set", "lo", "up"); err != nil {
		return s, err
	}
	if s.others, err = beside(); err != nil {
		return s, err
	}
	if err := s.furnishCNI(); err != nil {
		return s, err
	}
	return s, os.Setenv("TMPDIR", filepath.Join(room, "tmp"))
}

// stepsPerRest is how many steps each worker does between two rests.
const stepsPerRest = 10

func (s *soak) run(ctx context.Context) error {
	fmt.Printf("soak: seed %d, %d workers, %s\n", s.seed, s.procs, s.length)
	if err := s.calm(true); err != nil {
		return err
	}
	if err := s.importImage(s.state, s.root); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	// The first pods make what stays: directories, kernel modules' sysctls.
	for _, args := range [][]string{{"create", "first"}, {"create", "--network", "cni:" + strings.Join(s.networks, ","), "second"}, {"rm", "-f", "first", "second"}} {
		if r := s.podbox(nil, args...); r.code != 0 {
			return fmt.Errorf("%s: %s", r.line(), r.stderr)
		}
	}
	time.Sleep(200 * time.Millisecond)
	var err error
	if s.empty, err = s.look(); err != nil {
		return err
	}
	if s.stay.first, err = s.measures(); err != nil {
		return err
	}
	fmt.Println("soak: at first", measureText(s.stay.first))
	workers := make([]*worker, s.procs)
	for i := range workers {
		workers[i] = newWorker(s, i)
	}
	chance := rand.New(rand.NewPCG(s.seed, 1<<32))
	for time.Since(s.began) < s.length && ctx.Err() == nil {
		if err := s.calm(false); err != nil {
			return err
		}
		var wg sync.WaitGroup
		for _, w := range workers {
			wg.Go(func() {
				for range stepsPerRest {
					w.step()
				}
			})
		}
		s.await(&wg, workers)
		s.rests++
		if err := s.calm(true); err != nil {
			return err
		}
		if err := s.rest(ctx, workers, chance); err != nil {
			return fmt.Errorf("at rest %d: %w", s.rests, err)
		}
		if s.rests%50 == 0 {
			if err := s.progress(); err != nil {
				return err
			}
		}
	}
	if err := s.end(workers); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	if err := s.progress(); err != nil {
		return err
	}
	if err := s.leave(); err != nil {
		return err
	}
	if s.survey {
		s.printTexts()
	}
	fmt.Println("soak: ok")
	return nil
}

// await waits until all workers rest. A program that is on its way into a pod when that is
// paused waits until it is no longer, and with it whoever starts it.
func (s *soak) await(wg *sync.WaitGroup, workers []*worker) {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	for {
		select {
		case <-done:
			return
		case <-time.After(10 * time.Second):
		}
		for _, w := range workers {
			for _, name := range slices.Concat(w.names(), w.kubeNames(), w.cniNames()) {
				s.podbox(nil, "unpause", name)
			}
		}
	}
}

func (s *soak) progress() error {
	ms, err := s.measures()
	fmt.Printf("soak: %s: %d steps, %d rests, %d podbox killed; %s\n", time.Since(s.began).Round(time.Second), s.history.count(), s.rests, s.history.killed(), measureText(ms))
	return err
}

// fault notes what a worker has met. The run ends at the next rest.
func (s *soak) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// settleTime bounds what may take a moment after everybody has stopped: a supervisor that is
// started again, the kernel that frees.
const settleTime = 15 * time.Second

// rest looks at the world while nobody works.
func (s *soak) rest(ctx context.Context, workers []*worker, chance *rand.Rand) error {
	if len(s.faults) > 0 {
		return errors.New(strings.Join(s.faults, "\n"))
	}
	if err := s.finish(); err != nil {
		return err
	}
	flushed, killed, pauses := s.flushed.Swap(0) > 0, s.killedPodbox.Swap(0) > 0, s.killedPause.Swap(0) > 0
	swept := s.podbox(nil, "gc")
	if swept.code != 0 {
		return fmt.Errorf("podbox gc: %s", swept.stderr)
	}
	if !killed && !pauses && swept.stdout != "" {
		return fmt.Errorf("podbox gc has found something, and nobody was killed:\n%s", swept.stdout)
	}
	if flushed {
		// Until both have their rules again, each takes the links that forward for the other for
		// a router's.
		if r := s.podboxAt(observer, s.stay.root, s.stay.state, "network", "reload"); r.code != 0 {
			return fmt.Errorf("residents: %s: %s", r.line(), r.stderr)
		}
	}
	if flushed || killed || pauses {
		// The kernel takes a moment to remove the link of a pod whose pause was killed.
		if _, err := s.hold(always); err != nil {
			return err
		}
		if r := s.podbox(nil, "network", "reload"); r.code != 0 {
			return fmt.Errorf("podbox network reload: %s", r.stderr)
		}
	}
	w, err := s.hold(always, reloaded)
	if err != nil {
		return err
	}
	if err := s.owned(w, workers); err != nil {
		return err
	}
	if err := s.reachable(w, chance); err != nil {
		return err
	}
	if err := s.visit(chance); err != nil {
		return err
	}
	switch {
	case s.rests%12 == 0:
		return s.clear(workers)
	case s.rests%3 == 0:
		return s.heal(w, workers)
	}
	return nil
}

// finish removes pods that could not be made, nor undone as our CNI plugin would not: that is a
// user's to do.
func (s *soak) finish() error {
	w := &world{}
	if err := s.lookFiles(w); err != nil {
		return err
	}
	for id, r := range w.records {
		if r.State != "broken" || !strings.Contains(r.Error, "soakledger: ") {
			continue
		}
		if r := s.podbox(nil, "rm", "-f", id); r.code != 0 {
			return fmt.Errorf("%s: %s", r.line(), r.stderr)
		}
	}
	return nil
}

// hold waits until all invariants hold, or says which do not.
func (s *soak) hold(lists ...[]invariant) (*world, error) {
	var bad []string
	for deadline := time.Now().Add(settleTime); ; time.Sleep(100 * time.Millisecond) {
		w, err := s.look()
		if err != nil {
			return nil, err
		}
		bad = nil
		for _, i := range slices.Concat(lists...) {
			for _, text := range i.broken(s, w) {
				bad = append(bad, fmt.Sprintf("%s: %s (%s)", i.name, text, i.reason))
			}
		}
		if len(bad) == 0 {
			return w, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.New(strings.Join(bad, "\n"))
		}
	}
}

// owned compares with what the workers know of the pods that nobody else changes.
func (s *soak) owned(w *world, workers []*worker) error {
	pruned := s.pruned.Swap(0) > 0
	for _, worker := range workers {
		for name, known := range worker.mine {
			id, has := w.names[name]
			switch {
			case known.sure && known.id != "" && id != known.id && (has || !pruned):
				return fmt.Errorf("pod %q was %.12s, and is %.12q", name, known.id, id)
			case known.sure && known.id == "" && has:
				return fmt.Errorf("pod %q was removed, and is there: %.12s", name, id)
			case known.sure && known.ip != "" && has && w.pods[id].IP != known.ip:
				return fmt.Errorf("pod %q had %s, and has %s", name, known.ip, w.pods[id].IP)
			}
			known.id, known.ip, known.sure = id, "", true
			if w.pods[id].Network == "pod" {
				known.ip = w.pods[id].IP
			}
		}
	}
	return nil
}

// reachable asks by each published port who is there: from the host by all its addresses, and
// from beside it. And what is not published must not be reached.
func (s *soak) reachable(w *world, chance *rand.Rand) error {
	serves := make(map[string]bool)
	for _, c := range w.containers {
		if c.Name == serverName && c.State == "running" {
			serves[c.Pod] = true
		}
	}
	taken := make(map[int]bool)
	for id, p := range w.pods {
		for _, port := range p.Ports {
			port = port.WithDefaults()
			for i := range port.Count {
				taken[int(port.HostPort+i)] = true
			}
			claimed := !slices.ContainsFunc(claimsOf(port), func(c string) bool { return w.claims[c] != id })
			if p.State != "running" || !serves[id] || !claimed || p.Network != "pod" {
				continue
			}
			port.HostPort += uint16(chance.IntN(int(port.Count)))
			if err := s.answers(w, p, port); err != nil {
				return err
			}
		}
	}
	if err := s.between(w, serves, chance); err != nil {
		return err
	}
	if err := s.plugged(w, serves); err != nil {
		return err
	}
	for range 2 {
		port := uint16(firstHostPort + chance.IntN(hostPorts))
		if taken[int(port)] {
			continue
		}
		for _, at := range []string{hostIP, "127.0.0.1"} {
			if name, err := ask("tcp", netip.AddrPortFrom(netip.MustParseAddr(at), port), time.Second); err == nil {
				return fmt.Errorf("%q answers at %s:%d, which nobody publishes", name, at, port)
			}
		}
	}
	return s.guarded(w)
}

// answers asks by one port. A server that was killed a moment ago has some seconds to be
// back.
func (s *soak) answers(w *world, p pod, port netns.Port) error {
	type way struct {
		from string // where the question comes from
		to   string
	}
	ways := []way{{"host", "127.0.0.1"}, {"host", hostIP}, {"outside", hostIP}, {"host", hostIP6}, {"outside", hostIP6}}
	if there, err := s.reachesLoopback6(); err != nil {
		return err
	} else if there {
		ways = append(ways, way{"host", "::1"})
	}
	for _, way := range ways {
		to := netip.MustParseAddr(way.to)
		at := port.HostIP // the other loopback is reached only by what is published at all addresses
		if at.IsValid() && at.Is4() != to.Is4() || at.IsValid() && !at.IsUnspecified() && at != to {
			continue
		}
		protocol := string(port.Protocol)
		admitted := true // the host always is
		if way.from == "outside" {
			other := otherIP
			if to.Is6() {
				other = otherIP6
			}
			admitted = w.admits(p.ID, netip.MustParseAddr(other), port)
		}
		question := func() (name string, err error) {
			do := func() error {
				name, err = ask(protocol, netip.AddrPortFrom(to, port.HostPort), patienceFor(admitted))
				return nil
			}
			if way.from == "host" {
				_ = do()
			} else if derr := s.others.Do(do); derr != nil {
				return "", derr
			}
			return name, err
		}
		if err := expect(question, admitted, p.Name); err != nil {
			return fmt.Errorf("pod %q (%s) by port %s, from %s at %s: %w", p.Name, policyText(w.records[p.ID]), port, way.from, way.to, err)
		}
	}
	return nil
}

// reachesLoopback6 reports whether ::1 of the host leads to pods now.
func (s *soak) reachesLoopback6() (bool, error) {
	there, err := netns.Loopback6{Name: netns.LoopbackName(s.table)}.Present()
	if errors.Is(err, netns.ErrNotSupported) {
		err = nil
	}
	return there, err
}

// plugged asks pods in the bridge's network from the host.
func (s *soak) plugged(w *world, serves map[string]bool) error {
	for id, p := range w.pods {
		addr, err := netip.ParseAddr(p.IP)
		if err != nil || p.State != "running" || !serves[id] || w.lanLeases[p.IP] != id {
			continue
		}
		if err := expect(func() (string, error) { return ask("tcp", netip.AddrPortFrom(addr, servedPort), time.Second) }, true, p.Name); err != nil {
			return fmt.Errorf("pod %q at %s, by the bridge: %w", p.Name, addr, err)
		}
	}
	return nil
}

// guarded makes sure that the host does not forward to pods what is not published.
func (s *soak) guarded(w *world) error {
	if !strings.Contains(w.ruleset, "table inet "+s.table+" ") {
		return nil
	}
	for _, p := range w.pods {
		if p.State != "running" || p.IP == "" || p.Network != "pod" {
			continue
		}
		for _, a := range []string{p.IP, p.IP6} {
			var name string
			var err error
			derr := s.others.Do(func() error {
				name, err = ask("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), servedPort), 50*time.Millisecond)
				return nil
			})
			if derr != nil {
				return derr
			}
			if err == nil {
				return fmt.Errorf("from outside %s answers at %s: the host is a router", name, a)
			}
		}
		break // one will do
	}
	return nil
}

// heal starts all pods: each runs then, and has the address that it had.
func (s *soak) heal(before *world, workers []*worker) error {
	for id := range before.pods {
		r := s.podbox(nil, "start", id)
		if r.code != 0 && !strings.Contains(r.stderr, "pod is paused") {
			return fmt.Errorf("podbox start %.12s: %s", id, r.stderr)
		}
		if p := s.pod(id); p == nil || p.State != "paused" {
			continue
		}
		if r := s.podbox(nil, "unpause", id); r.code != 0 {
			return fmt.Errorf("podbox unpause %.12s: %s", id, r.stderr)
		}
		if r.code == 0 {
			continue
		}
		// A container of it was to be started again, as nothing can be in a pod that is paused.
		if r := s.podbox(nil, "start", id); r.code != 0 {
			return fmt.Errorf("podbox start %.12s, which was paused: %s", id, r.stderr)
		}
	}
	w, err := s.hold(always, reloaded)
	if err != nil {
		return fmt.Errorf("after podbox start of all: %w", err)
	}
	for id, p := range before.pods {
		now := w.pods[id]
		if now.State != "running" || p.Network == "pod" && (now.IP != p.IP || now.IP6 != p.IP6) {
			return fmt.Errorf("pod %q had %s, was started, and is %s with %s: %s", p.Name, p.IP, now.State, now.IP, now.Error)
		}
	}
	return s.owned(w, workers)
}

// clear removes all pods, and compares the world with what it was.
func (s *soak) clear(workers []*worker) error {
	if err := s.unapplyAll(workers); err != nil {
		return err
	}
	if r := s.podbox(nil, "rm", "-f", "-t", "0", "-a"); r.code != 0 {
		return fmt.Errorf("podbox rm -f -a: %s", r.stderr)
	}
	for _, w := range workers {
		w.forget()
	}
	if _, err := s.hold(always, whenEmpty); err != nil {
		return fmt.Errorf("after podbox rm -f -a: %w", err)
	}
	if r := s.podbox(nil, "gc"); r.code != 0 || r.stdout != "" {
		return fmt.Errorf("podbox gc of an empty world: %s%s", r.stdout, r.stderr)
	}
	w, err := s.look()
	if err == nil && w.uses > 0 {
		err = fmt.Errorf("podbox gc of an empty world: %d uses of images are noted", w.uses)
	}
	if err != nil {
		return err
	}
	return nil
}

func (s *soak) end(workers []*worker) error {
	if r := s.podbox(nil, "gc"); r.code != 0 {
		return fmt.Errorf("podbox gc: %s", r.stderr)
	}
	return s.clear(workers)
}
