package sandbox

import (
	"context"
	"fmt"
	"maps"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/steps"
	"github.com/podbox/podbox/netns"
)

// A Change is what Update changes of a pod. What is nil stays as it is.
type Change struct {
	// Labels are set, or taken away where the value is nil.
	Labels map[string]*string
	// Annotations are set as a whole.
	Annotations map[string]string
	// Bandwidth is set as a whole.
	Bandwidth *netns.Bandwidth
	// Policy is set as a whole. Connections that it does not allow end.
	Policy *netns.Policy
	// Names are set as a whole. Members that run see it at once, those on the host's
	// filesystem too; one that uses the host's file, as in a pod with the host's
	// network, does so until it ends. What a pod has of the host's own files is read
	// again.
	Names *Names
}

// apply returns what spec becomes.
func (c Change) apply(spec Spec) Spec {
	if len(c.Labels) > 0 {
		spec.Labels = maps.Clone(spec.Labels)
		if spec.Labels == nil {
			spec.Labels = make(map[string]string)
		}
		for k, v := range c.Labels {
			if v == nil {
				delete(spec.Labels, k)
			} else {
				spec.Labels[k] = *v
			}
		}
	}
	if c.Annotations != nil {
		spec.Annotations = c.Annotations
	}
	if c.Bandwidth != nil {
		spec.Bandwidth = *c.Bandwidth
	}
	if c.Policy != nil {
		spec.Policy = *c.Policy
	}
	if c.Names != nil {
		spec.DNS, spec.Hosts = c.Names.DNS, c.Names.Hosts
	}
	return spec
}

// Update changes a pod, at once if it runs; of one that does not, what it is started
// with. Either all is changed or nothing. It may be repeated.
func (s *Sandbox) Update(ctx context.Context, c Change) error {
	return s.UpdateBy(ctx, func(*Spec) (Change, error) { return c, nil })
}

// UpdateBy is Update by what depends on what the pod is: nobody else changes it between. The
// Spec, and what it refers to, is not to be written to.
func (s *Sandbox) UpdateBy(ctx context.Context, change func(*Spec) (Change, error)) error {
	return s.locked(ctx, "update", func(rec *record, _ *flock.Lock) error {
		if rec.State != Running && rec.State != Stopped {
			return fmt.Errorf("%w: its state is %s, it can only be removed", ErrNotRunning, rec.State)
		}
		c, err := change(&rec.Spec)
		if err != nil {
			return err
		}
		if c.Bandwidth != nil && *c.Bandwidth != rec.Spec.Bandwidth && !rec.wired() {
			return fmt.Errorf("bandwidth: %w: it can be changed with network pod, not %s", ErrInvalid, rec.Spec.Network)
		}
		next := *rec
		next.Spec = c.apply(rec.Spec)
		if err := next.Spec.Validate(); err != nil {
			return err
		}
		if err := steps.Run(ctx, s.rt.updatePlan(rec, &next, c), s.rt.hook); err != nil {
			return err
		}
		s.rt.announce("update", rec)
		return nil
	})
}

// updatePlan leads from one record of a pod to the next. The record comes first, and says
// so: whoever is killed after that leaves what is true when the pod is changed or started
// again.
func (rt *Runtime) updatePlan(rec, next *record, c Change) []steps.Step {
	dir := rt.podDir(rec.ID)
	plan := []steps.Step{{
		Name: "record",
		Text: "record the change",
		Back: "record what was",
		Do: func(context.Context) error {
			next.Changing = true
			return next.write(dir)
		},
		Undo: func(context.Context) error { return rec.write(dir) },
	}}
	if next.wired() && rec.Changing {
		plan = append(plan, rt.portsStep(next, rec, 0)) // which are in the rules when these are made anew
	}
	if next.wired() && (rec.Changing || next.Spec.Bandwidth != rec.Spec.Bandwidth) {
		plan = append(plan, rt.bandwidthStep(next, rec))
	}
	if next.wired() && (rec.Changing || c.Policy != nil || !maps.Equal(next.Spec.Labels, rec.Spec.Labels)) {
		plan = append(plan, rt.changePolicyStep(next, rec))
	}
	if rec.Changing || c.Names != nil {
		plan = append(plan, rt.namesStep(next, rec))
	}
	return append(plan, rt.settledStep(next))
}

// finishPlan makes true what is on record of a pod that somebody has begun to change. The
// rules are made anew, with the ports that the pod has taken.
func (rt *Runtime) finishPlan(rec *record) []steps.Step {
	var plan []steps.Step
	if rec.wired() {
		plan = append(plan, rt.portsStep(rec, rec, 0), rt.bandwidthStep(rec, rec), rt.changePolicyStep(rec, rec))
	}
	return append(plan, rt.namesStep(rec, rec), rt.settledStep(rec))
}

// settledStep says that what is on record is true.
func (rt *Runtime) settledStep(rec *record) steps.Step {
	return steps.Step{
		Name: "settled",
		Text: "record that it is so",
		Do: func(context.Context) error {
			rec.Changing = false
			return rec.write(rt.podDir(rec.ID))
		},
	}
}
