package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/nsfs"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/steps"
	"github.com/podbox/podbox/netns"
)

// notFound replaces the error for a file that is not there.
func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	return err
}

// lock keeps all others from changing the pod, and from entering it.
func (s *Sandbox) lock(ctx context.Context) (*flock.Lock, error) {
	dir := s.rt.podDir(s.id)
	// Who enters passes the turnstile; it is held so that they do not keep us
	// out by entering all the time. A pod that was never finished has none.
	turn, err := flock.Wait(ctx, filepath.Join(dir, turnstile), flock.Exclusive)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	defer turn.Close()
	return flock.Wait(ctx, dir, flock.Exclusive)
}

// lockTime bounds the wait for those who are entering the pod: they need
// milliseconds.
const lockTime = 3 * time.Second

// seize locks the pod even if somebody who was entering it hangs, or was stopped
// on the way in by a program in the pod: whatever is in the pod and holds the lock
// is killed.
func (s *Sandbox) seize(ctx context.Context) (*flock.Lock, error) {
	dir := s.rt.podDir(s.id)
	for range 4 {
		wctx, cancel := context.WithTimeout(ctx, lockTime)
		lock, err := s.lock(wctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return lock, err
		}
		ms, _ := s.members() // of a bad record none are known
		for _, m := range ms {
			if holdsOpen(m.pid, dir) {
				_ = proc.Signal(m.pidfd, unix.SIGKILL)
			}
		}
		ms.close()
	}
	// Somebody who is not in the pod. Who that is, and why it hangs, is for a
	// person to see.
	pids, err := proc.PIDs()
	if err != nil {
		return nil, err
	}
	pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == os.Getpid() || !holdsOpen(pid, dir) })
	return nil, fmt.Errorf("%w: it is locked by processes %v", ErrBusy, pids)
}

// holdsOpen reports whether a process has path open.
func holdsOpen(pid int, path string) bool {
	want, err := os.Stat(path)
	if err != nil {
		return false
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, _ := os.ReadDir(dir)
	for _, fd := range fds {
		if has, err := os.Stat(filepath.Join(dir, fd.Name())); err == nil && os.SameFile(has, want) {
			return true
		}
	}
	return false
}

// locked calls f with the pod's record, while nobody else changes the pod.
func (s *Sandbox) locked(ctx context.Context, verb string, f func(*record, *flock.Lock) error) error {
	dir := s.rt.podDir(s.id)
	lock, err := s.seize(ctx)
	if err != nil {
		return s.wrap(verb, notFound(err))
	}
	defer lock.Close()
	rec, err := readRecord(dir)
	if err != nil {
		return s.wrap(verb, notFound(err))
	}
	return s.wrap(verb, f(rec, lock))
}

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
		return steps.Run(ctx, plan, s.rt.hook)
	})
}

// startPlan is what brings a recorded pod to state running; nothing if it is.
func (b *build) startPlan() ([]steps.Step, error) {
	rec := b.rec
	var plan []steps.Step
	if rec.wired() {
		plan = append(plan, steps.Step{
			Name: "address",
			Text: "make sure of the address",
			Do:   b.reclaimAddress,
		})
	}
	if rec.State == Stopped {
		return append(plan, b.upPlan()...), nil
	}
	pidfd, err := openPause(rec)
	if err == nil { // the pause lives
		if !rec.wired() || netns.Routed(rec.Address, rec.link()) {
			pidfd.Close()
			return nil, nil
		}
		b.pause = &newborn{identity: rec.Pause, pidfd: pidfd, gate: nil}
		return append(plan, b.rewireStep()), nil
	}
	if !errors.Is(err, proc.ErrGone) {
		return nil, err
	}
	survivors, err := new(look).members(rec, false)
	if err != nil {
		return nil, err
	}
	defer survivors.close()
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
		Text: "take over /dev/shm",
		Do: func(context.Context) error {
			if b.shm == nil {
				return nil
			}
			return attachShm(b.pause.pidfd, b.shm)
		},
	}}
	anew := func(n Namespace) bool { return b.rec.Spec.owns(n) && !slices.Contains(b.joined, n) }
	if anew(Net) || b.rec.wired() && !netns.Connected(b.rec.link()) {
		plan = append(plan, b.wireStep())
	}
	if len(b.rec.Spec.Sysctls) > 0 && (anew(Net) || anew(IPC)) {
		plan = append(plan, b.sysctlStep())
	}
	return append(plan, b.commitStep())
}

// rewireStep gives a pod whose link was taken away a new one.
func (b *build) rewireStep() steps.Step {
	s := b.wireStep()
	s.Name = "rewire"
	return s
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
	b.shm, err = survivingShm(b.rec, survivors)
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
		plan := append([]steps.Step{s.rt.membersStep(rec, opts)}, s.rt.downPlan(rec)...)
		plan = append(plan, steps.Step{
			Name: "commit",
			Text: "record the pod as stopped",
			Do: func(context.Context) error {
				rec.State, rec.Pause, rec.Namespaces = Stopped, proc.Identity{}, nil
				return rec.write(s.rt.podDir(rec.ID))
			},
		})
		return steps.Run(ctx, plan, s.rt.hook)
	})
}

// membersStep ends the programs in a pod. It can be repeated.
func (rt *Runtime) membersStep(rec *record, opts StopOptions) steps.Step {
	return steps.Step{
		Name: "members",
		Text: "end the programs in the pod",
		Do: func(ctx context.Context) error {
			pidfd, err := openPause(rec)
			if err == nil {
				defer pidfd.Close()
			} else if !errors.Is(err, proc.ErrGone) {
				return err
			}
			return endMembers(ctx, rec, err == nil, opts.Signal, max(opts.Grace, 0))
		},
	}
}

// downPlan ends what holds a pod in which no program runs. It can be repeated.
func (rt *Runtime) downPlan(rec *record) []steps.Step {
	return []steps.Step{{
		Name: "unwire",
		Text: "remove the link",
		Do:   func(context.Context) error { return rt.disconnect(rec) },
	}, {
		Name: "pause",
		Text: "end the pause, and with it the namespaces",
		Do:   func(context.Context) error { return endPause(rec) },
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
	return new(look).members(rec, err == nil)
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

// Remove ends all programs in the pod at once and removes the pod, in whatever
// state it is. It may be repeated, and finishes a removal that was cut short. If
// the record cannot be read, it removes all that can be found by the pod's ID.
// Once begun it does not end with ctx, but after a bound of its own. To give
// programs time to end, Stop first.
func (s *Sandbox) Remove(ctx context.Context) error {
	return s.remove(ctx, StopOptions{Grace: -1}, nil)
}

// RemoveAfter is Remove, but gives programs time to end, as Stop does.
func (s *Sandbox) RemoveAfter(ctx context.Context, opts StopOptions) error {
	return s.remove(ctx, opts, nil)
}

// RemoveIdle is Remove, but returns ErrBusy if programs run in the pod.
func (s *Sandbox) RemoveIdle(ctx context.Context) error {
	return s.remove(ctx, StopOptions{}, idle)
}

// RemoveStopped is Remove, but returns ErrBusy unless the pod is stopped.
func (s *Sandbox) RemoveStopped(ctx context.Context) error {
	return s.remove(ctx, StopOptions{}, func(rec *record) error {
		if is, _, _ := state(rec, new(look)); is != Stopped {
			return fmt.Errorf("%w: its state is %s", ErrBusy, is)
		}
		return nil
	})
}

// remove removes the pod. If harmless is given, it must find no program in it.
func (s *Sandbox) remove(ctx context.Context, opts StopOptions, harmless func(*record) error) error {
	dir := s.rt.podDir(s.id)
	lock, err := s.seize(ctx)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return s.wrap("remove", err)
	}
	defer lock.Close()
	rec, err := readRecord(dir)
	if err == nil && harmless != nil {
		err = harmless(rec)
	}
	switch unreadable := errors.Is(err, ErrBadRecord) && harmless == nil; {
	case err == nil:
		err = s.rt.remove(ctx, rec, opts, harmless != nil)
	case unreadable, errors.Is(err, fs.ErrNotExist):
		err = s.rt.removeUnrecorded(ctx, s.id)
	}
	return s.wrap("remove", err)
}

// idle returns ErrBusy if programs run in the pod.
func idle(rec *record) error {
	pidfd, err := openPause(rec)
	if err == nil {
		defer pidfd.Close()
	}
	ms, err := new(look).members(rec, err == nil)
	if err != nil {
		return err
	}
	defer ms.close()
	if len(ms) > 0 {
		return fmt.Errorf("%w: %d, such as process %d", ErrBusy, len(ms), ms[0].pid)
	}
	return nil
}

// remove removes a pod whose lock is held; idle says that no program runs in it.
func (rt *Runtime) remove(ctx context.Context, rec *record, opts StopOptions, idle bool) error {
	opts = opts.withDefaults()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime+max(opts.Grace, 0))
	defer cancel()
	dir := rt.podDir(rec.ID)
	plan := []steps.Step{{
		Name: "mark",
		Text: "record that the pod is being removed",
		Do: func(context.Context) error {
			rec.State = Removing
			// On a full filesystem the removal goes on unmarked.
			if err := rec.write(dir); !errors.Is(err, unix.ENOSPC) {
				return err
			}
			return nil
		},
	}}
	if !idle {
		plan = append(plan, rt.membersStep(rec, opts))
	}
	plan = append(plan, rt.downPlan(rec)...)
	plan = append(plan, steps.Step{
		Name: "address",
		Text: "give the addresses back",
		Do:   func(context.Context) error { return rt.releaseAddress(rec) },
	}, steps.Step{
		Name: "record",
		Text: "remove the record",
		Do:   func(context.Context) error { return removeDir(dir) },
	}, steps.Step{
		// Last, so that the pod can be called by its name until it is gone.
		Name: "name",
		Text: "give the name back",
		Do:   func(ctx context.Context) error { return rt.releaseName(ctx, rec.Spec.Name, rec.ID) },
	})
	return steps.Run(ctx, plan, rt.hook)
}

// removeDir removes a pod's directory, the record last: until then the pod can be
// found.
func removeDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != recordFile {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, recordFile)); err != nil {
		return err
	}
	return os.Remove(dir)
}
