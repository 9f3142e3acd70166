package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/netns"
)

// tableName is that of the nftables of a root directory.
func tableName(root string) string {
	if root == DefaultRoot {
		return netns.DefaultTable
	}
	return netns.DefaultTable + "-" + rootHash(root)
}

// lockRules locks the directory of the host's rules. Who changes what one pod
// publishes holds it shared, who makes or removes all the rules exclusively: what the
// one adds or takes away is not lost by the other's having read the records before.
func (rt *Runtime) lockRules(ctx context.Context, how int) (*flock.Lock, error) {
	// As for a pod (see Sandbox.lock): those who come all the time and share the lock
	// do not keep out the one who wants it alone, for they pass the turnstile that it
	// holds while it waits.
	for _, dir := range []string{rt.rulesTurnstile(), rt.rulesDir()} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	turn, err := flock.Wait(ctx, rt.rulesTurnstile(), how)
	if err != nil {
		return nil, err
	}
	defer turn.Close()
	return flock.Wait(ctx, rt.rulesDir(), how)
}

func (rt *Runtime) rulesTurnstile() string { return filepath.Join(rt.root, "rules-"+turnstile) }

func (rt *Runtime) rulesDir() string { return filepath.Join(rt.root, "rules") }

// ensureRules makes the host's rules if they are not there. The record of the pod that
// needs them is: so nobody takes them for rules that nobody needs. A host whose kernel
// has no nftables, or where nothing can be told to forward, has pods all the same; they
// reach the host and one another.
func (rt *Runtime) ensureRules(ctx context.Context) error {
	lock, err := rt.lockRules(ctx, flock.Shared)
	if err != nil {
		return err
	}
	there, err := rt.rules.Present()
	lock.Close()
	if err == nil && !there {
		err = rt.replaceRules(ctx)
	}
	if incapable(err) {
		rt.log.Warn("pods do not reach beyond the host", "error", err)
		return nil
	}
	if err == nil && !there {
		rt.warnOfHindrances()
	}
	return err
}

// warnOfHindrances tells, once for each time that the rules are made, of others on the
// host that refuse packets of pods: podbox doctor tells again.
func (rt *Runtime) warnOfHindrances() {
	found, err := netns.Hindrances()
	if err != nil {
		rt.log.Debug("look for what stands in the way of pods", "error", err)
	}
	for _, h := range found {
		rt.log.Warn("packets of pods are refused", "by", h.What, "cure", h.Cure)
	}
}

// incapable reports whether an error says that the host cannot have rules: its kernel
// does not know them, or /proc/sys is read-only.
func incapable(err error) bool {
	return errors.Is(err, ErrNotSupported) || errors.Is(err, unix.EROFS)
}

// ReloadNetwork makes the host's rules anew from the records, and tells links that have
// come meanwhile to forward. It is for after others have flushed the host's nftables.
func (rt *Runtime) ReloadNetwork(ctx context.Context) error {
	if err := checkRoot(rt.root); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	ids, err := rt.podIDs()
	if err == nil && len(ids) > 0 {
		err = rt.replaceRules(ctx)
	}
	if err != nil {
		return fmt.Errorf("reload network: %w", err)
	}
	if len(ids) > 0 {
		rt.warnOfHindrances()
	}
	return nil
}

// replaceRules makes the host's rules anew: of each pod that has a link, what it has on
// record and has claimed.
func (rt *Runtime) replaceRules(ctx context.Context) error {
	lock, err := rt.lockRules(ctx, flock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Close()
	ids, err := rt.podIDs()
	if err != nil {
		return err
	}
	var pods []netns.Publication
	var links []string
	var known []*record
	var ranges []netip.Prefix
	for _, id := range ids {
		rec, err := readRecord(rt.podDir(id))
		if err != nil {
			continue // a bad record publishes nothing
		}
		if rec.wired() {
			ranges = append(ranges, missing(rec.ranges(), ranges)...)
		}
		if hasPolicy(rec) {
			known = append(known, rec)
		}
		if len(rec.Spec.Ports) == 0 || !rec.wired() || !netns.Connected(rec.link()) {
			continue
		}
		pub := publication(rec, nil)
		for _, p := range rec.Spec.Ports {
			if rt.claims.Has(id, p) {
				pub.Ports = append(pub.Ports, p)
			}
		}
		if len(pub.Ports) == 0 {
			// Somebody takes the last one away at this moment, and has only the record left to
			// write: what the rules had of the pod, nobody would take out of them any more.
			continue
		}
		pods, links = append(pods, pub), append(links, rec.link())
	}
	if err := rt.recordRanges(ranges); err != nil {
		return err
	}
	if err := rt.unassigned().Refuse(ranges...); err != nil {
		return err
	}
	// Which links forward for us is on record before they do, and they are guarded.
	up, err := netns.FindUplinks(rt.uplinks())
	if err != nil {
		return err
	}
	if err := rt.recordUplinks(up); err != nil {
		return err
	}
	policed, groups := allPoliced(known)
	if groups {
		err = rt.beginGroups()
	} else {
		// Before the rules lose them: who is killed in between leaves groups that nobody
		// asks for, and that are made anew before anybody does.
		err = rt.recordGroups(false)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(rt.rules.Replace(pods, up, policed...), rt.replaceLoopback(pods)); err != nil {
		return err
	}
	if groups {
		if err := rt.recordGroups(true); err != nil {
			return err
		}
	}
	if err := netns.ReachLoopbackBy(links); err != nil {
		return err
	}
	return up.Forward()
}

// dropRules removes the host's rules if there is no pod, or but the one, which is about
// to go. Should a crash prevent it, Sweep does it.
func (rt *Runtime) dropRules(ctx context.Context, leaving string) error {
	// Where there was never a rule there is no directory.
	if !exists(rt.rulesDir()) {
		return nil
	}
	needed := func() (bool, error) { return rt.others(leaving) }
	if is, err := needed(); err != nil || is {
		return err
	}
	lock, err := rt.lockRules(ctx, flock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Close()
	// Who comes now has a record before it looks whether there are rules.
	if is, err := needed(); err != nil || is {
		return err
	}
	up := rt.uplinks()
	if err := up.Stop(rt.rules.Table); err != nil && !incapable(err) {
		return err
	}
	if err := rt.recordGroups(false); err != nil {
		return err
	}
	if err := rt.rules.Remove(); err != nil && !incapable(err) {
		return err
	}
	if err := rt.removeRulesKey(); err != nil {
		return err
	}
	if err := rt.loopback.Remove(); err != nil {
		return err
	}
	if err := rt.leaveRanges(); err != nil {
		return err
	}
	return rt.recordUplinks(up.Left())
}

const (
	uplinksFile = "uplinks"
	maxUplinks  = 1 << 20 // bytes
)

// uplinks returns the links that we have told to forward: also after others have
// flushed the rules that guard them. What cannot be read is nothing.
func (rt *Runtime) uplinks() netns.Uplinks {
	var up netns.Uplinks
	f, err := os.Open(filepath.Join(rt.rulesDir(), uplinksFile))
	if err != nil {
		return up
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxUplinks))
	if err != nil || json.Unmarshal(b, &up) != nil {
		return netns.Uplinks{}
	}
	return up
}

func (rt *Runtime) recordUplinks(up netns.Uplinks) error {
	path := filepath.Join(rt.rulesDir(), uplinksFile)
	if up.IsZero() {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.Marshal(up)
	if err != nil {
		return err
	}
	return replaceFile(path, b, 0o600)
}
