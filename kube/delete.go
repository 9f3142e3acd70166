package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// Delete removes what manifests name: pods first, the last one first, with as much time as
// stop says. What is not there is noted, and no error.
func Delete(ctx context.Context, m *Manifests, o Options, stop sandbox.StopOptions) error {
	s := openState(o.Runtime)
	var errs []error
	for _, p := range slices.Backward(m.Pods) {
		errs = append(errs, deletePod(ctx, s, o, p.Name, stop))
	}
	return errors.Join(append(errs, deleteObjects(ctx, s, o, m))...)
}

func deleteObjects(ctx context.Context, s state, o Options, m *Manifests) error {
	if len(m.Secrets)+len(m.ConfigMaps) == 0 {
		return nil
	}
	lock, err := s.lock(ctx, "objects")
	if err != nil {
		return err
	}
	defer lock.Close()
	s.sweep()
	var errs []error
	for _, c := range slices.Backward(m.Secrets) {
		gone, err := s.remove(secretDir, c.Namespace, c.Name)
		errs = append(errs, deleted(o, "secret", c.Name, gone, err))
	}
	for _, c := range slices.Backward(m.ConfigMaps) {
		gone, err := s.remove(configMapDir, c.Namespace, c.Name)
		errs = append(errs, deleted(o, "configmap", c.Name, gone, err))
	}
	return errors.Join(errs...)
}

func deleted(o Options, kind, name string, gone bool, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("%s %q: %w", kind, name, err)
	case gone:
		o.say("%s/%s deleted", kind, name)
	default:
		o.note(fmt.Sprintf("%s/%s: there is none", kind, name))
	}
	return nil
}

func deletePod(ctx context.Context, s state, o Options, name string, stop sandbox.StopOptions) error {
	lock, err := s.lock(ctx, "pod."+name)
	if err != nil {
		return err
	}
	defer lock.Close()
	pod, err := o.Runtime.Open(name)
	if err == nil {
		var info *sandbox.Info
		info, err = pod.Info()
		if err == nil && info.Name != name { // it is the beginning of an ID
			err = sandbox.ErrNotFound
		}
		if errors.Is(err, sandbox.ErrBadRecord) {
			err = nil
		}
	}
	if errors.Is(err, sandbox.ErrNotFound) {
		// Whoever was killed early may have left something that has no name yet.
		_, err := o.Runtime.Sweep(ctx)
		return deleted(o, "pod", name, false, err)
	}
	if err != nil {
		return err
	}
	if err := supervisor.Open(pod, o.Supervisor).Remove(ctx, stop); err != nil {
		return err
	}
	return deleted(o, "pod", name, true, nil)
}
