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

// ForgetLast is ForgetPod for a pod whose link is gone: with it connections of TCP end
// by themselves.
func ForgetLast(p Publication) error { return forget(p.withoutTCP(), true) }

func (p Publication) withoutTCP() Publication {
	p.Ports = slices.DeleteFunc(slices.Clone(p.Ports), func(q Port) bool { return q.WithDefaults().Protocol == TCP })
	return p
}

func forget(p Publication, own bool) error {
	for family, pod := range p.addrs() {
		if !slices.ContainsFunc(p.Ports, func(q Port) bool { return q.WithDefaults().reaches(pod) }) {
			continue
		}
		inet := netlink.InetFamily(unix.AF_INET)
		if family == "6" {
			inet = unix.AF_INET6
		}
		f := &flows{ports: p.Ports, pod: pod, own: own, local: make(map[netip.Addr]bool)}
		var err error
		for range 5 { // the table changes while it is read
			if _, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, inet, f); !errors.Is(err, netlink.ErrDumpInterrupted) {
				break
			}
		}
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("forget connections to %s: %w", pod, err)
		}
	}
	return nil
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
	if (from == f.pod) != f.own {
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
