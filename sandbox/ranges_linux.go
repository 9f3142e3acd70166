package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/netns"
)

// What is sent to addresses of pods' ranges that no pod has, the host refuses (see
// netns.Unassigned), from the first pod of a range on until the last pod of all is gone. Which
// ranges these are is on record before it does.

const (
	rangesFile = "ranges"
	maxRanges  = 1 << 20 // bytes
)

// ranges returns those that the pod's addresses are of.
func (r *record) ranges() []netip.Prefix {
	var of []netip.Prefix
	for _, e := range []struct {
		addr   netip.Addr
		within netip.Prefix
	}{{r.Address.IP, r.Spec.Network.Range}, {r.Address.IP6, r.Spec.Network.Range6}} {
		if e.addr.IsValid() && e.within.Contains(e.addr) {
			of = append(of, e.within)
		}
	}
	return of
}

// refuseUnassigned makes the host refuse what is sent to addresses that nobody has of the ranges
// of a pod. The record of the pod is there: so nobody takes them for ranges that nobody needs.
func (rt *Runtime) refuseUnassigned(ctx context.Context, rec *record) error {
	want := rec.ranges()
	if len(missing(want, rt.ranges())) > 0 {
		lock, err := rt.lockRules(ctx, flock.Exclusive)
		if err != nil {
			return err
		}
		err = rt.recordRanges(want)
		lock.Close()
		if err != nil {
			return err
		}
	}
	return rt.unassigned().Refuse(want...)
}

// leaveRanges ends that, for all ranges. The lock of the rules is held.
func (rt *Runtime) leaveRanges() error {
	if err := rt.unassigned().Leave(rt.ranges()...); err != nil {
		return err
	}
	if err := os.Remove(rt.rangesPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// recordRanges adds to the ranges on record. The lock of the rules is held.
func (rt *Runtime) recordRanges(want []netip.Prefix) error {
	has := rt.ranges()
	more := missing(want, has)
	if len(more) == 0 {
		return nil
	}
	b, err := json.Marshal(append(has, more...))
	if err != nil {
		return err
	}
	return replaceFile(rt.rangesPath(), b, 0o600)
}

// ranges returns those on record. What cannot be read is none.
func (rt *Runtime) ranges() []netip.Prefix {
	f, err := os.Open(rt.rangesPath())
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []netip.Prefix
	if json.NewDecoder(io.LimitReader(f, maxRanges)).Decode(&all) != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(p netip.Prefix) bool { return !p.IsValid() })
}

func (rt *Runtime) rangesPath() string { return filepath.Join(rt.rulesDir(), rangesFile) }

func (rt *Runtime) unassigned() netns.Unassigned { return netns.Unassigned{Table: rt.rules.Table} }

// missing returns what has does not have of want.
func missing(want, has []netip.Prefix) []netip.Prefix {
	var more []netip.Prefix
	for _, p := range want {
		if !slices.Contains(has, p) && !slices.Contains(more, p) {
			more = append(more, p)
		}
	}
	return more
}
