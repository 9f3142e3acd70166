package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ForgetOthers makes the kernel forget connections to published ports that go
// elsewhere than to the pod: a sender of UDP that goes on sending would be taken to
// where its first packet went, whatever the rules say by now. Of TCP there is nothing
// to forget: each connection begins with a packet that begins one. It takes the time
// that a look at all connections of the host does, at least some milliseconds.
func ForgetOthers(p Publication) error {
	return forget(p.withoutTCP(), false)
}

// ForgetPod makes the kernel forget connections that reach the pod by these ports.
func ForgetPod(p Publication) error { return forget(p, true) }

func (p Publication) withoutTCP() Publication {
	p.Ports = slices.DeleteFunc(slices.Clone(p.Ports), func(q Port) bool { return q.WithDefaults().Protocol == TCP })
	return p
}

// forget looks at all connections of both families at once, which takes the kernel as
// long as to look at those of one, and once more only if there is any to be forgotten.
func forget(p Publication, own bool) error {
	var filters []netlink.CustomConntrackFilter
	for _, pod := range p.addrs() {
		if slices.ContainsFunc(p.Ports, func(q Port) bool { return q.WithDefaults().reaches(pod) }) {
			filters = append(filters, &flows{ports: p.Ports, pod: pod, own: own, local: make(map[netip.Addr]bool)})
		}
	}
	if len(filters) == 0 {
		return nil
	}
	return forgetMatching(unix.AF_UNSPEC, filters...)
}

// forgetMatching makes the kernel forget connections that match one of the filters. It looks
// at all connections of a family once, or of both, and a second time at those of one of which some match.
func forgetMatching(family netlink.InetFamily, filters ...netlink.CustomConntrackFilter) error {
	all, err := again(func() ([]*netlink.ConntrackFlow, error) {
		return netlink.ConntrackTableList(netlink.ConntrackTable, family)
	})
	if err != nil {
		return fmt.Errorf("look for connections: %w", err)
	}
	found := make(map[uint8]bool) // by family
	for _, flow := range all {
		for _, f := range filters {
			found[flow.FamilyType] = found[flow.FamilyType] || f.MatchConntrackFlow(flow)
		}
	}
	for family, any := range found {
		if !any {
			continue
		}
		_, err := again(func() (uint, error) {
			return netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(family), filters...)
		})
		if err != nil {
			return fmt.Errorf("forget connections: %w", err)
		}
	}
	return nil
}

// again repeats what reads the table of connections if that has changed meanwhile, but
// not for ever: then what has been read must do.
func again[T any](f func() (T, error)) (T, error) {
	for range 5 {
		if v, err := f(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return v, err
		}
	}
	v, err := f()
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		err = nil
	}
	return v, err
}

// flows matches connections to published ports: those that go to the pod, if own is
// set, or else those that do not.
type flows struct {
	ports []Port
	pod   netip.Addr
	own   bool
	local map[netip.Addr]bool // what has been asked
}

// MatchConntrackFlow is called for each connection that the kernel knows.
func (f *flows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	to, from := addrOf(flow.Forward.DstIP), addrOf(flow.Reverse.SrcIP)
	if to.Is4() != f.pod.Is4() || (from == f.pod) != f.own {
		return false
	}
	for _, p := range f.ports {
		p = p.WithDefaults()
		n := int(flow.Forward.DstPort) - int(p.HostPort)
		if flow.Forward.Protocol != p.Protocol.number() || n < 0 || n >= int(p.Count) || !sameHost(p.HostIP, to) {
			continue
		}
		if f.own {
			return flow.Reverse.SrcPort == p.Port+uint16(n)
		}
		return f.isLocal(to)
	}
	return false
}

// isLocal reports whether an address is the host's. What others have elsewhere may be
// sent to the same port.
func (f *flows) isLocal(a netip.Addr) bool {
	is, known := f.local[a]
	if !known {
		routes, err := netlink.RouteGet(a.AsSlice())
		is = err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
		f.local[a] = is
	}
	return is
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
