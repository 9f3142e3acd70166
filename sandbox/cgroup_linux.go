package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/podbox/podbox/internal/cgroup"
	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/internal/steps"
)

// A pod's cgroup is below one of its installation. It holds no processes but those
// of the groups in it: one for each container, and one for the programs on the
// host's filesystem. The pause is beside them: it uses next to nothing, and must not
// be frozen with the pod.

// parentGroup is the cgroup in which those of all pods of a root directory are.
func parentGroup(root string) string {
	if root == DefaultRoot {
		return "/podbox"
	}
	return "/podbox-" + rootHash(root)
}

// rootHash tells installations apart where names must be short.
func rootHash(root string) string {
	sum := sha256.Sum256([]byte(root))
	return hex.EncodeToString(sum[:4])
}

// Cgroup returns the path of the pod's cgroup, from the root of each hierarchy. A
// container's is in it, by the container's ID. It is there if the pod has limits or
// a program has been started in it.
func (s *Sandbox) Cgroup() string { return parentGroup(s.rt.root) + "/" + s.id }

// HostCgroup returns the cgroup for programs on the host's filesystem.
func (s *Sandbox) HostCgroup() string { return s.Cgroup() + "/host" }

func (rt *Runtime) group(id string) (*cgroup.Group, error) {
	return cgroup.Open(parentGroup(rt.root) + "/" + id)
}

// limitStep makes the cgroup of a pod that has limits.
func (b *build) limitStep() steps.Step {
	return steps.Step{
		Name: "limits",
		Text: "make the pod's cgroup and limit it",
		Back: "remove the cgroup",
		Do: func(context.Context) error {
			g, err := b.rt.group(b.rec.ID)
			if err != nil {
				return err
			}
			return g.Create(b.rec.Spec.Limits.Resources())
		},
		Undo: b.noted(func(ctx context.Context) error { return b.rt.removeGroup(ctx, b.rec.ID) }),
	}
}

// removeGroup removes a pod's cgroup with all that runs in it.
func (rt *Runtime) removeGroup(ctx context.Context, id string) error {
	g, err := rt.group(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if gone, err := g.RemoveEmpty(); gone || err != nil {
		return err
	}
	if err := g.Kill(ctx); err != nil {
		return err
	}
	return g.Remove(ctx)
}

// KeepersCgroup returns the cgroup for processes that keep pods without being in one,
// as pauses do: it is not frozen with a pod, and not that of the service or the
// session of whoever starts them.
func (rt *Runtime) KeepersCgroup() string { return parentGroup(rt.root) + "/keepers" }

// Keepers is the entrance of that group, which is not removed while it is open. It may
// be empty.
type Keepers struct {
	cgroup.Entrance
	lock *flock.Lock
}

// Close closes the entrance. It may be called again.
func (k *Keepers) Close() error { return errors.Join(k.Entrance.Close(), k.lock.Close()) }

// Keepers opens the entrance of the group, and makes that. The caller closes it.
func (rt *Runtime) Keepers(ctx context.Context) (_ *Keepers, err error) {
	g, err := cgroup.OpenTracking(rt.KeepersCgroup())
	if errors.Is(err, fs.ErrNotExist) {
		return &Keepers{}, nil
	}
	if err != nil {
		return nil, err
	}
	k := new(Keepers)
	if k.lock, err = flock.Wait(ctx, rt.root, flock.Shared); err != nil {
		return nil, err
	}
	if err = g.Create(nil); err == nil {
		var e *cgroup.Entrance
		if e, err = g.Entrance(); err == nil {
			k.Entrance = *e
			return k, nil
		}
	}
	k.Close()
	return nil, err
}

// parentTime bounds the wait for those who are about to use the group.
const parentTime = 200 * time.Millisecond

// removeLastParent is removeParent when no pod is left. Whoever has kept one may just be
// about to end, and has a moment for that; a guardian that waits to start a supervisor
// again has nothing to start it for.
func (rt *Runtime) removeLastParent(ctx context.Context) error {
	for try := range 20 {
		if left, err := rt.others(""); err != nil || left {
			return nil
		}
		g, err := cgroup.Open(parentGroup(rt.root))
		if err != nil {
			return nil // there are no cgroups
		}
		if try >= 10 {
			if err := rt.killKeepers(ctx); err != nil {
				return err
			}
		}
		if err := rt.removeParent(); err != nil || g.Gone() {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// killKeepers kills those who keep pods, if there is none.
func (rt *Runtime) killKeepers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	g, err := cgroup.Open(rt.KeepersCgroup())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lock, err := flock.Wait(ctx, rt.root, flock.Exclusive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	// Who makes a pod has a record before somebody is there to keep it.
	if left, err := rt.others(""); err != nil || left {
		return err
	}
	pids, err := g.PIDs()
	if err != nil || len(pids) == 0 || slices.Contains(pids, os.Getpid()) {
		return err
	}
	return g.Kill(ctx)
}

// removeParent removes the group in which those of pods are, if there are none. If
// there will be one at any moment it does nothing.
func (rt *Runtime) removeParent() error {
	// Pods in which nothing was started have none, and need not wait for one another.
	if g, err := cgroup.Open(parentGroup(rt.root)); err == nil && g.Gone() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), parentTime)
	defer cancel()
	lock, err := flock.Wait(ctx, rt.root, flock.Exclusive)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, path := range []string{rt.KeepersCgroup(), parentGroup(rt.root)} {
		g, err := cgroup.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := g.RemoveEmpty(); err != nil {
			return err
		}
	}
	return nil
}

// sweepGroups removes the cgroups of pods that have no directory.
func (rt *Runtime) sweepGroups(ctx context.Context) ([]string, error) {
	parent, err := cgroup.Open(parentGroup(rt.root))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ids, err := parent.Children()
	if err != nil {
		return nil, err
	}
	var done []string
	var errs []error
	for _, id := range ids {
		if !names.IsID(id) || rt.recorded(id) {
			continue
		}
		if err := rt.removeGroup(ctx, id); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, "cgroup of pod "+id)
	}
	return done, errors.Join(errs...)
}

// frozen reports whether a pod is paused.
func (rt *Runtime) frozen(id string) bool {
	g, err := rt.group(id)
	if err != nil {
		return false
	}
	is, err := g.Frozen()
	return err == nil && is
}

// thaw lets a pod's programs run, so that they can be ended.
func (rt *Runtime) thaw(id string) error {
	if !rt.frozen(id) {
		return nil
	}
	g, err := rt.group(id)
	if err != nil {
		return err
	}
	return g.Thaw()
}

// Pause stops all programs in the pod at one moment, where they are, until Unpause.
// Programs that another OCI runtime has put elsewhere than in the pod's cgroup go on.
// One that is just being started is started first: whoever starts it does not wait for Unpause.
func (s *Sandbox) Pause(ctx context.Context) error {
	return s.freeze("pause", func(g *cgroup.Group) error {
		return s.Still(ctx, func() error { return g.Freeze(ctx) })
	})
}

// Unpause lets the programs of a paused pod go on.
func (s *Sandbox) Unpause(context.Context) error {
	return s.freeze("unpause", (*cgroup.Group).Thaw)
}

func (s *Sandbox) freeze(verb string, f func(*cgroup.Group) error) error {
	rec, err := readRecord(s.rt.podDir(s.id))
	if err != nil {
		return s.wrap(verb, notFound(err))
	}
	if is, _, _ := state(rec, s.rt.looks.fresh()); is != Running && is != Degraded {
		return s.wrap(verb, fmt.Errorf("%w: its state is %s", ErrNotRunning, is))
	}
	g, err := s.rt.group(s.id)
	if err != nil {
		return s.wrap(verb, err)
	}
	err = f(g)
	if errors.Is(err, fs.ErrNotExist) { // nothing was started in it
		if err = g.Create(rec.Spec.Limits.Resources()); err == nil {
			err = f(g)
		}
	}
	if err == nil {
		s.rt.announce(verb, rec)
	}
	return s.wrap(verb, err)
}
