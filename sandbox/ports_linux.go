package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/steps"
	"github.com/podbox/podbox/netns"
)

// What a pod publishes is in its record first, then claimed (see netns.Claims), and
// then, while the pod has a link, in the host's rules; it goes the other way round.
// So whatever is claimed is on record, and the rules follow from both.

// A PublishedError says that another pod publishes a port. It matches netns.ErrInUse.
type PublishedError struct {
	Port netns.Port
	Pod  string // its name
}

func (e *PublishedError) Error() string {
	return fmt.Sprintf("port %s: pod %q publishes it", e.Port, e.Pod)
}

// Is makes a PublishedError match netns.ErrInUse.
func (e *PublishedError) Is(target error) bool { return target == netns.ErrInUse }

// publication is what a pod publishes of ports.
func publication(rec *record, ports []netns.Port) netns.Publication {
	return netns.Publication{Address: rec.Address, Ports: ports}
}

// claimStep takes the ports. fresh says that they are given back if a later step
// fails: those of a pod that was there before stay its own.
func (b *build) claimStep(fresh bool) steps.Step {
	s := steps.Step{
		Name: "ports",
		Text: "take " + portList(b.rec.Spec.Ports),
		Do:   func(ctx context.Context) error { return b.rt.takePorts(ctx, b.rec, 0) },
	}
	if fresh {
		s.Back = "give the ports back"
		s.Undo = b.noted(func(ctx context.Context) error { return b.rt.claims.Release(ctx, b.rec.ID, b.rec.Spec.Ports) })
	}
	return s
}

func (b *build) publishStep() steps.Step {
	return steps.Step{
		Name: "publish",
		Text: "publish " + portList(b.rec.Spec.Ports) + "; forget connections that go elsewhere",
		Back: "publish them no more",
		Do:   func(ctx context.Context) error { return b.rt.publish(ctx, b.rec, b.rec.Spec.Ports) },
		Undo: b.noted(func(ctx context.Context) error { return b.rt.unpublish(ctx, b.rec, b.rec.Spec.Ports, nil) }),
	}
}

func portList(ports []netns.Port) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = p.String()
	}
	return "ports " + strings.Join(words, ", ")
}

// maxChoices bounds how often a port of the host is chosen that somebody has.
const maxChoices = 100

// takePorts takes the ports that a record has, from one on, for its pod, and chooses those
// of the host that are left open. What is chosen is on record before it is taken.
func (rt *Runtime) takePorts(ctx context.Context, rec *record, from int) error {
	ports := rec.Spec.Ports[from:]
	given := slices.DeleteFunc(slices.Clone(ports), func(p netns.Port) bool { return p.HostPort == 0 })
	if err := rt.claimPorts(ctx, rec, given); err != nil {
		return err
	}
	for i, open := range ports {
		if open.HostPort != 0 {
			continue
		}
		if err := rt.choosePort(ctx, rec, &ports[i]); err != nil {
			ports[i] = open
			return errors.Join(err, rec.write(rt.podDir(rec.ID)))
		}
	}
	return nil
}

// choosePort chooses the port of the host of p, one of rec's, which leaves it open.
func (rt *Runtime) choosePort(ctx context.Context, rec *record, p *netns.Port) error {
	open := *p
	taken := fmt.Errorf("port %s: %w: a free one was not found", open, netns.ErrInUse)
	for range maxChoices {
		chosen, err := netns.Choose(open)
		if err != nil {
			return err
		}
		*p = open
		if slices.ContainsFunc(rec.Spec.Ports, chosen.Overlaps) {
			continue // the pod's own
		}
		*p = chosen
		if err := rec.write(rt.podDir(rec.ID)); err != nil {
			return err
		}
		taken = rt.claimPorts(ctx, rec, []netns.Port{chosen})
		if taken == nil {
			return nil
		}
		if err := rt.claims.Release(ctx, rec.ID, []netns.Port{chosen}); err != nil {
			return err
		}
		if !errors.Is(taken, netns.ErrInUse) {
			break
		}
	}
	return taken
}

// claimPorts takes ports for a pod: *PublishedError if another pod has one,
// *netns.ListenerError if a process of the host listens on it. What the pod has
// already it may claim again.
func (rt *Runtime) claimPorts(ctx context.Context, rec *record, ports []netns.Port) error {
	for _, p := range ports {
		if rec.plugged() {
			break // what addresses it will have, and how ports are translated, is the plugins' to know
		}
		if p.HostIP.Is6() && !rec.Address.IP6.IsValid() {
			return fmt.Errorf("port %s: %w: the pod has no IPv6 address", p, ErrInvalid)
		}
		if err := netns.CanTranslate(p.Protocol); err != nil {
			return fmt.Errorf("port %s: %w", p, err)
		}
		if p.HostIP == netip.IPv6Loopback() {
			if err := rt.loopback.Usable(); err != nil {
				return fmt.Errorf("port %s: %w", p, err)
			}
		}
	}
	for range 10 {
		err := rt.claims.Claim(ctx, rec.ID, ports)
		var claimed *netns.ClaimedError
		if !errors.As(err, &claimed) {
			if err != nil {
				return err
			}
			break
		}
		if err := rt.dropClaim(ctx, claimed); err != nil {
			return err
		}
	}
	// With the claim no pod of ours can come in between; others can at any time.
	err := rt.rules.Elsewhere(ports)
	for _, p := range ports {
		if err == nil {
			err = netns.Unheard(p)
		}
	}
	return err
}

// dropClaim frees the claims of an owner that is dead, or returns a *PublishedError.
func (rt *Runtime) dropClaim(ctx context.Context, claimed *netns.ClaimedError) error {
	owner := claimed.Owner
	if !rt.recorded(owner) {
		_, err := rt.claims.Sweep(ctx, func(o string) bool { return !rt.recorded(o) })
		return err
	}
	err := rt.sweepPod(ctx, owner)
	if !errors.Is(err, errAlive) {
		return err
	}
	name := owner
	if rec, err := readRecord(rt.podDir(owner)); err == nil {
		name = rec.Spec.Name
	}
	return &PublishedError{claimed.Port, name}
}

// publish puts ports of a pod that has a link into the host's rules.
func (rt *Runtime) publish(ctx context.Context, rec *record, ports []netns.Port) error {
	pub := publication(rec, ports)
	lock, err := rt.lockRules(ctx, flock.Shared)
	if err != nil {
		return err
	}
	there, err := rt.rules.Present()
	if err == nil && there {
		err = rt.rules.Add(pub)
	}
	if err == nil && there {
		there, err = rt.addLoopback(pub)
	}
	lock.Close()
	if err != nil || !there {
		// Flushed by others; or they have left what does not agree with ours.
		// The records tell all.
		if err = rt.replaceRules(ctx); err != nil {
			return err
		}
	}
	if err := netns.ReachLoopback(rec.link(), true); err != nil {
		return err
	}
	return netns.ForgetOthers(pub)
}

// unpublish takes ports of a pod out of the host's rules, and calls then, if it is
// given, before the rules can be made anew. What is not there is no error.
func (rt *Runtime) unpublish(ctx context.Context, rec *record, ports []netns.Port, then func() error) error {
	if err := rt.deletePorts(ctx, rec, ports, then); err != nil {
		return err
	}
	// Without the lock: where connections come and go by the thousands the look at all of
	// them takes long. Of all ports, should this be the second time and the first have
	// come no further: what goes to the pod is the pod's.
	return netns.ForgetPod(publication(rec, ports))
}

// deletePorts is unpublish as far as it needs the lock of the rules.
func (rt *Runtime) deletePorts(ctx context.Context, rec *record, ports []netns.Port, then func() error) error {
	last := !slices.ContainsFunc(rec.Spec.Ports, func(p netns.Port) bool { return !slices.Contains(ports, p) })
	lock, err := rt.lockRules(ctx, flock.Shared)
	if err != nil {
		return err
	}
	defer lock.Close()
	pub := rt.claimed(rec, ports)
	if err := errors.Join(rt.rules.Delete(pub, last), rt.loopback.Delete(pub)); err != nil {
		return err
	}
	if last {
		if err := netns.ReachLoopback(rec.link(), false); err != nil {
			return err
		}
	}
	if then != nil {
		return then()
	}
	return nil
}

// unpublishLast takes all ports of a pod whose programs have ended out of the host's
// rules, and its link away. Ports come first: what came in by them without a link would
// be sent on to the pod's address all the same, by the default route, and its sender
// would wait for an answer. While the lock is held nobody publishes them anew.
func (rt *Runtime) unpublishLast(ctx context.Context, rec *record) error {
	if err := rt.deleteLast(ctx, rec); err != nil {
		return err
	}
	return netns.ForgetAll(rec.Address)
}

// deleteLast is unpublishLast as far as it needs the lock of the rules.
func (rt *Runtime) deleteLast(ctx context.Context, rec *record) error {
	lock, err := rt.lockRules(ctx, flock.Shared)
	if err != nil {
		return err
	}
	defer lock.Close()
	pub := rt.claimed(rec, rec.Spec.Ports)
	if err := errors.Join(rt.rules.Delete(pub, true), rt.loopback.Delete(pub)); err != nil {
		return err
	}
	return rt.disconnect(rec)
}

// claimed is what a pod publishes of ports as far as it has got them: one that it never
// got may be another pod's.
func (rt *Runtime) claimed(rec *record, ports []netns.Port) netns.Publication {
	return publication(rec, slices.DeleteFunc(slices.Clone(ports), func(p netns.Port) bool { return !rt.claims.Has(rec.ID, p) }))
}

// Publish publishes more ports of the pod. Those that it publishes already are no
// error. Each that leaves its HostPort open gets one that nobody has: Info tells. Of a
// pod that does not run the ports are taken; it publishes them when it is started. A *PublishedError or *netns.ListenerError says who has a port.
func (s *Sandbox) Publish(ctx context.Context, ports ...netns.Port) error {
	return s.locked(ctx, "publish ports of", func(rec *record, lock *flock.Lock) error {
		if err := editable(rec); err != nil {
			return err
		}
		var more []netns.Port
		for _, p := range ports {
			// One on record that is open was not chosen, for somebody was killed before.
			if p = p.WithDefaults(); !slices.Contains(rec.Spec.Ports, p) {
				more = append(more, p)
			}
		}
		if len(more) == 0 && !rec.Changing {
			return nil
		}
		next := *rec
		next.Spec.Ports = append(slices.Clone(rec.Spec.Ports), more...)
		if err := next.Spec.Validate(); err != nil {
			return err
		}
		if err := steps.Run(ctx, s.rt.publishPlan(rec, &next), s.rt.hook); err != nil {
			return err
		}
		s.rt.announce("publish", rec)
		return nil
	})
}

// publishPlan leads from one record of a pod to the next, which publishes more. It ends what
// somebody else had begun to change.
func (rt *Runtime) publishPlan(rec, next *record) []steps.Step {
	dir, from := rt.podDir(rec.ID), len(rec.Spec.Ports)
	if rec.Changing { // who knows what of them was taken, and is in the rules
		from = 0
	}
	plan := []steps.Step{{
		Name: "record",
		Text: "record the ports",
		Back: "record them no more",
		Do: func(context.Context) error {
			next.Changing = true
			return next.write(dir)
		},
		Undo: func(context.Context) error { return rec.write(dir) },
	}, rt.portsStep(next, rec, from)}
	if netns.Connected(rec.link()) {
		plan = append(plan, steps.Step{
			Name: "publish",
			Text: "publish " + portList(next.Spec.Ports[from:]) + "; forget connections that go elsewhere",
			Back: "publish them no more",
			Do:   func(ctx context.Context) error { return rt.publish(ctx, next, next.Spec.Ports[from:]) },
			Undo: func(ctx context.Context) error { return rt.unpublish(ctx, next, morePorts(next, rec), nil) },
		})
	}
	if rec.Changing {
		return append(plan, rt.finishPlan(next)...)
	}
	return append(plan, rt.settledStep(next))
}

// portsStep takes the ports of next, from one on, and chooses those that are open. Those
// that rec does not have are given back if a later step fails.
func (rt *Runtime) portsStep(next, rec *record, from int) steps.Step {
	return steps.Step{
		Name: "ports",
		Text: "take " + portList(next.Spec.Ports[from:]),
		Back: "give back what there was not before",
		Do:   func(ctx context.Context) error { return rt.takePorts(ctx, next, from) },
		Undo: func(ctx context.Context) error { return rt.claims.Release(ctx, rec.ID, morePorts(next, rec)) },
	}
}

// morePorts returns the ports that next has and rec has not.
func morePorts(next, rec *record) []netns.Port {
	return slices.DeleteFunc(slices.Clone(next.Spec.Ports), func(p netns.Port) bool { return slices.Contains(rec.Spec.Ports, p) })
}

// Unpublish ends that the pod publishes ports, each as it was published: ErrNoPort if it
// does not publish one, then it goes on publishing all. Connections by them end, other
// than the host's by ::1.
func (s *Sandbox) Unpublish(ctx context.Context, ports ...netns.Port) error {
	return s.locked(ctx, "unpublish ports of", func(rec *record, lock *flock.Lock) error {
		if err := editable(rec); err != nil {
			return err
		}
		next := *rec
		next.Spec.Ports = slices.Clone(rec.Spec.Ports)
		var less []netns.Port
		for _, p := range ports {
			p = p.WithDefaults()
			i := slices.Index(next.Spec.Ports, p)
			if i < 0 {
				return fmt.Errorf("%w: %s", ErrNoPort, p)
			}
			next.Spec.Ports = slices.Delete(next.Spec.Ports, i, i+1)
			less = append(less, p)
		}
		if len(less) == 0 {
			return nil
		}
		plan := []steps.Step{{
			Name: "mark",
			Text: "record that the ports change",
			Do: func(context.Context) error {
				mark := *rec
				mark.Changing = true
				return mark.write(s.rt.podDir(rec.ID))
			},
		}, {
			Name: "unpublish",
			Text: "publish " + portList(less) + " no more, give them back",
			Do: func(ctx context.Context) error {
				return s.rt.unpublish(ctx, rec, less, func() error { return s.rt.claims.Release(ctx, rec.ID, less) })
			},
		}, {
			Name: "record",
			Text: "record them no more",
			Do:   func(context.Context) error { return next.write(s.rt.podDir(rec.ID)) },
		}}
		if err := steps.Run(ctx, plan, s.rt.hook); err != nil {
			return err
		}
		s.rt.announce("unpublish", rec)
		return nil
	})
}

// editable reports why a pod's ports cannot be changed.
func editable(rec *record) error {
	if rec.State != Running && rec.State != Stopped {
		return fmt.Errorf("%w: its state is %s, it can only be removed", ErrNotRunning, rec.State)
	}
	if !rec.wired() {
		return fmt.Errorf("network %s: %w: ports need network pod", rec.Spec.Network, ErrInvalid)
	}
	return nil
}
