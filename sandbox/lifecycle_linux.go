package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/nsfs"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/steps"
	"github.com/podbox/podbox/netns"
)

// Start brings a stopped pod up, with its address, and heals a degraded one: a
// new pause joins the namespaces that the pod's programs still hold. It does
// nothing to a pod that runs.
func (s *Sandbox) Start(ctx context.Context) error {
	return s.locked(ctx, "start", func(rec *record, lock *flock.Lock) error {
		b := &build{rt: s.rt, rec: rec, lock: lock}
		defer b.close()
		switch rec.State {
		case Created, Removing, Broken:
			return fmt.Errorf("%w: its state is %s, it can only be removed", ErrNotRunning, rec.State)
		}
		plan, err := b.startPlan()
		if err != nil || len(plan) == 0 {
			return err
		}
		if err := steps.Run(ctx, plan, s.rt.hook); err != nil {
			return err
		}
		s.rt.announce("start", rec)
		return nil
	})
}

// startPlan is what brings a recorded pod to state running; nothing if it is. It ends what
// somebody else had begun to change.
func (b *build) startPlan() ([]steps.Step, error) {
	plan, err := b.runPlan()
	if err != nil || !b.rec.Changing {
		return plan, err
	}
	return append(plan, b.rt.finishPlan(b.rec)...), nil
}

// runPlan is startPlan for a pod that is as its record says, as far as it is.
func (b *build) runPlan() ([]steps.Step, error) {
	rec := b.rec
	var plan []steps.Step
	if rec.wired() {
		plan = append(plan, steps.Step{
			Name: "address",
			Text: "make sure of the address",
			Do:   b.reclaimAddress,
		})
	}
	if len(rec.Spec.Ports) > 0 {
		plan = append(plan, b.claimStep(false))
	}
	if rec.State == Stopped {
		return append(plan, b.upPlan()...), nil
	}
	pidfd, err := openPause(rec)
	if err == nil { // the pause lives
		if rec.plugged() && rec.Rewiring {
			b.pause = &newborn{identity: rec.Pause, pidfd: pidfd, gate: nil}
			return append(plan, b.networksStep(), b.reattachStep(), b.rewiredStep()), nil
		}
		if !rec.wired() || b.connected() {
			pidfd.Close()
			return b.reloadPlan()
		}
		b.pause = &newborn{identity: rec.Pause, pidfd: pidfd, gate: nil}
		plan = append(plan, b.rewiredBefore(), b.rewireStep())
		if rec.limitsLink() {
			plan = append(plan, b.limitLinkStep())
		}
		if rec.publishes() {
			plan = append(plan, b.publishStep())
		}
		return append(plan, b.rewiredStep()), nil
	}
	if !errors.Is(err, proc.ErrGone) {
		return nil, err
	}
	survivors, err := b.rt.looks.fresh().members(rec, false)
	if err != nil {
		return nil, err
	}
	defer survivors.close()
	if rec.wired() {
		plan = append(plan, b.rewiredBefore())
	}
	if len(survivors) == 0 {
		return append(plan, b.upPlan()...), nil
	}
	if err := b.adopt(survivors); err != nil {
		return nil, err
	}
	return append(plan, b.healPlan()...), nil
}

// healPlan gives surviving members a new pause.
func (b *build) healPlan() []steps.Step {
	plan := []steps.Step{b.cloneStep(), b.pauseStep(), {
		Name: "memory",
		Text: "take over /dev/shm and the volumes in memory",
		Do:   func(context.Context) error { return b.memory.attach(b.pause.pidfd) },
	}}
	anew := func(n Namespace) bool { return b.rec.Spec.owns(n) && !slices.Contains(b.joined, n) }
	switch {
	case anew(Net) && b.rec.plugged():
		plan = append(plan, b.networksStep(), b.wireStep())
	case b.rec.wired() && (anew(Net) || !b.connected()):
		plan = append(plan, b.rewireStep())
	case anew(Net):
		plan = append(plan, b.wireStep())
	case b.rec.plugged() && b.rec.Rewiring:
		plan = append(plan, b.networksStep(), b.reattachStep())
	case b.rec.plugged():
		plan = append(plan, b.checkStep())
	}
	if b.rec.limitsLink() {
		plan = append(plan, b.limitLinkStep())
	}
	if b.rec.publishes() {
		plan = append(plan, b.publishStep())
	}
	if len(b.rec.Spec.Sysctls) > 0 && (anew(Net) || anew(IPC)) {
		plan = append(plan, b.sysctlStep())
	}
	return append(plan, b.commitStep())
}

// reloadPlan is for a pod that runs: nothing, unless others have flushed the host's
// rules, or taken the limits of its link away.
func (b *build) reloadPlan() ([]steps.Step, error) {
	if !b.rec.wired() {
		return nil, nil
	}
	var plan []steps.Step
	if b.rec.limitsLink() {
		has, err := netns.ReadBandwidth(b.rec.link())
		if err != nil {
			return nil, err
		}
		const bits = 8 // the kernel counts bytes
		if want := b.rec.Spec.Bandwidth; has.Ingress/bits != want.Ingress/bits || has.Egress/bits != want.Egress/bits {
			plan = append(plan, b.limitLinkStep())
		}
	}
	if there, err := b.rt.rules.Present(); there || incapable(err) {
		return plan, nil
	} else if err != nil {
		return nil, err
	}
	return append(plan, steps.Step{
		Name: "rules",
		Text: "make the host's rules anew",
		Do:   b.rt.ensureRules,
	}), nil
}

// connected reports whether the pod has its link, all of it.
func (b *build) connected() bool {
	return !b.rec.Rewiring && netns.Routed(b.rec.Address, b.rec.link())
}

// rewiredBefore comes before a pod that was not stopped gets a link.
func (b *build) rewiredBefore() steps.Step {
	return steps.Step{
		Name: "record",
		Text: "record that the pod may have had a link before",
		Do: func(context.Context) error {
			b.rec.Rewired = true
			return b.rec.write(b.rt.podDir(b.rec.ID))
		},
	}
}

// rewireStep gives a pod whose link was taken away a new one. It may have programs in it,
// which keep what a kill leaves half-made: so that is on record first.
func (b *build) rewireStep() steps.Step {
	s := b.wireStep()
	wire := s.Do
	s.Name = "rewire"
	s.Do = func(ctx context.Context) error {
		b.rec.Rewiring = true
		if err := b.rec.write(b.rt.podDir(b.rec.ID)); err != nil {
			return err
		}
		return wire(ctx)
	}
	return s
}

// rewiredStep comes last, for a pod whose pause has lived all the time.
func (b *build) rewiredStep() steps.Step {
	return steps.Step{
		Name: "commit",
		Text: "record that the pod is connected",
		Do: func(context.Context) error {
			b.rec.Rewiring = false
			return b.rec.write(b.rt.podDir(b.rec.ID))
		},
	}
}

// adopt opens, of each kind, the namespace that the pod had, as far as a survivor
// is in it.
func (b *build) adopt(survivors members) error {
	for _, n := range allNamespaces {
		want, has := b.rec.Namespaces[n]
		if !has || !b.rec.Spec.owns(n) || n == PID { // a PID namespace without its first process is dead
			continue
		}
		for _, m := range survivors {
			f, err := os.Open(nsfs.Path(m.pid, string(n)))
			if err != nil {
				continue // ended meanwhile
			}
			// The survivor was proved by one of its namespaces; of the
			// others, the numbers tell, for they were all held together.
			if got, err := nsfs.Of(f); err != nil || got.Inode != want.Inode ||
				want.Unique != 0 && got.Unique != want.Unique || proc.Exited(m.pidfd) {
				f.Close()
				continue
			}
			b.join, b.joined = append(b.join, f), append(b.joined, n)
			break
		}
	}
	var err error
	b.memory, err = survivingMemory(b.rec, survivors)
	return err
}

// reclaimAddress makes sure of the pod's leases, which somebody may have removed.
func (b *build) reclaimAddress(ctx context.Context) error {
	var errs []error
	if b.rec.Address.IP.IsValid() {
		errs = append(errs, b.rt.leases.Claim(ctx, b.rec.Address.IP, b.rec.ID))
	}
	if b.rec.Address.IP6.IsValid() {
		errs = append(errs, b.rt.leases.Claim(ctx, b.rec.Address.IP6, b.rec.ID))
	}
	return errors.Join(errs...)
}

// DefaultGrace is how long Stop waits by default between asking and killing.
const DefaultGrace = 10 * time.Second

// StopOptions are those of Stop. The zero value is the default.
type StopOptions struct {
	// Signal asks programs to end. 0: SIGTERM.
	Signal unix.Signal
	// Grace is how long they have before they are killed. 0: DefaultGrace.
	// Negative: none, they are not asked.
	Grace time.Duration
}

func (o StopOptions) withDefaults() StopOptions {
	if o.Signal == 0 {
		o.Signal = unix.SIGTERM
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	return o
}

// Stop ends all programs in the pod, then its network and its pause. Record,
// address and name are kept. It does nothing to a stopped pod.
func (s *Sandbox) Stop(ctx context.Context, opts StopOptions) error {
	opts = opts.withDefaults()
	return s.locked(ctx, "stop", func(rec *record, _ *flock.Lock) error {
		if rec.State != Running && rec.State != Stopped {
			return fmt.Errorf("%w: its state is %s, it can only be removed", ErrNotRunning, rec.State)
		}
		plan := append([]steps.Step{s.rt.membersStep(rec, opts)}, s.rt.downPlan(rec, false)...)
		plan = append(plan, steps.Step{
			Name: "commit",
			Text: "record the pod as stopped",
			Do: func(context.Context) error {
				rec.State, rec.Pause, rec.Namespaces, rec.Rewiring, rec.Rewired = Stopped, proc.Identity{}, nil, false, false
				return rec.write(s.rt.podDir(rec.ID))
			},
		})
		was := rec.State
		if err := steps.Run(ctx, plan, s.rt.hook); err != nil || was == Stopped {
			return err
		}
		s.rt.announce("stop", rec)
		return nil
	})
}

// membersStep ends the programs in a pod. It can be repeated.
func (rt *Runtime) membersStep(rec *record, opts StopOptions) steps.Step {
	return steps.Step{
		Name: "members",
		Text: "end the programs in the pod",
		Do: func(ctx context.Context) error {
			pidfd, err := openPause(rec)
			alive := err == nil
			if alive {
				defer pidfd.Close()
			} else if !errors.Is(err, proc.ErrGone) {
				return err
			}
			if err := rt.thaw(rec.ID); err != nil {
				return err
			}
			return rt.looks.endMembers(ctx, rec, alive, opts.Signal, max(opts.Grace, 0))
		},
	}
}

// downPlan ends what holds a pod in which no program runs. It can be repeated. force goes on
// where plugins are gone.
func (rt *Runtime) downPlan(rec *record, force bool) []steps.Step {
	unwire := steps.Step{
		Name: "unwire",
		Text: "remove the link; forget the connections of the pod",
		Do:   func(context.Context) error { return rt.unwire(rec) },
	}
	if rec.plugged() {
		unwire = rt.detachStep(rec, force)
	}
	if rec.publishes() {
		unwire.Text = "publish " + portList(rec.Spec.Ports) + " no more; remove the link; forget the connections of the pod"
		unwire.Do = func(ctx context.Context) error { return rt.unpublishLast(ctx, rec) }
	}
	return []steps.Step{unwire, {
		Name: "cgroup",
		Text: "remove the cgroup",
		Do:   func(ctx context.Context) error { return rt.removeGroup(ctx, rec.ID) },
	}, {
		Name: "pause",
		Text: "end the pause, and with it the namespaces",
		Do: func(context.Context) error {
			if err := endPause(rec); err != nil {
				return err
			}
			return rt.removeParent()
		},
	}}
}

// Kill sends a signal to all programs in the pod; not to its pause.
func (s *Sandbox) Kill(_ context.Context, sig unix.Signal) error {
	ms, err := s.members()
	if err != nil {
		return s.wrap("kill", err)
	}
	defer ms.close()
	if len(ms) == 0 {
		if i, err := s.Info(); err != nil || i.State != Running {
			return s.wrap("kill", errors.Join(err, ErrNotRunning))
		}
	}
	return s.wrap("kill", ms.signal(sig))
}

// Members returns the PIDs of the processes in the pod, other than its pause.
func (s *Sandbox) Members() ([]int, error) {
	ms, err := s.members()
	if err != nil {
		return nil, s.wrap("", err)
	}
	defer ms.close()
	pids := make([]int, len(ms))
	for i, m := range ms {
		pids[i] = m.pid
	}
	slices.Sort(pids)
	return pids, nil
}

func (s *Sandbox) members() (members, error) {
	rec, err := readRecord(s.rt.podDir(s.id))
	if err != nil {
		return nil, notFound(err)
	}
	pidfd, err := openPause(rec)
	if err == nil {
		defer pidfd.Close()
	} else if !errors.Is(err, proc.ErrGone) {
		return nil, err
	}
	return s.rt.looks.fresh().members(rec, err == nil)
}

// Wait returns when the pod's pause has ended: when the pod is stopped or removed,
// or the pause was killed.
func (s *Sandbox) Wait(ctx context.Context) error {
	rec, err := readRecord(s.rt.podDir(s.id))
	if err != nil {
		return s.wrap("wait for", notFound(err))
	}
	pidfd, err := openPause(rec)
	if errors.Is(err, proc.ErrGone) {
		return nil
	}
	if err != nil {
		return s.wrap("wait for", err)
	}
	defer pidfd.Close()
	return s.wrap("wait for", proc.Wait(ctx, pidfd))
}
