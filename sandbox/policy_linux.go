package sandbox

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/internal/steps"
	"github.com/podbox/podbox/netns"
)

// What the host's rules have of a pod's policy is about its addresses, and there from
// when these are taken until they are given back, whether the pod has a link or not: it
// is never reached before its policy is there, and whoever has the address next has
// nothing of it.
//
// Which groups a pod belongs to, by its name and its labels, they have of all pods, but
// only while there is a pod whose policy names groups: then there is groupsFile in the
// rules' directory. It is made and removed by whoever makes all rules anew. A pod has its
// address on record before it looks for the file, and looks under the lock of the rules: so
// either it sees the file, or who makes the file has seen the record.

const groupsFile = "groups"

// namesGroups reports whether there is a pod whose policy names groups.
func (rt *Runtime) namesGroups() bool { return exists(filepath.Join(rt.rulesDir(), groupsFile)) }

// halfGrouped reports whether somebody was killed who made all rules anew for the sake of
// groups: they may have the groups or not, and are to be made again.
func (rt *Runtime) halfGrouped() bool {
	st, err := os.Lstat(filepath.Join(rt.rulesDir(), groupsFile))
	return err == nil && st.Size() > 0
}

// beginGroups says that there is going to be one; recordGroups then ends that.
func (rt *Runtime) beginGroups() error {
	return os.WriteFile(filepath.Join(rt.rulesDir(), groupsFile), []byte("under way\n"), 0o600)
}

// recordGroups says from now on whether there is one.
func (rt *Runtime) recordGroups(yes bool) error {
	path := filepath.Join(rt.rulesDir(), groupsFile)
	if yes {
		return os.WriteFile(path, nil, 0o600)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// rulesKey returns the key of the rules, which is made when it is first needed. If it is lost
// and made anew the rules do not match what they should have, and are replaced.
func (rt *Runtime) rulesKey() ([]byte, error) {
	path := filepath.Join(rt.rulesDir(), keyFile)
	for {
		key, err := os.ReadFile(path)
		if err == nil && len(key) == sha256.Size {
			return key, nil
		}
		if err == nil { // cut short by others
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		key = make([]byte, sha256.Size)
		rand.Read(key) // which does not fail
		tmp, err := os.CreateTemp(rt.rulesDir(), keyFile+"-")
		if err != nil {
			return nil, err
		}
		_, err = tmp.Write(key)
		err = errors.Join(err, tmp.Close())
		if err == nil {
			err = os.Link(tmp.Name(), path) // of many that make one, one is first
		}
		if err = errors.Join(err, os.Remove(tmp.Name())); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
}

const keyFile = "key"

// removeRulesKey removes the key, and what somebody has left who was killed making it. Who
// calls it keeps others from needing it.
func (rt *Runtime) removeRulesKey() error {
	files, err := os.ReadDir(rt.rulesDir())
	for _, f := range files {
		if strings.HasPrefix(f.Name(), keyFile) {
			err = errors.Join(err, os.Remove(filepath.Join(rt.rulesDir(), f.Name())))
		}
	}
	return err
}

// policed is what the rules have to know of a pod.
func policed(rec *record, groups bool) netns.Policed {
	p := netns.Policed{Address: rec.Address, Policy: rec.Spec.Policy}
	if key := p.Policy.Isolate; key != "" {
		p.Isolated = netns.LabelGroup(key, rec.Spec.Labels[key])
	}
	if groups {
		p.Groups = netns.Groups(rec.Spec.Name, rec.Spec.Labels)
	}
	return p
}

// allPoliced returns what the rules have to know of pods, and whether a policy names
// groups.
func allPoliced(recs []*record) (all []netns.Policed, groups bool) {
	for _, rec := range recs {
		groups = groups || rec.Spec.Policy.HasGroups()
	}
	for _, rec := range recs {
		if groups || !rec.Spec.Policy.IsZero() {
			all = append(all, policed(rec, groups))
		}
	}
	return all, groups
}

// hasPolicy reports whether a pod's policy counts now: of one that is leaving, as long as
// it has a link. After that its address is given back.
func hasPolicy(rec *record) bool {
	return rec.wired() && (rec.State != Removing || netns.Connected(rec.link()))
}

func (b *build) policyStep() steps.Step {
	return steps.Step{
		Name: "policy",
		Text: policyText(b.rec.Spec.Policy) + "; forget connections that are not",
		Do: func(ctx context.Context) error {
			if err := b.rt.police(ctx, nil, b.rec); err != nil {
				return err
			}
			return b.rt.forgetRefused(b.rec)
		},
	}
}

// beToOthers puts into the rules what a pod without a policy is to those of others. Who had
// its addresses before may have been more to them: connections that are left of that are
// forgotten.
func (b *build) beToOthers(ctx context.Context) error {
	if !b.rec.Spec.Policy.IsZero() {
		return nil // that step did it
	}
	if err := b.rt.police(ctx, nil, b.rec); err != nil && !incapable(err) {
		return err
	}
	if !b.rt.namesGroups() {
		return nil
	}
	return b.rt.forgetRefused(b.rec)
}

func policyText(p netns.Policy) string {
	var words []string
	for _, way := range []struct {
		name  string
		peers []netns.Peer
	}{{"from", p.From}, {"to", p.To}} {
		if way.peers == nil {
			continue
		}
		list := make([]string, len(way.peers))
		for i, peer := range way.peers {
			list[i] = peer.String()
		}
		if len(list) == 0 {
			list = []string{"nobody"}
		}
		words = append(words, way.name+" "+strings.Join(list, ", "))
	}
	if p.Isolate != "" {
		words = append(words, "between pods of the same "+p.Isolate)
	}
	if len(words) == 0 {
		return "allow connections from and to everybody"
	}
	return "allow connections " + strings.Join(words, ", ")
}

// police makes the rules have what now says of a pod rather than what was says. Either
// may be nil.
func (rt *Runtime) police(ctx context.Context, was, now *record) error {
	restricts := false
	for _, rec := range []*record{was, now} {
		restricts = restricts || rec != nil && !rec.Spec.Policy.IsZero()
	}
	if !restricts && !exists(rt.rulesDir()) {
		return nil // there was never a policy
	}
	lock, err := rt.lockRules(ctx, flock.Shared)
	if err != nil {
		return err
	}
	// Not before: who makes all rules anew may have read the record as it was, and not yet
	// have said that there are groups.
	named := rt.namesGroups()
	switch {
	case rt.halfGrouped():
		lock.Close()
		return rt.replaceRules(ctx)
	case !restricts && !named:
		return lock.Close()
	case now != nil && now.Spec.Policy.HasGroups() && !named:
		lock.Close()
		return rt.replaceRules(ctx)
	}
	var before, after netns.Policed
	if was != nil {
		before = policed(was, named)
	}
	if now != nil {
		after = policed(now, named)
	}
	there, err := rt.rules.Present()
	if err == nil && there {
		err = rt.rules.Police(before, after)
	}
	lock.Close()
	switch {
	case err == nil && !there && now == nil:
		return nil
	case err == nil && !there, errors.Is(err, netns.ErrAbsent):
		// Flushed by others, or the first policy of all. The records tell all.
		return rt.replaceRules(ctx)
	}
	return err
}

// giveBack gives a pod's addresses back, and before that takes what is about them out of
// the rules. The record must say that the pod is being removed, or who makes the rules anew
// would put it there again; the pod has no link any more.
func (rt *Runtime) giveBack(ctx context.Context, rec *record) error {
	var err error
	if rec.Changing && rec.wired() && exists(rt.rulesDir()) {
		err = rt.replaceRules(ctx) // they may have what was before, of which nothing tells
	} else {
		err = rt.police(ctx, rec, nil)
	}
	if err != nil && !incapable(err) {
		return err
	}
	return rt.releaseAddress(rec)
}

// leave undoes takeAddress.
func (b *build) leave(ctx context.Context) error {
	b.rec.State = Removing
	if err := b.rec.write(b.rt.podDir(b.rec.ID)); err != nil {
		return err
	}
	return b.rt.giveBack(ctx, b.rec)
}

// changePolicyStep changes the policy of a pod that is there, or what it is to those of
// others.
func (rt *Runtime) changePolicyStep(next, rec *record) steps.Step {
	change := func(ctx context.Context, was, now *record) error {
		if rec.Changing { // who knows what was
			if err := rt.replaceRules(ctx); err != nil {
				return err
			}
		} else if err := rt.police(ctx, was, now); err != nil {
			return err
		}
		return rt.forgetRefused(now)
	}
	return steps.Step{
		Name: "policy",
		Text: policyText(next.Spec.Policy) + "; forget connections that are not",
		Back: "allow what was",
		Do:   func(ctx context.Context) error { return change(ctx, rec, next) },
		Undo: func(ctx context.Context) error { return change(ctx, next, rec) },
	}
}

// forgetRefused makes the kernel forget connections of a pod that policies do not allow,
// its own or those of the pods at the other end: what it knows already it lets through.
func (rt *Runtime) forgetRefused(rec *record) error {
	if rec.Spec.Policy.IsZero() && !exists(rt.rulesDir()) {
		return nil
	}
	known := make(map[netip.Addr]*netns.Policed)
	return netns.ForgetRefused(rec.Address, func(a netip.Addr) *netns.Policed {
		p, seen := known[a]
		if !seen {
			p = rt.policedAt(a)
			known[a] = p
		}
		return p
	})
}

// policedAt returns what is known of the pod that has an address, nil if none has it.
func (rt *Runtime) policedAt(a netip.Addr) *netns.Policed {
	owner, err := rt.leases.Owner(a)
	if err != nil || !names.IsID(owner) {
		return nil
	}
	rec, err := readRecord(rt.podDir(owner))
	if err != nil {
		return nil
	}
	p := policed(rec, true)
	return &p
}

func (s *Spec) validatePolicy() error {
	if s.Policy.IsZero() {
		return nil
	}
	if s.Network.Mode != netns.ModePod {
		return fmt.Errorf("policy: %w: it needs network pod, not %s", ErrInvalid, s.Network)
	}
	if err := s.Policy.Validate(); err != nil {
		return err
	}
	if key := s.Policy.Isolate; key != "" {
		if _, has := s.Labels[key]; !has {
			return invalid("isolate", key, "the pod has no such label")
		}
	}
	return nil
}
