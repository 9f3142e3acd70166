package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/nsfs"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/netns"
)

// errAlive says that a pod is whole, or that somebody is at work on it.
var errAlive = errors.New("pod is alive")

// Sweep clears away what crashes have left: pods whose creation or removal was
// cut short, names and addresses of pods that are gone, pauses that nobody has on
// record. It returns a line for each. Pods that are whole, in whatever state, are
// left alone, and so is whatever another process is at work on.
func (rt *Runtime) Sweep(ctx context.Context) ([]string, error) {
	if err := checkRoot(rt.root); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var done []string
	var errs []error
	ids, err := rt.podIDs() // none after a reboot, of which volumes may be left
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		switch err := rt.sweepPod(ctx, id); {
		case err == nil:
			done = append(done, "pod "+id)
		case !errors.Is(err, errAlive):
			errs = append(errs, err)
		}
	}
	swept, err := rt.sweepPauses()
	done, errs = append(done, swept...), append(errs, err)
	swept, err = rt.sweepNames(ctx)
	done, errs = append(done, swept...), append(errs, err)
	swept, err = rt.sweepGroups(ctx)
	done, errs = append(done, swept...), append(errs, err)
	swept, err = rt.sweepState(ctx)
	done, errs = append(done, swept...), append(errs, err)
	freed, err := rt.leases.Sweep(ctx)
	for _, a := range freed {
		done = append(done, "address "+a.String())
	}
	errs = append(errs, err)
	ports, err := rt.claims.Sweep(ctx, func(owner string) bool { return !rt.recorded(owner) })
	for _, p := range ports {
		done = append(done, "port "+p)
	}
	if errs = append(errs, err); len(ports) > 0 { // whose rules nobody else removes
		errs = append(errs, rt.replaceRules(ctx))
	}
	errs = append(errs, rt.removeLastParent(ctx), rt.removeParent(), rt.dropRules(ctx, ""), rt.collect(ctx))
	return done, errors.Join(append(errs, err)...)
}

// sweepPod removes a pod whose creation or removal was cut short, or returns
// errAlive.
func (rt *Runtime) sweepPod(ctx context.Context, id string) error {
	dir := rt.podDir(id)
	lock, err := flock.Try(dir, flock.Exclusive)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errAlive
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	rec, err := readRecord(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return rt.removeUnrecorded(ctx, id)
	}
	if err != nil {
		return err
	}
	if rec.State == Stopped {
		// Who was killed starting it has left this, and the kernel does not take it with the rest.
		if err := rt.removeShaper(rec); err != nil {
			return err
		}
	}
	if rec.State != Created && rec.State != Removing {
		return errAlive
	}
	return rt.remove(ctx, rec, StopOptions{Grace: -1}, false)
}

// removeUnrecorded removes all that can be found of a pod whose record is lost or
// cannot be read, by what its ID tells.
func (rt *Runtime) removeUnrecorded(ctx context.Context, id string) error {
	err := rt.eachPause(func(p foundPause) error {
		if p.id != id {
			return nil
		}
		return rt.removePause(ctx, p)
	})
	if err != nil {
		return err
	}
	if err := rt.disconnect(unrecorded(id)); err != nil {
		return err
	}
	if err := rt.removeGroup(ctx, id); err != nil {
		return err
	}
	if err := rt.removeState(ctx, &record{ID: id, StateDir: rt.stateDir}); err != nil {
		return err
	}
	// Its addresses are in the rules, maybe, and who has them next is somebody else.
	if there, err := rt.rules.Present(); err == nil && there {
		if err := rt.replaceRules(ctx); err != nil {
			return err
		}
	}
	owned, err := rt.leases.Owned(id)
	if err != nil {
		return err
	}
	for _, addr := range owned {
		if err := netns.ForgetAll(netns.Address{IP: addr}); err != nil {
			return err
		}
		if err := rt.leases.Release(addr, id); err != nil {
			return err
		}
	}
	if err := removeLinksTo(filepath.Join(rt.root, "names"), id); err != nil {
		return err
	}
	freed, err := rt.claims.Sweep(ctx, func(owner string) bool { return owner == id })
	if err != nil {
		return err
	}
	if err := removeDir(rt.podDir(id)); err != nil {
		return err
	}
	if len(freed) > 0 { // without it
		if err := rt.replaceRules(ctx); err != nil {
			return err
		}
	}
	return rt.dropRules(ctx, "")
}

// unrecorded is the record of a pod of which the ID is known only.
func unrecorded(id string) *record {
	return &record{ID: id, Spec: Spec{Network: netns.Pod(), Share: allNamespaces}}
}

// removePause ends an unrecorded pause, the members of its namespaces and its
// link. The pause keeps the namespaces from being confused with others.
func (rt *Runtime) removePause(ctx context.Context, p foundPause) error {
	rec := unrecorded(p.id)
	rec.Pause = proc.Identity{PID: p.pid}
	rec.Namespaces = make(map[Namespace]nsfs.ID)
	for _, n := range p.owned {
		got, err := nsfs.OfProcess(p.pid, string(n))
		if err != nil {
			return err
		}
		// Whatever the label says, this is never the pod's own.
		for _, host := range []int{1, os.Getpid()} {
			// Process 1 may be out of our sight, or not the host's.
			if has, err := nsfs.OfProcess(host, string(n)); err == nil && has == got {
				return fmt.Errorf("pause %d is in the %s namespace of process %d: %w", p.pid, n, host, ErrBadRecord)
			}
		}
		rec.Namespaces[n] = got
	}
	if err := rt.looks.killMembers(ctx, rec, true); err != nil {
		return err
	}
	if err := rt.disconnect(rec); err != nil {
		return err
	}
	if err := proc.Signal(p.pidfd, unix.SIGKILL); err != nil && !errors.Is(err, proc.ErrGone) {
		return err
	}
	if err := awaitExit(p.pidfd); err != nil {
		return err
	}
	return rt.removeParent()
}

// sweepPauses ends pauses whose pods have no directory.
func (rt *Runtime) sweepPauses() ([]string, error) {
	var done []string
	err := rt.eachPause(func(p foundPause) error {
		if rt.recorded(p.id) {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
		defer cancel()
		if err := rt.removePause(ctx, p); err != nil {
			return fmt.Errorf("pause %d of pod %.12s: %w", p.pid, p.id, err)
		}
		done = append(done, fmt.Sprintf("pause %d of pod %s", p.pid, p.id))
		return nil
	})
	return done, err
}

// sweepNames frees names whose pods have no directory.
func (rt *Runtime) sweepNames(ctx context.Context) ([]string, error) {
	dir := filepath.Join(rt.root, "names")
	lock, err := flock.Wait(ctx, dir, flock.Exclusive)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	defer lock.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var done []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if id, err := os.Readlink(path); err != nil || rt.recorded(id) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return done, err
		}
		done = append(done, "name "+e.Name())
	}
	return done, nil
}

// removeLinksTo removes the symbolic links in dir that have the given target.
func removeLinksTo(dir, target string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if has, err := os.Readlink(path); err == nil && has == target {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
