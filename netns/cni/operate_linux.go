package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/podbox/podbox/internal/flock"
)

// Attach returns what connects an interface of a container to the network; it runs no plugin.
// A request that the network cannot fulfil matches ErrNotSupported.
func (n *Network) Attach(container, iface string, want Request) (*Attachment, error) {
	known, args, err := want.capabilities(n.Has)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	with := *n
	if len(args) > 0 {
		if with, err = n.withArgs(args); err != nil {
			return nil, fmt.Errorf("network %s: %w", n.Name, err)
		}
	}
	config, err := with.bytes()
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	a := &Attachment{Container: container, Network: n.Name, Interface: iface, Config: config}
	if len(known) > 0 {
		a.Capabilities = known
	}
	return a, a.Validate(container)
}

// withArgs returns the network with values in "args": {"cni": …} of each plugin; see
// CONVENTIONS.md of CNI. Plugins take from there what they know and pass over the rest.
func (n *Network) withArgs(values map[string]any) (Network, error) {
	with := *n
	list := *n.list
	with.list, list.Plugins = &list, slices.Clone(list.Plugins)
	for i, p := range list.Plugins {
		var has struct {
			Args map[string]json.RawMessage `json:"args"`
		}
		if err := json.Unmarshal(p.Bytes, &has); err != nil {
			return with, fmt.Errorf("args: %w: %w", ErrInvalid, err)
		}
		cni := map[string]any{}
		if old := has.Args["cni"]; old != nil {
			if err := json.Unmarshal(old, &cni); err != nil {
				return with, fmt.Errorf("args of plugin %s: %w: %w", p.Network.Type, ErrInvalid, err)
			}
		}
		maps.Copy(cni, values)
		args := map[string]any{"cni": cni}
		for k, v := range has.Args {
			if k != "cni" {
				args[k] = v
			}
		}
		var err error
		if list.Plugins[i], err = libcni.InjectConf(p, map[string]any{"args": args}); err != nil {
			return with, err
		}
	}
	return with, nil
}

// Missing returns a *MissingError for the first plugin of the network whose program is not
// there, or an error that matches ErrUnsafe for one that others may write to. Programs that
// plugins run in their turn, such as for the management of addresses, are
// not known; but one named in "ipam", as is the custom, is looked for too.
func (d Driver) Missing(n *Network) error {
	r := d.runner()
	for _, p := range n.list.Plugins {
		if _, err := r.FindInPath(p.Network.Type, d.WithDefaults().PluginDirs); err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
		if ipam := p.Network.IPAM.Type; ipam != "" {
			if _, err := r.FindInPath(ipam, d.WithDefaults().PluginDirs); err != nil {
				return fmt.Errorf("network %s: %w", n.Name, err)
			}
		}
	}
	return nil
}

// operation is what all operations on an attachment need.
type operation struct {
	lib    *libcni.CNIConfig
	list   *libcni.NetworkConfigList
	rt     *libcni.RuntimeConf
	ctx    context.Context
	cancel context.CancelFunc
}

func (d Driver) operation(ctx context.Context, a *Attachment, path string, r *runner) (*operation, error) {
	d = d.WithDefaults()
	n, err := parseNetwork(a.Config, true)
	if err == nil {
		err = n.check()
	}
	if err == nil && n.Name != a.Network {
		err = fmt.Errorf("configuration of network %q: %w", n.Name, ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	o := &operation{
		lib:  libcni.NewCNIConfigWithCacheDir(d.PluginDirs, d.CacheDir, r),
		list: n.list,
		rt: &libcni.RuntimeConf{
			ContainerID: a.Container, NetNS: path, IfName: a.Interface, CapabilityArgs: a.Capabilities,
		},
	}
	o.ctx, o.cancel = d.bound(ctx)
	return o, nil
}

// bound returns a context that ends with ctx, and after the time for one operation.
func (d Driver) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d.Time, fmt.Errorf("not done after %v: %w", d.Time, context.DeadlineExceeded))
}

// explain adds to an error of libcni, which may not wrap its cause, that the time was over.
func (o *operation) explain(verb string, a *Attachment, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(o.ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return fmt.Errorf(verb+" network %s: %w", a.Interface, a.Network, err)
}

// Add runs the plugins of an attachment, and notes their result in it. path is a file that
// is the container's network namespace. After an error Delete has to be called.
func (d Driver) Add(ctx context.Context, a *Attachment, path string) error {
	lock, err := d.lock(ctx, flock.Shared)
	if err != nil {
		return fmt.Errorf("add %s to network %s: %w", a.Interface, a.Network, err)
	}
	defer lock.Close()
	o, err := d.operation(ctx, a, path, d.runner())
	if err != nil {
		return fmt.Errorf("add %s to network %s: %w", a.Interface, a.Network, err)
	}
	defer o.cancel()
	result, err := o.lib.AddNetworkList(o.ctx, o.list, o.rt)
	if err == nil {
		a.Result, err = believe(a, result)
	}
	return o.explain("add %s to", a, err)
}

// Delete runs the plugins of an attachment to undo what Add has done, also if that was
// not all. path is empty if the network namespace is gone. It may be
// repeated, and what is not there is no error.
//
// A plugin whose program is gone is a *MissingError; with force the others are run
// nevertheless, and left tells of those that are not.
func (d Driver) Delete(ctx context.Context, a *Attachment, path string, force bool) (left []error, err error) {
	r := d.runner()
	o, err := d.operation(ctx, a, path, r)
	if err != nil {
		return nil, fmt.Errorf("delete %s from network %s: %w", a.Interface, a.Network, err)
	}
	defer o.cancel()
	if force {
		o.list.Plugins = slices.DeleteFunc(o.list.Plugins, func(p *libcni.PluginConfig) bool {
			_, err := r.FindInPath(p.Network.Type, d.WithDefaults().PluginDirs)
			if errors.Is(err, ErrNoPlugin) {
				left = append(left, err)
				return true
			}
			return false
		})
	}
	return left, o.explain("delete %s from", a, o.lib.DelNetworkList(o.ctx, o.list, o.rt))
}

// Check has the plugins of an attachment look whether it is still what Add made of it. It does
// nothing below version 0.4.0, which has no such operation.
func (d Driver) Check(ctx context.Context, a *Attachment, path string) error {
	o, err := d.operation(ctx, a, path, d.runner())
	if err != nil {
		return fmt.Errorf("check %s of network %s: %w", a.Interface, a.Network, err)
	}
	defer o.cancel()
	if has, err := version.GreaterThanOrEqualTo(o.list.CNIVersion, "0.4.0"); err != nil || !has {
		return err
	}
	return o.explain("check %s of", a, o.lib.CheckNetworkList(o.ctx, o.list, o.rt))
}

// Status asks the plugins of a network whether they could add an attachment now, and, of all
// versions, whether they know the network's. Only since version 1.1.0 can they say no.
func (d Driver) Status(ctx context.Context, n *Network) error {
	d = d.WithDefaults()
	ctx, cancel := d.bound(ctx)
	defer cancel()
	if err := d.Missing(n); err != nil {
		return err
	}
	lib := libcni.NewCNIConfigWithCacheDir(d.PluginDirs, d.CacheDir, d.runner())
	_, err := lib.ValidateNetworkList(ctx, n.list)
	if err == nil {
		err = lib.GetStatusNetworkList(ctx, n.list)
	}
	if err != nil {
		return fmt.Errorf("status of network %s: %w", n.Name, err)
	}
	return nil
}

// An Owner is an interface of a container.
type Owner struct{ Container, Interface string }

// lock locks the cache: shared by who adds, until what was added is in there, exclusively by who
// collects what is not. So nobody's addition is taken for garbage who shares the cache and
// keeps to this, as all that use this package do. It waits no longer than one operation takes.
func (d Driver) lock(ctx context.Context, how int) (*flock.Lock, error) {
	ctx, cancel := d.WithDefaults().bound(ctx)
	defer cancel()
	dir := d.WithDefaults().CacheDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(dir) // an administrator may have moved it
	if err != nil {
		return nil, err
	}
	lock, err := flock.Wait(ctx, dir, how)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("lock %s: %w", dir, cause)
	}
	return lock, err
}

// Collect tells the plugins of a network, as an attachment to it has them, which attachments
// there are: those that theirs returns, which is called when nobody adds, and all that are in
// the cache. They clear away what belongs to none. It does nothing below version 1.1.0, which
// has no such operation, nor if others add for as long as one operation may take: garbage keeps
// until somebody else collects it.
func (d Driver) Collect(ctx context.Context, a *Attachment, theirs func() ([]Owner, error)) error {
	o, err := d.operation(ctx, a, "", d.runner())
	if err != nil {
		return fmt.Errorf("garbage of network %s: %w", a.Network, err)
	}
	defer o.cancel()
	if has, err := version.GreaterThanOrEqualTo(o.list.CNIVersion, "1.1.0"); err != nil || !has || o.list.DisableGC {
		return err
	}
	lock, err := d.lock(ctx, flock.Exclusive)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("garbage of network %s: %w", a.Network, err)
	}
	defer lock.Close()
	owners, err := theirs()
	if err != nil {
		return fmt.Errorf("garbage of network %s: %w", a.Network, err)
	}
	// What others have attached is not garbage: a network may have several runtimes.
	cached, err := o.lib.GetCachedAttachments("")
	if err != nil {
		return fmt.Errorf("garbage of network %s: %w", a.Network, err)
	}
	valid := []types.GCAttachment{}
	for _, v := range owners {
		valid = append(valid, types.GCAttachment{ContainerID: v.Container, IfName: v.Interface})
	}
	for _, c := range cached {
		if v := (types.GCAttachment{ContainerID: c.ContainerID, IfName: c.IfName}); c.Network == a.Network && !slices.Contains(valid, v) {
			valid = append(valid, v)
		}
	}
	if err := o.lib.GCNetworkList(o.ctx, o.list, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
		return fmt.Errorf("garbage of network %s: %w", a.Network, err)
	}
	return nil
}

// believe takes of a result what is used.
func believe(a *Attachment, answer types.Result) (*Result, error) {
	r := &Result{Network: a.Network, Interface: a.Interface}
	if answer == nil {
		return r, nil
	}
	res, err := current.NewResultFromResult(answer)
	if err != nil {
		return nil, fmt.Errorf("result: %w: %w", ErrInvalid, err)
	}
	inside := -1
	for i, link := range res.Interfaces {
		// A plugin may tell of links at the host's side, and of others beside ours.
		if link != nil && link.Sandbox != "" && link.Name == a.Interface {
			inside = i
			r.MAC, r.MTU = link.Mac, link.Mtu
		}
	}
	for _, ip := range res.IPs {
		if ip == nil || ip.Interface != nil && inside >= 0 && *ip.Interface != inside {
			continue
		}
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		ones, bits := ip.Address.Mask.Size()
		if addr = addr.Unmap(); !ok || bits != addr.BitLen() {
			return nil, fmt.Errorf("result: address %s: %w", ip.Address.String(), ErrInvalid)
		}
		if addr.IsLoopback() {
			continue
		}
		gateway, _ := netip.AddrFromSlice(ip.Gateway)
		r.IPs = append(r.IPs, IP{netip.PrefixFrom(addr, ones), gateway.Unmap()})
		if len(r.IPs) > maxIPs {
			break // Validate complains
		}
	}
	for _, s := range res.DNS.Nameservers {
		server, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("result: DNS server %q: %w", s, ErrInvalid)
		}
		r.DNS.Servers = append(r.DNS.Servers, server)
	}
	r.DNS.Search, r.DNS.Options = res.DNS.Search, res.DNS.Options
	if d := res.DNS.Domain; d != "" && !slices.Contains(r.DNS.Search, d) {
		r.DNS.Search = append(r.DNS.Search, d)
	}
	return r, r.Validate()
}
