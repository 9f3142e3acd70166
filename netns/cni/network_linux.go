package cni

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/netns"
)

// A Network is one that the administrator has described.
type Network struct {
	Name    string
	Version string // of the specification, such as 1.0.0
	File    string // in which it was found
	list    *libcni.NetworkConfigList
}

const (
	maxConf    = 1 << 20 // bytes of a file
	maxFiles   = 1000    // in a directory
	maxPlugins = 64      // of a network
)

// Plugins returns the names of the network's plugins, in the order in which they are run.
func (n *Network) Plugins() []string {
	names := make([]string, len(n.list.Plugins))
	for i, p := range n.list.Plugins {
		names[i] = p.Network.Type
	}
	return names
}

// Has reports whether a plugin of the network takes what the runtime has to say by a
// capability: portMappings, bandwidth, ips, mac, dns.
func (n *Network) Has(capability string) bool {
	return slices.ContainsFunc(n.list.Plugins, func(p *libcni.PluginConfig) bool { return p.Network.Capabilities[capability] })
}

// Find returns the network of a name, or a *NetworkError.
func (d Driver) Find(name string) (*Network, error) {
	if !netns.IsNetworkName(name) {
		return nil, fmt.Errorf("network %q: %w", name, ErrInvalid)
	}
	all, err := d.Networks()
	var known []string
	for _, n := range all {
		if n.Name == name {
			return n, nil
		}
		known = append(known, n.Name)
	}
	return nil, &NetworkError{Name: name, Dir: d.WithDefaults().ConfDir, Known: known, Err: err}
}

// Networks returns all networks, in the order of their files, as libcni has it: lists
// come first, and of two with the same name the first counts. What cannot be read is told
// of in the error; the others are returned nevertheless. No directory is no network.
func (d Driver) Networks() ([]*Network, error) {
	dir := d.WithDefaults().ConfDir
	names, err := confFiles(dir, ".conflist", ".conf", ".json")
	if err != nil {
		return nil, err
	}
	var all []*Network
	var errs []error
	for _, name := range names {
		n, err := readNetwork(filepath.Join(dir, name))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !slices.ContainsFunc(all, func(o *Network) bool { return o.Name == n.Name }) {
			all = append(all, n)
		}
	}
	return all, errors.Join(errs...)
}

// confFiles returns the names of the files of a directory with one of the extensions: those
// with the first come first.
func confFiles(dir string, extensions ...string) ([]string, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := trusted(f); err != nil {
		return nil, err
	}
	all, err := f.Readdirnames(maxFiles + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(all) > maxFiles {
		return nil, fmt.Errorf("%s: %w: more than %d files", dir, ErrInvalid, maxFiles)
	}
	order := func(name string) int { return min(slices.Index(extensions, filepath.Ext(name)), 1) }
	all = slices.DeleteFunc(all, func(name string) bool { return order(name) < 0 })
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(order(a)-order(b), strings.Compare(a, b)) })
	return all, nil
}

// trusted reports why others than root could have written a file, or put others into a
// directory: it says which programs root runs, and with what.
func trusted(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	switch {
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s: %w: belongs to user %d", f.Name(), ErrUnsafe, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s: %w: others may write to it (mode %04o)", f.Name(), ErrUnsafe, st.Mode&0o777)
	}
	return nil
}

// readTrusted reads a file that is not too large and that others could not have written.
func readTrusted(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO does not block
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s: %w: not a file", path, ErrInvalid))
	}
	if err := trusted(f); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxConf+1))
	if err == nil && len(b) > maxConf {
		err = fmt.Errorf("%s: %w: more than %d bytes", path, ErrInvalid, maxConf)
	}
	return b, err
}

func readNetwork(path string) (*Network, error) {
	b, err := readTrusted(path)
	if err != nil {
		return nil, err
	}
	n, err := parseNetwork(b, filepath.Ext(path) == ".conflist")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	n.File = path
	if n.list.LoadOnlyInlinedPlugins {
		return n, n.check()
	}
	// Version 1.1: plugins in files of their own, in a directory of the network's name,
	// follow those of the list.
	dir := filepath.Join(filepath.Dir(path), n.Name)
	names, err := confFiles(dir, ".conf")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		b, err := readTrusted(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		p, err := libcni.NetworkPluginConfFromBytes(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %w", filepath.Join(dir, name), ErrInvalid, err)
		}
		n.list.Plugins = append(n.list.Plugins, p)
	}
	if err := n.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// parseNetwork reads the description of a network: a list of plugins, or a single one, as
// it was before lists.
func parseNetwork(b []byte, list bool) (n *Network, err error) {
	n = new(Network)
	if list {
		n.list, err = libcni.NetworkConfFromBytes(b)
	} else {
		var single *libcni.PluginConfig
		if single, err = libcni.NetworkPluginConfFromBytes(b); err == nil {
			n.list, err = libcni.NetworkConfFromBytes(wrap(single))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	n.Name, n.Version = n.list.Name, n.list.CNIVersion
	if !netns.IsNetworkName(n.Name) {
		return nil, fmt.Errorf("network %q: %w: want at most %d of A-Z, a-z, 0-9, dots, - and _", n.Name, ErrInvalid, netns.MaxNetworkName)
	}
	return n, nil
}

// wrap makes a list of a single plugin.
func wrap(p *libcni.PluginConfig) []byte {
	b, err := json.Marshal(map[string]any{
		"name": p.Network.Name, "cniVersion": p.Network.CNIVersion, "loadOnlyInlinedPlugins": true,
		"plugins": []json.RawMessage{p.Bytes},
	})
	if err != nil {
		panic("cni: " + err.Error()) // it was JSON before
	}
	return b
}

// check reports what would go wrong only when a plugin has been run.
func (n *Network) check() error {
	if newer, err := version.GreaterThan(n.Version, version.Current()); err != nil || newer {
		return fmt.Errorf("network %s: %w: version %q, known are those up to %s", n.Name, ErrInvalid, n.Version, version.Current())
	}
	if len(n.list.Plugins) == 0 || len(n.list.Plugins) > maxPlugins {
		return fmt.Errorf("network %s: %w: %d plugins, want 1 to %d", n.Name, ErrInvalid, len(n.list.Plugins), maxPlugins)
	}
	for _, p := range n.list.Plugins {
		if !isPluginName(p.Network.Type) {
			return fmt.Errorf("network %s: plugin %q: %w: want the name of a program", n.Name, p.Network.Type, ErrInvalid)
		}
	}
	return nil
}

func isPluginName(s string) bool {
	return s != "" && len(s) <= 255 && s != "." && s != ".." && !strings.ContainsAny(s, "/\x00")
}

// bytes returns the description, whole: nothing is in other files any more.
func (n *Network) bytes() ([]byte, error) {
	plugins := make([]json.RawMessage, len(n.list.Plugins))
	for i, p := range n.list.Plugins {
		plugins[i] = p.Bytes
	}
	return json.Marshal(map[string]any{
		"name": n.Name, "cniVersion": n.Version, "loadOnlyInlinedPlugins": true, "plugins": plugins,
		"disableCheck": n.list.DisableCheck, "disableGC": n.list.DisableGC,
	})
}
