package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"
)

// A health is what is found out of a program that runs, one thing after another. Its
// goroutines tell the keeper, which writes it down.
type health struct {
	k    *keeper
	of   *patient
	news chan finding
	all  sync.WaitGroup
}

// A finding is something new of a program.
type finding struct {
	note func(*record)
	sick error          // why it is to be ended, or nil
	time *time.Duration // that it has for that; nil: the pod's grace
}

// attend follows a program from its start to its end: it does what is to be done
// after the start, makes the probes, and ends the program if they say so. It
// returns why it did.
func (k *keeper) attend(p program) (why error) {
	if !k.cares() {
		k.wentUp()
		<-p.Ended()
		return nil
	}
	if k.r.Up { // and is taken over
		k.wentUp()
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &health{k: k, of: k.subject(), news: make(chan finding)}
	h.all.Go(func() { h.care(ctx, k.r.Hooked, k.r.Up, k.r.Started) })
	defer h.all.Wait()
	defer cancel()
	for {
		select {
		case <-p.Ended():
			return why
		case f := <-h.news:
			if f.note != nil {
				f.note(k.r)
				if err := k.c.write(k.r); errors.Is(err, fs.ErrNotExist) {
					continue // removed
				}
			}
			if k.r.Hooked {
				k.tell()
			}
			if k.r.Up {
				k.wentUp()
			}
			// One that is being stopped may well be sick.
			if f.sick != nil && why == nil && !k.isStopping() {
				why = f.sick
				h.all.Go(func() { _ = k.end(p, request{Grace: k.graceOf(f.time)}, nil) })
			}
		}
	}
}

// cares reports whether anything is to be done for a program while it runs.
func (k *keeper) cares() bool {
	s := &k.r.Spec
	return k.led || s.PostStart != nil || s.Startup != nil || s.Liveness != nil || s.Readiness != nil
}

func (k *keeper) wentUp() { k.upOnce.Do(func() { close(k.up) }) }

// graceOf returns how long a program has to end that is ended for a probe's sake.
func (k *keeper) graceOf(own *time.Duration) time.Duration {
	if own != nil && *own > 0 {
		return *own
	}
	return k.c.pod.grace()
}

// care does all that is to be done for a program, until the context ends.
func (h *health) care(ctx context.Context, hooked, up bool, started time.Time) {
	s := &h.k.r.Spec
	if !hooked {
		if s.PostStart != nil {
			if err := h.of.act(ctx, s.PostStart); err != nil {
				h.tell(ctx, finding{
					note: func(r *record) { r.Reason = "PostStartHookError" },
					sick: fmt.Errorf("postStart: %w", err),
				})
				return
			}
		}
		if s.PostStart != nil || s.Startup != nil {
			h.tell(ctx, finding{note: func(r *record) { r.Hooked = true }})
		}
	}
	if !up && s.Startup != nil {
		if err := h.probe(ctx, s.Startup, started, true, func(ok bool) bool { return !ok }); err != nil {
			h.tell(ctx, finding{sick: fmt.Errorf("startup probe: %w", err), time: s.Startup.Grace})
			return
		}
	}
	h.tell(ctx, finding{note: func(r *record) { r.Hooked, r.Up, r.Ready = true, true, r.Ready || s.Readiness == nil }})
	if s.Readiness != nil {
		h.all.Go(func() {
			_ = h.probe(ctx, s.Readiness, started, false, func(ok bool) bool {
				h.tell(ctx, finding{note: func(r *record) { r.Ready = ok }})
				return true
			})
		})
	}
	if s.Liveness != nil {
		if err := h.probe(ctx, s.Liveness, started, true, func(bool) bool { return true }); err != nil {
			h.tell(ctx, finding{sick: fmt.Errorf("liveness probe: %w", err), time: s.Liveness.Grace})
		}
	}
}

// probe repeats a probe. Each time that it has come to another result than before, changed
// is told, which says whether to go on. If fatal is set, a failure ends it with an error. It
// returns nil too when the context has ended.
func (h *health) probe(ctx context.Context, of *Probe, started time.Time, fatal bool, changed func(ok bool) bool) error {
	p := of.withDefaults()
	if !pause(ctx, time.Until(started.Add(p.InitialDelay))) {
		return nil
	}
	// In time, however long a probe takes; one that is missed is not made up for.
	period := time.NewTicker(p.Period)
	defer period.Stop()
	var was *bool
	row, last := 0, false
	for ; ctx.Err() == nil; await(ctx, period.C) {
		err := h.once(ctx, &p)
		if ctx.Err() != nil || errors.Is(err, errNotMade) {
			continue // and nothing is known, as with the kubelet
		}
		ok := err == nil
		if row++; ok != last {
			row, last = 1, ok
		}
		enough := ok && row >= p.Successes || !ok && row >= p.Failures
		switch {
		case !enough:
		case !ok && fatal:
			return fmt.Errorf("failed %d times in a row, at last: %w", row, err)
		case was == nil || *was != ok:
			was = &ok
			if !changed(ok) {
				return nil
			}
		}
	}
	return nil
}

// maxTries is how often a probe is tried that cannot be made.
const maxTries = 3

// once makes a probe, in the time that it has. errNotMade.
func (h *health) once(ctx context.Context, p *Probe) (err error) {
	for try := 0; try < maxTries && ctx.Err() == nil; try++ {
		if err = h.try(ctx, p); !errors.Is(err, errNotMade) {
			break
		}
	}
	// What is paused cannot answer.
	if err != nil && !errors.Is(err, errNotMade) && frozen(h.k.c.group(&h.of.r)) {
		return notMade(ErrPaused)
	}
	return err
}

func (h *health) try(ctx context.Context, p *Probe) error {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	defer h.k.s.probes.probed()
	return h.of.ask(ctx, &p.Action)
}

// await waits for a tick, or until the context ends.
func await(ctx context.Context, tick <-chan time.Time) {
	select {
	case <-tick:
	case <-ctx.Done():
	}
}

// pause waits; false if the context has ended.
func pause(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// tell hands a finding to the keeper.
func (h *health) tell(ctx context.Context, f finding) {
	select {
	case h.news <- f:
	case <-ctx.Done():
	}
}

// onEnd calls f when a program has ended, unless the function that it returns is called
// before, which then does the same.
func onEnd(p program, f func()) (done func()) {
	stop := make(chan struct{})
	go func() {
		select {
		case <-p.Ended():
		case <-stop:
		}
		f()
	}()
	return sync.OnceFunc(func() { close(stop) })
}
