package nettest

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

// What is for an address of pods that no pod has does not leave the host, though there is
// somebody outside who would have it: whether a pod sends it, the host, or, where the host is
// a router, a machine outside. What the host routes to others all the same, narrower ranges or
// as wide, they get. With the last pod all is as before.
func TestUnassigned(t *testing.T) {
	l := newLab(t)
	l.sysctl(l.host, "net/ipv4/ip_forward", "1")
	l.sysctl(l.host, "net/ipv6/conf/all/forwarding", "1")
	const free, free6, part, part6 = "10.88.7.7", "fd70:6f64:626f:7800::7:7", "10.88.7.0/24", "fd70:6f64:626f:7800::7:0/112"
	l.address(l.router, toward(l.host), free+"/32", free6+"/128")
	l.serve(l.router, "tcp", ":99")
	client := l.machine("client")
	for _, to := range []string{netns.DefaultRange.String(), netns.DefaultRange6.String()} {
		l.strangeRoute(l.router, to, l.host)
	}
	all := func(from *node, want, want6 string) {
		t.Helper()
		l.reaches(from, "tcp", net.JoinHostPort(free, "99"), want)
		l.reaches(from, "tcp", net.JoinHostPort(free6, "99"), want6)
	}
	open := func(from *node) {
		t.Helper()
		all(from, "router sees "+hostIP, "router sees "+hostIP6)
	}
	shut := func(from *node) {
		t.Helper()
		all(from, unreachable, unreachable)
	}
	open(l.host)
	a := l.pod("a")
	shut(l.host)
	shut(a.node) // not more often: the host sends an address five such errors, and then one a second
	// Of another address, for this one the router keeps to itself.
	l.reaches(client, "tcp", "10.88.7.8:99", unreachable)
	l.reaches(client, "tcp", "[fd70:6f64:626f:7800::7:8]:99", unreachable)

	for _, routes := range [][]string{{part, part6}, {netns.DefaultRange.String(), netns.DefaultRange6.String()}} {
		for _, to := range routes {
			l.strangeRoute(l.host, to, l.router)
		}
		open(l.host)
		open(a.node)
		l.must(l.rt.ReloadNetwork(l.Context()))
		open(a.node)
		for _, to := range routes {
			_, dst, err := net.ParseCIDR(to)
			l.must(err)
			gateway := map[bool]string{true: routerIP, false: routerIP6}[dst.IP.To4() != nil]
			l.must(netlink.RouteDel(&netlink.Route{Dst: dst, Gw: net.ParseIP(gateway)}))
		}
		shut(l.host)
	}

	// Another installation has the same range and one of its own.
	second := l.installation()
	same := l.podOf(second, sandbox.Spec{Name: "same"})
	own := l.podOf(second, sandbox.Spec{Name: "own", Network: netns.Network{
		Range: netip.MustParsePrefix("10.99.0.0/24"), Range6: netip.MustParsePrefix("fd99::/64"),
	}})
	l.reaches(l.host, "tcp", "10.99.0.77:99", unreachable)
	l.reaches(l.host, "tcp", "[fd99::77]:99", unreachable)
	same.leave()
	l.must(same.Remove(l.Context()))
	own.leave()
	l.must(own.Remove(l.Context()))
	shut(l.host)
	if n := len(unreachableRoutes(l)); n != 2 {
		t.Errorf("%d routes to nowhere, want those of one installation, of IPv4 and IPv6", n)
	}

	// Others take the routes away.
	for _, r := range unreachableRoutes(l) {
		l.must(netlink.RouteDel(&r))
	}
	open(a.node)
	l.must(l.rt.ReloadNetwork(l.Context()))
	shut(l.host)

	a.leave()
	l.must(a.Remove(l.Context()))
	open(l.host)
	if left := unreachableRoutes(l); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func unreachableRoutes(l *lab) []netlink.Route {
	l.Helper()
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: 'p'}, netlink.RT_FILTER_PROTOCOL)
		l.must(err)
		all = append(all, routes...)
	}
	return all
}
