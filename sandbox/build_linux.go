package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/steps"
	"github.com/podbox/podbox/internal/sysctl"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/netns/cni"
)

// A build is a pod on its way up: what its steps hand to one another.
type build struct {
	rt    *Runtime
	rec   *record
	lock  *flock.Lock
	pause *newborn
	born  chan error // says that pause is there, or why not

	// join are the namespaces that the pause joins rather than makes: those
	// of a stranger, or those that survived the last pause.
	join    []*os.File
	joined  []Namespace
	memory  memory // what survived it of /dev/shm and of volumes
	failure error  // of an undo

	networks []*cni.Network // that plugins shall connect the pod to
}

func (b *build) close() {
	if b.pause != nil {
		b.pause.close()
	}
	for _, f := range b.join {
		f.Close()
	}
	b.memory.close()
	b.lock.Close()
}

// Create makes a pod and brings it up. ErrExists if its name is taken. If it
// fails, everything is as it was; if undoing fails as well, the pod is left in
// state broken.
func (rt *Runtime) Create(ctx context.Context, spec Spec) (*Sandbox, error) {
	b, err := rt.newBuild(spec)
	if err != nil {
		return nil, err
	}
	defer b.close()
	rt.background.Go(rt.birth.prepare) // meanwhile; whoever needs it waits for it
	if err := steps.Run(ctx, b.createPlan(), rt.hook); err != nil {
		return nil, fmt.Errorf("create pod %q: %w", b.rec.Spec.Name, err)
	}
	rt.announce("create", b.rec)
	return &Sandbox{rt: rt, id: b.rec.ID, ref: b.rec.Spec.Name}, nil
}

// A Planned step is one line of a plan.
type Planned struct {
	Name string `json:"name"`
	Do   string `json:"do"`
	Undo string `json:"undo,omitempty"` // what is done if a later step fails
}

// Plan returns the steps that Create would do for spec, and changes nothing.
func (rt *Runtime) Plan(spec Spec) ([]Planned, error) {
	b, err := rt.newBuild(spec)
	if err != nil {
		return nil, err
	}
	var lines []Planned
	for _, s := range b.createPlan() {
		lines = append(lines, Planned{s.Name, s.Text, s.Back})
	}
	return lines, nil
}

func (rt *Runtime) newBuild(spec Spec) (*build, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	id := names.NewID()
	rec := &record{
		Version: recordVersion, ID: id, State: Created,
		Created: time.Now().UTC().Truncate(time.Microsecond), Spec: spec.withDefaults(id), StateDir: rt.stateDir,
	}
	if rec.plugged() {
		rec.CNI = rt.cni.WithDefaults()
	}
	return &build{rt: rt, rec: rec}, nil
}

// createPlan is everything from nothing to a running pod.
func (b *build) createPlan() []steps.Step {
	plan := []steps.Step{{
		Name: "record",
		Text: "record the intent in " + filepath.Join(b.rt.root, "pods", "ID"),
		Back: "remove the record",
		Do:   b.makeRecord,
		Undo: b.unmakeRecord,
	}, {
		Name: "name",
		Text: fmt.Sprintf("take the name %q", b.rec.Spec.Name),
		Back: "give the name back",
		Do: func(ctx context.Context) error {
			return b.rt.claimName(ctx, b.rec.Spec.Name, b.rec.ID)
		},
		Undo: b.noted(func(ctx context.Context) error {
			if b.failure != nil {
				return nil // the pod stays, and is to be found
			}
			return b.rt.releaseName(ctx, b.rec.Spec.Name, b.rec.ID)
		}),
	}}
	var take []steps.Step
	if b.rec.wired() {
		take = append(take, steps.Step{
			Name: "address",
			Text: "take " + b.wantedAddress(),
			Back: "give the addresses back",
			Do:   b.takeAddress,
			Undo: b.noted(b.leave),
		})
	}
	if len(b.rec.Spec.Ports) > 0 {
		take = append(take, b.claimStep(true))
	}
	return append(plan, b.upPlan(take...)...)
}

// upPlan is everything from a record to a running pod. What is taken, if anything, and
// the kernel's work on the namespaces go on at the same time.
func (b *build) upPlan(take ...steps.Step) []steps.Step {
	spec := &b.rec.Spec
	plan := append([]steps.Step{b.cloneStep()}, take...)
	if b.rec.plugged() {
		plan = append(plan, b.networksStep())
	}
	if len(spec.Volumes) > 0 {
		plan = append(plan, b.volumeStep())
	}
	if spec.Limits != (Limits{}) {
		plan = append(plan, b.limitStep())
	}
	plan = append(plan, steps.Step{
		Name: "files",
		Text: "write " + strings.Join(spec.files(), ", "),
		Do:   func(context.Context) error { return writeFiles(b.rt.podDir(b.rec.ID), b.rec) },
	}, b.pauseStep())
	if !spec.Policy.IsZero() {
		plan = append(plan, b.policyStep())
	}
	if spec.owns(Net) {
		plan = append(plan, b.wireStep())
	}
	if b.rec.limitsLink() {
		plan = append(plan, b.limitLinkStep())
	}
	if b.rec.publishes() {
		plan = append(plan, b.publishStep())
	}
	if len(spec.Sysctls) > 0 {
		plan = append(plan, b.sysctlStep())
	}
	return append(plan, b.commitStep())
}

// cloneStep begins to start the pause. Until the pod is committed it ends by
// itself if we do.
func (b *build) cloneStep() steps.Step {
	return steps.Step{
		Name: "clone",
		Text: b.pauseText(),
		Back: "end the pause, and with it the namespaces",
		Do: func(ctx context.Context) error {
			b.born = make(chan error, 1)
			go func() { b.born <- b.startPause(ctx) }()
			return nil
		},
		Undo: func(context.Context) error {
			_ = b.awaitPause()
			b.pause.abandon()
			return nil
		},
	}
}

// pauseStep ends what cloneStep began.
func (b *build) pauseStep() steps.Step {
	return steps.Step{
		Name: "pause",
		Text: "wait until it holds them",
		Do:   func(context.Context) error { return b.awaitPause() },
	}
}

func (b *build) awaitPause() error {
	if b.born == nil {
		return nil
	}
	err := <-b.born
	b.born = nil
	return err
}

func (b *build) wireStep() steps.Step {
	if b.rec.plugged() {
		return b.attachStep()
	}
	if !b.rec.wired() {
		return steps.Step{
			Name: "loopback",
			Text: "set the loopback link up",
			Do:   func(context.Context) error { return b.inNet((*netns.NS).SetUpLoopback) },
		}
	}
	link := b.rec.link()
	return steps.Step{
		Name: "wire",
		Text: fmt.Sprintf("connect %s of the pod to pbx… of the host; addresses, routes, neighbours; forwarding on for the link; the host's rules and routes to nowhere, if they are missing", netns.Interface),
		Back: "remove the link",
		Do: func(ctx context.Context) error {
			if err := b.rt.ensureRules(ctx); err != nil {
				return err
			}
			if err := b.rt.refuseUnassigned(ctx, b.rec); err != nil {
				return err
			}
			if err := b.beToOthers(ctx); err != nil {
				return err
			}
			// Of a pause that died the link may still be there.
			if err := b.rt.disconnect(b.rec); err != nil {
				return err
			}
			return b.inNet(func(ns *netns.NS) error {
				return netns.Connect(ns, link, b.rec.Address, netns.HostMTU())
			})
		},
		Undo: b.noted(func(ctx context.Context) error {
			if !b.rec.publishes() {
				return b.rt.disconnect(b.rec)
			}
			// As soon as there was a link, others who made the rules anew have put its ports into
			// them.
			return b.rt.unpublishLast(ctx, b.rec)
		}),
	}
}

// commitStep comes last and has no undo: with it the pod exists.
func (b *build) commitStep() steps.Step {
	return steps.Step{
		Name: "commit",
		Text: "record the pod as running and let the pause stay",
		Do: func(context.Context) error {
			ns, err := b.pause.namespaces(b.rec.Spec.Share)
			if err != nil {
				return err
			}
			next := *b.rec
			next.State, next.Error, next.Pause, next.Namespaces, next.Rewiring = Running, "", b.pause.identity, ns, false
			if err := next.write(b.rt.podDir(b.rec.ID)); err != nil {
				return err
			}
			*b.rec = next
			return b.pause.commit()
		},
	}
}

// noted remembers that an undo failed, so that the record is kept.
func (b *build) noted(undo func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		err := undo(ctx)
		b.failure = errors.Join(b.failure, err)
		return err
	}
}

func (b *build) makeRecord(ctx context.Context) error {
	if err := b.rt.makeRoot(); err != nil {
		return err
	}
	dir := b.rt.podDir(b.rec.ID)
	// A sweep may come between making and locking, and take the directory for
	// one left behind.
	for range 10 {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		lock, err := flock.Wait(ctx, dir, flock.Exclusive)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		b.lock = lock
		return b.rec.write(dir)
	}
	return fmt.Errorf("%s: vanishes", dir)
}

func (b *build) unmakeRecord(ctx context.Context) error {
	dir := b.rt.podDir(b.rec.ID)
	if b.lock == nil {
		return nil // it was never made
	}
	if b.failure == nil {
		return errors.Join(b.rt.removeParent(), os.RemoveAll(dir), b.rt.dropRules(ctx, ""))
	}
	b.rec.State, b.rec.Error = Broken, b.failure.Error()
	return b.rec.write(dir)
}

func (b *build) wantedAddress() string {
	n := b.rec.Spec.Network
	ip, ip6 := "the next free address of "+n.Range.String(), "of "+n.Range6.String()
	if n.IP.IsValid() {
		ip = n.IP.String()
	}
	if n.IP6.IsValid() {
		ip6 = n.IP6.String()
	}
	return ip + " and " + ip6
}

func (b *build) takeAddress(ctx context.Context) error {
	n := b.rec.Spec.Network
	a := &b.rec.Address
	a.MAC = n.MAC
	var err error
	if a.IP, err = b.rt.lease(ctx, n.IP, n.Range, b.rec.ID); err != nil {
		return err
	}
	switch {
	case netns.IPv6():
		if a.IP6, err = b.rt.lease(ctx, n.IP6, n.Range6, b.rec.ID); err != nil {
			return err
		}
	case n.IP6.IsValid():
		return fmt.Errorf("ip6 %s: IPv6 is off on this host: %w", n.IP6, unix.EAFNOSUPPORT)
	}
	// On record, so that whoever clears a half-made pod away gives it back.
	return b.rec.write(b.rt.podDir(b.rec.ID))
}

// lease takes the wanted address, or the next free one.
func (rt *Runtime) lease(ctx context.Context, want netip.Addr, r netip.Prefix, id string) (netip.Addr, error) {
	if !want.IsValid() {
		return rt.leases.Acquire(ctx, r, id, func(a netip.Addr) error {
			err := netns.Free(a)
			// A route into the range makes an address unusable, a route that
			// covers the range all of it.
			var conflict *netns.ConflictError
			if errors.As(err, &conflict) && conflict.Route.Bits() > r.Bits() {
				return netns.ErrInUse
			}
			return err
		})
	}
	if err := rt.leases.Claim(ctx, want, id); err != nil {
		return netip.Addr{}, err
	}
	if err := netns.Free(want); err != nil {
		return netip.Addr{}, errors.Join(err, rt.leases.Release(want, id))
	}
	return want, nil
}

func (rt *Runtime) releaseAddress(rec *record) error {
	return errors.Join(rt.leases.Release(rec.Address.IP, rec.ID), rt.leases.Release(rec.Address.IP6, rec.ID))
}

// disconnect removes a pod's link if it has one.
func (rt *Runtime) disconnect(rec *record) error {
	if !rec.wired() {
		return nil
	}
	wait, err := netns.Disconnect(rec.link())
	if wait != nil {
		rt.background.Go(wait)
	}
	return errors.Join(err, rt.removeShaper(rec))
}

// unwire removes a pod's link, if it has one, and what the kernel knows of connections by it:
// the next one who has the addresses has nothing of it. Of a pod that has never sent anything
// there is nothing to be forgotten, if this was its one link and nobody came by its ports.
func (rt *Runtime) unwire(rec *record) error {
	if !rec.wired() {
		return nil
	}
	forget := rec.Address
	if len(rec.Spec.Ports) == 0 && !rec.Rewired {
		forget = netns.Answered(rec.link(), forget)
	}
	if err := rt.disconnect(rec); err != nil {
		return err
	}
	return netns.ForgetAll(forget)
}

func (b *build) startPause(ctx context.Context) error {
	spec := &b.rec.Spec
	if spec.Network.Mode == netns.ModePath && !slices.Contains(b.joined, Net) {
		ns, err := netns.Open(spec.Network.Path)
		if err != nil {
			return err
		}
		b.join, b.joined = append(b.join, ns.File()), append(b.joined, Net)
	}
	var fresh []Namespace
	for _, n := range spec.Share {
		if n != PID && !slices.Contains(b.joined, n) { // a pause has its own PID namespace always
			fresh = append(fresh, n)
		}
	}
	var err error
	b.pause, err = b.rt.startPause(ctx, b.rec, fresh, b.join)
	return err
}

// inNet calls f with the network namespace of the new pause.
func (b *build) inNet(f func(*netns.NS) error) error {
	ns, err := netns.Of(b.pause.identity.PID)
	if err != nil {
		return err
	}
	defer ns.Close()
	return f(ns)
}

func (b *build) pauseText() string {
	text := "start the pause in new namespaces: " + join(b.rec.Spec.owned())
	if len(b.joined) > 0 {
		text = "start a pause in the namespaces that programs still hold: " + join(b.joined)
	}
	if h := b.rec.Spec.hostname(); h != "" {
		text += "; host name " + h
	}
	return text
}

// sysctlStep sets the sysctls of the namespaces that are new.
func (b *build) sysctlStep() steps.Step {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(b.rec.Spec.Sysctls)) {
		words = append(words, k+"="+b.rec.Spec.Sysctls[k])
	}
	return steps.Step{Name: "sysctls", Text: "set " + strings.Join(words, ", "), Do: b.setSysctls}
}

// setSysctls works from a thread in the pod's namespaces.
func (b *build) setSysctls(context.Context) error {
	spec := &b.rec.Spec
	flags := 0
	for _, n := range []Namespace{Net, IPC} {
		if spec.owns(n) {
			flags |= n.flag()
		}
	}
	dir, err := sysctl.Open()
	if err != nil {
		return err
	}
	defer dir.Close()
	return nsthread.Do(func() error {
		if err := nsthread.Join(b.pause.pidfd, flags); err != nil {
			return err
		}
		for _, k := range slices.Sorted(maps.Keys(spec.Sysctls)) {
			if err := dir.Set(k, spec.Sysctls[k]); err != nil {
				return err
			}
		}
		return nil
	})
}
