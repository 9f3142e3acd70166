package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/steps"
)

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
	return s.remove(ctx, StopOptions{}, s.rt.looks.idle)
}

// RemoveStopped is Remove, but returns ErrBusy unless the pod is stopped.
func (s *Sandbox) RemoveStopped(ctx context.Context) error {
	return s.remove(ctx, StopOptions{}, func(rec *record) error {
		if is, _, _ := state(rec, s.rt.looks.fresh()); is != Stopped {
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
func (ls *looks) idle(rec *record) error {
	pidfd, err := openPause(rec)
	if err == nil {
		defer pidfd.Close()
	}
	ms, err := ls.fresh().members(rec, err == nil)
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
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime+rec.pluginTime()+max(opts.Grace, 0))
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
	plan = append(plan, rt.downPlan(rec, !idle)...)
	if len(rec.Spec.Ports) > 0 {
		plan = append(plan, steps.Step{
			Name: "ports",
			Text: "give the ports back",
			Do:   func(ctx context.Context) error { return rt.claims.Release(ctx, rec.ID, rec.Spec.Ports) },
		})
	}
	plan = append(plan, steps.Step{
		Name: "volumes",
		Text: "remove what the pod has on the disk",
		Do:   func(ctx context.Context) error { return rt.removeState(ctx, rec) },
	}, steps.Step{
		Name: "address",
		Text: "give the addresses back",
		Do:   func(ctx context.Context) error { return rt.giveBack(ctx, rec) },
	}, steps.Step{
		Name: "rules",
		Text: "remove the host's rules, if no other pod needs them",
		Do:   func(ctx context.Context) error { return rt.dropRules(ctx, rec.ID) },
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
	if err := steps.Run(ctx, plan, rt.hook); err != nil {
		return err
	}
	if err := rt.removeLastParent(ctx); err != nil {
		return err
	}
	// Two pods that left at once have each taken the other for one that stays.
	if err := rt.dropRules(ctx, ""); err != nil {
		return err
	}
	rt.announce("remove", rec)
	return nil
}

// removeDir removes a pod's directory. Somebody who has opened the pod before may still
// make a file there, such as a supervisor that is just started again.
func removeDir(dir string) error {
	for try := 1; ; try++ {
		err := emptyDir(dir)
		if !errors.Is(err, unix.ENOTEMPTY) || try == 5 {
			return err
		}
	}
}

// emptyDir empties and removes a pod's directory, the record last: until then the pod can
// be found.
func emptyDir(dir string) error {
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
