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

	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/steps"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/netns/cni"
)

// netnsFile is what plugins know the pod's network namespace by, in the pod's directory: a
// name that stays the same for the life of the pod, as they compare it. It is there only
// while a plugin runs.
const netnsFile = "netns"

// cniInterface is what the pod's interface in its ith CNI network is called.
func cniInterface(i int) string { return fmt.Sprintf("eth%d", i) }

// networksStep finds what will be needed, before there is anything to undo.
func (b *build) networksStep() steps.Step {
	return steps.Step{
		Name: "networks",
		Text: "find the CNI networks " + strings.Join(b.rec.Spec.Network.Names, ", ") + ", and their plugins",
		Do:   func(context.Context) error { return b.findNetworks() },
	}
}

func (b *build) findNetworks() error {
	b.networks = nil
	for _, name := range b.rec.Spec.Network.Names {
		n, err := b.rec.CNI.Find(name)
		if err == nil {
			err = b.rec.CNI.Missing(n)
		}
		if err != nil {
			return err
		}
		b.networks = append(b.networks, n)
	}
	for i := range b.networks {
		if _, err := b.attachment(i, false); err != nil {
			return err
		}
	}
	return nil
}

// attachment returns what connects the pod to its ith network. again says that it should
// have the addresses that it had before.
func (b *build) attachment(i int, again bool) (*cni.Attachment, error) {
	spec := &b.rec.Spec
	want := cni.Request{DNS: cni.DNS{Servers: spec.DNS.Servers, Search: spec.DNS.Search, Options: spec.DNS.Options}}
	if i == 0 {
		want.Addresses, want.MAC = wantedAddresses(spec.Network), spec.Network.MAC
	}
	if again && i < len(b.rec.Networks) {
		want.Addresses, want.MAC = nil, b.rec.Networks[i].MAC
		for _, ip := range b.rec.Networks[i].IPs {
			want.Addresses = append(want.Addresses, ip.Address)
		}
	}
	if len(spec.Ports) > 0 && i == b.capable("portMappings") {
		want.Ports = spec.Ports
	}
	if i == b.capable("bandwidth") {
		want.Bandwidth = spec.Bandwidth
	}
	return b.networks[i].Attach(b.rec.ID, cniInterface(i), want)
}

// capable returns the index of the network that is told what can be told to one only: the
// first that has the capability, or the first of all, which then says that it has not.
func (b *build) capable(capability string) int {
	return max(0, slices.IndexFunc(b.networks, func(n *cni.Network) bool { return n.Has(capability) }))
}

// wantedAddresses are those that the user has asked for.
func wantedAddresses(n netns.Network) []netip.Prefix {
	var all []netip.Prefix
	for _, a := range []netip.Addr{n.IP, n.IP6} {
		if a.IsValid() {
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return all
}

// attachStep has the plugins connect the pod.
func (b *build) attachStep() steps.Step {
	var words []string
	for i, name := range b.rec.Spec.Network.Names {
		words = append(words, cniInterface(i)+" to "+name)
	}
	return steps.Step{
		Name: "attach",
		Text: "have CNI plugins connect " + strings.Join(words, ", ") + " (ADD)",
		Back: "have them undo it (DEL)",
		Do:   b.attach,
		Undo: b.noted(func(ctx context.Context) error {
			if b.pause == nil {
				return nil
			}
			if err := b.detachBuilt(ctx); err != nil || b.rec.State != Created {
				return err
			}
			return b.rt.removeState(ctx, b.rec)
		}),
	}
}

// reattachStep connects a pod anew whose pause lives, and from which somebody was killed who
// had begun to disconnect it.
func (b *build) reattachStep() steps.Step {
	s := b.attachStep()
	s.Name = "reattach"
	s.Text = "have them undo what there is (DEL); " + s.Text
	s.Do = func(ctx context.Context) error {
		if err := b.detachBuilt(ctx); err != nil {
			return err
		}
		return b.attach(ctx)
	}
	return s
}

func (b *build) attach(ctx context.Context) error {
	if err := b.inNet((*netns.NS).SetUpLoopback); err != nil {
		return err
	}
	// Of a pause that died there may be something left.
	if err := b.rt.detach(ctx, b.rec, nil, false); err != nil {
		return err
	}
	if err := b.rt.makeState(b.rec); err != nil {
		return err
	}
	ns, err := b.namespace()
	if err != nil {
		return err
	}
	defer ns.Close()
	path, err := b.rt.lendNamespace(b.rec, ns)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	var results []cni.Result
	for i := range b.networks {
		r, err := b.attachOne(ctx, i, path)
		if err != nil {
			return err
		}
		results = append(results, *r)
	}
	b.rec.Networks = results
	b.rec.Address = results[0].Address()
	// The names of the pod's own addresses, and resolvers that the network may have told of.
	return writeFiles(b.rt.podDir(b.rec.ID), b.rec)
}

// attachOne connects the pod to its ith network: with the addresses that it had before, if
// the network still has them to give.
func (b *build) attachOne(ctx context.Context, i int, path string) (*cni.Result, error) {
	again := i < len(b.rec.Networks)
	for {
		a, err := b.attachment(i, again)
		if err != nil {
			return nil, err
		}
		if err := b.rt.noteAttachment(b.rec, a); err != nil {
			return nil, err
		}
		err = b.rec.CNI.Add(ctx, a, path)
		var refused *cni.PluginError
		if again && errors.As(err, &refused) && refused.Code != 0 {
			b.rt.log.Warn("addresses of the last time are not to be had", "network", a.Network, "error", err)
			if err := b.rt.detachOne(ctx, b.rec, a, path, false); err != nil {
				return nil, err
			}
			again = false
			continue
		}
		if err != nil {
			return nil, err
		}
		if want := wantedAddresses(b.rec.Spec.Network); i == 0 && !a.Result.Gave(want) {
			return nil, fmt.Errorf("network %s: %w: asked for %s, got %s: its plugins do not heed what they are asked for", a.Network, ErrInvalid, prefixes(want), results(a.Result))
		}
		return a.Result, b.rt.noteAttachment(b.rec, a)
	}
}

func prefixes(ps []netip.Prefix) string {
	var words []string
	for _, p := range ps {
		words = append(words, p.Addr().String())
	}
	return strings.Join(words, " and ")
}

func results(r *cni.Result) string {
	var words []string
	for _, ip := range r.IPs {
		words = append(words, ip.Address.Addr().String())
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, " and ")
}

// namespace opens the network namespace of the new pause.
func (b *build) namespace() (*netns.NS, error) {
	return openNetwork(b.pause.identity.PID, b.pause.pidfd)
}

// openNetwork opens the network namespace of a process that is alive.
func openNetwork(pid int, pidfd *os.File) (*netns.NS, error) {
	ns, err := netns.Of(pid)
	if err != nil {
		return nil, err
	}
	if proc.Exited(pidfd) { // then it may have been another's
		ns.Close()
		return nil, fmt.Errorf("network namespace of process %d: %w", pid, proc.ErrGone)
	}
	return ns, nil
}

// lendNamespace gives plugins a path to a namespace: it cannot come to mean another as long
// as ns is open. The caller removes it.
func (rt *Runtime) lendNamespace(rec *record, ns *netns.NS) (string, error) {
	path := filepath.Join(rt.podDir(rec.ID), netnsFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return path, os.Symlink(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.File().Fd()), path)
}

// detachBuilt undoes attach.
func (b *build) detachBuilt(ctx context.Context) error {
	ns, err := b.namespace()
	if err != nil && !errors.Is(err, proc.ErrGone) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer ns.Close()
	return b.rt.detach(ctx, b.rec, ns, false)
}

// detachStep has the plugins disconnect a pod in which no program runs. force is for one that
// is to go even if plugins are gone.
func (rt *Runtime) detachStep(rec *record, force bool) steps.Step {
	return steps.Step{
		Name: "detach",
		Text: "have CNI plugins disconnect the pod (DEL)",
		Do: func(ctx context.Context) error {
			// Who is killed from here on leaves a pod that runs, without its networks.
			if rec.State == Running && !rec.Rewiring {
				rec.Rewiring = true
				if err := rec.write(rt.podDir(rec.ID)); err != nil {
					return err
				}
			}
			err := rt.detachRecorded(ctx, rec, force)
			if err != nil && rec.State == Removing {
				rec.Error = err.Error() // for whoever looks why it is still there
				return errors.Join(err, rec.write(rt.podDir(rec.ID)))
			}
			return err
		},
	}
}

func (rt *Runtime) detachRecorded(ctx context.Context, rec *record, force bool) error {
	pidfd, err := openPause(rec)
	if errors.Is(err, proc.ErrGone) {
		return rt.detach(ctx, rec, nil, force)
	}
	if err != nil {
		return err
	}
	defer pidfd.Close()
	ns, err := openNetwork(rec.Pause.PID, pidfd)
	if err != nil && !errors.Is(err, proc.ErrGone) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer ns.Close()
	return rt.detach(ctx, rec, ns, force)
}

// detach undoes whatever plugins have done for a pod, or may have, and forgets it. ns is nil
// if the namespace is gone. It may be repeated, and does not end with ctx: each operation has
// its own time.
func (rt *Runtime) detach(ctx context.Context, rec *record, ns *netns.NS, force bool) error {
	ctx = context.WithoutCancel(ctx)
	all, err := rt.attachments(rec)
	if err != nil {
		if !force {
			return err
		}
		rt.log.Warn("what plugins have done cannot be undone", "pod", rec.ID, "error", err)
		return removeAttachments(rec)
	}
	if len(all.Attachments) == 0 {
		return nil
	}
	if slices.ContainsFunc(all.Attachments, func(a *cni.Attachment) bool { return a.Result == nil }) {
		// Whoever was at it may have been killed.
		if err := cni.KillStrays(rec.ID); err != nil {
			return err
		}
	}
	path := ""
	if ns != nil {
		if path, err = rt.lendNamespace(rec, ns); err != nil {
			return err
		}
		defer os.Remove(path)
	}
	var errs []error
	for _, a := range slices.Backward(slices.Clone(all.Attachments)) {
		errs = append(errs, rt.detachOne(ctx, rec, a, path, force))
	}
	return errors.Join(errs...)
}

// detachOne undoes one attachment, and forgets it.
func (rt *Runtime) detachOne(ctx context.Context, rec *record, a *cni.Attachment, path string, force bool) error {
	all, err := rt.attachments(rec)
	if err != nil {
		return err
	}
	left, err := all.Driver.Delete(context.WithoutCancel(ctx), a, path, force)
	for _, l := range left {
		rt.log.Warn("a plugin is gone: what it has made is left", "pod", rec.ID, "network", a.Network, "error", l)
	}
	if err != nil {
		return err
	}
	return all.without(a).write(rec)
}

// checkNetworks has the plugins look whether what they have made of a pod is still there.
func (rt *Runtime) checkNetworks(ctx context.Context, rec *record, ns *netns.NS) error {
	all, err := rt.attachments(rec)
	if err != nil || len(all.Attachments) == 0 {
		return err
	}
	path, err := rt.lendNamespace(rec, ns)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	var errs []error
	for _, a := range all.Attachments {
		errs = append(errs, all.Driver.Check(ctx, a, path))
	}
	return errors.Join(errs...)
}

// checkStep is for a pod whose programs have kept its network while its pause was gone:
// nothing is done to that, whatever has become of it.
func (b *build) checkStep() steps.Step {
	return steps.Step{
		Name: "check",
		Text: "have CNI plugins look whether the network is as it was (CHECK)",
		Do: func(ctx context.Context) error {
			ns, err := b.namespace()
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := b.rt.checkNetworks(ctx, b.rec, ns); err != nil {
				b.rt.log.Warn("the network is not as it was", "pod", b.rec.Spec.Name, "error", err)
			}
			return ctx.Err()
		},
	}
}

// collect tells the plugins of the networks that pods are in which attachments there are. What
// they find besides is garbage that nobody has on record.
func (rt *Runtime) collect(ctx context.Context) error {
	networks := make(map[string]*attachments) // one attachment that knows the network, with the driver
	_, err := rt.eachAttachment(func(a *cni.Attachment, d cni.Driver) {
		networks[a.Network] = &attachments{d, []*cni.Attachment{a}}
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(networks)) {
		n := networks[name]
		errs = append(errs, n.Driver.Collect(ctx, n.Attachments[0], func() ([]cni.Owner, error) {
			return rt.eachAttachment(func(*cni.Attachment, cni.Driver) {})
		}))
	}
	return errors.Join(errs...)
}

// eachAttachment calls f for each attachment of all pods, also of those that are on their way in
// or out, and returns whose they are. One that cannot be read is an error: to leave it out
// would be to have it taken for garbage.
func (rt *Runtime) eachAttachment(f func(*cni.Attachment, cni.Driver)) ([]cni.Owner, error) {
	ids, err := rt.stateOwned()
	if err != nil {
		return nil, err
	}
	var owners []cni.Owner
	for _, id := range ids {
		all, err := rt.attachments(&record{ID: id, StateDir: rt.stateDir})
		if err != nil {
			return nil, err
		}
		for _, a := range all.Attachments {
			owners = append(owners, cni.Owner{Container: a.Container, Interface: a.Interface})
			f(a, all.Driver)
		}
	}
	return owners, nil
}
