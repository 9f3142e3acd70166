package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/podbox/podbox/netns"
)

// resolvers is what matters of a resolv.conf(5).
type resolvers struct {
	servers []string
	search  []string
	options []string
}

// resolvFiles are where a host has its resolvers. One on the host's loopback cannot be
// reached from a pod; where systemd-resolved puts one into the first file, it keeps the
// real ones in the second.
var resolvFiles = [...]string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// maxResolv limits, in bytes, what is taken of the host's resolv.conf(5).
const maxResolv = 64 << 10

// resolversFor returns what a pod has if it is given nothing: what its CNI networks tell, or,
// if these tell of no server, what the host has.
func resolversFor(rec *record) resolvers {
	var r resolvers
	for _, n := range rec.Networks {
		for _, a := range n.DNS.Servers {
			r.servers = union(r.servers, []string{a.String()})
		}
		r.search, r.options = union(r.search, n.DNS.Search), union(r.options, n.DNS.Options)
	}
	if len(r.servers) == 0 {
		return hostResolvers(rec.Spec.Network.Mode == netns.ModeHost)
	}
	return r
}

// hostResolvers returns what the host has, for a pod that reaches the host's loopback
// or not.
func hostResolvers(loopback bool) resolvers { return readResolvers(resolvFiles[:], loopback) }

// readResolvers reads files until one has a server that can be reached.
func readResolvers(paths []string, loopback bool) resolvers {
	var last resolvers
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(f, maxResolv))
		f.Close()
		if err != nil {
			continue
		}
		last = parseResolvConf(b, loopback)
		if len(last.servers) > 0 {
			break
		}
	}
	return last
}

// parseResolvConf leaves out servers that cannot be reached from a pod: those on the
// host's loopback, unless that is the pod's too, and those of a link of the host's.
func parseResolvConf(b []byte, loopback bool) resolvers {
	var r resolvers
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) < 2 {
			continue
		}
		switch w[0] {
		case "nameserver":
			a, err := netip.ParseAddr(w[1])
			ofLink := a.Is6() && a.IsLinkLocalUnicast() || a.Zone() != ""
			if err == nil && (loopback || !a.Unmap().IsLoopback() && !ofLink) {
				r.servers = append(r.servers, w[1])
			}
		case "search": // of several lines the last counts
			r.search = w[1:]
		case "domain":
			r.search = w[1:2]
		case "options":
			r.options = append(r.options, w[1:]...)
		}
	}
	return r
}

// CheckResolvers tells whether pods find a resolver of the host's that they can reach,
// and if not, why. Those that are given others (Spec.DNS) need none.
func CheckResolvers() error {
	if len(hostResolvers(false).servers) > 0 {
		return nil
	}
	if local := hostResolvers(true).servers; len(local) > 0 {
		return fmt.Errorf("pods do not reach the host's resolvers, which are on its loopback or a link: %s", strings.Join(local, ", "))
	}
	return fmt.Errorf("no nameserver in %s", resolvFiles[0])
}

// mixed returns what a pod has of what is given to it and what the host has.
func (d *DNS) mixed(host resolvers) resolvers {
	given := resolvers{search: d.Search, options: d.Options}
	for _, a := range d.Servers {
		given.servers = append(given.servers, a.String())
	}
	switch {
	case d.Only:
		return given
	case d.Merge:
		given.servers = union(host.servers, given.servers)
		given.search = union(host.search, given.search)
	}
	if len(given.servers) == 0 {
		given.servers = host.servers
	}
	if len(given.search) == 0 {
		given.search = host.search
	}
	kept := slices.DeleteFunc(slices.Clone(host.options), func(o string) bool {
		return slices.ContainsFunc(d.Options, func(given string) bool { return optionName(given) == optionName(o) })
	})
	given.options = append(kept, given.options...)
	return given
}

// union returns the elements of a and then those of b, each once.
func union(a, b []string) []string {
	var all []string
	for _, s := range slices.Concat(a, b) {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// optionName returns what an option of resolv.conf(5) is about.
func optionName(o string) string {
	name, _, _ := strings.Cut(o, ":")
	return name
}

func resolvConf(s *Spec, host resolvers) []byte {
	r := s.DNS.mixed(host)
	var b bytes.Buffer
	if len(r.search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.search, " "))
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	for _, a := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(r.servers) == 0 && !s.DNS.Only {
		b.WriteString("# the host has no resolver that a pod can reach\n")
	}
	return b.Bytes()
}
