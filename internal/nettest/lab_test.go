// Package nettest tries pods' network with what is outside a host: a router, and
// behind it machines on networks of their own. All of them are network namespaces of
// the test, as is the host itself; no packet leaves the machine.
//
//	pods == host --- router -+- machine
//	                         +- machine
//
// A test lays out a lab, makes pods and machines, has some of them serve, and says who
// reaches whom:
//
//	l := newLab(t)
//	client := l.machine("client")
//	web := l.pod("web", "22080:80")
//	l.serve(web.node, "tcp", ":80")
//	l.reaches(client, "tcp", "192.0.2.2:22080", "web sees 198.51.100.2")
//
// With -full the tests take their long forms, as make test-net does.
package nettest

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

var full = flag.Bool("full", false, "run the long forms of the tests")

func TestMain(m *testing.M) {
	if name := os.Getenv(memberEnv); name != "" {
		os.Exit(serveAsMember(name))
	}
	testenv.Private()
	flag.Parse()
	os.Exit(m.Run())
}

// The addresses of a lab are those that are set apart for documentation: RFC 5737 and
// 3849. The host has two of IPv4.
const (
	hostIP      = "192.0.2.2"
	hostIPOther = "192.0.2.3"
	hostIP6     = "2001:db8::2"
	routerIP    = "192.0.2.1"
	routerIP6   = "2001:db8::1"
)

// A lab is a host with an uplink to a router, and an installation of podbox on it.
type lab struct {
	*testing.T
	rt           *sandbox.Runtime
	host, router *node
	machines     int
}

// newLab lays out the host and the router. The host is no router itself; the namespace
// has what it does from that of the machine.
func newLab(t *testing.T) *lab {
	t.Helper()
	testenv.NeedRoot(t)
	l := &lab{T: t, host: &node{name: "host", ip: addr(hostIP), ip6: addr(hostIP6)}}
	l.sysctl(l.host, "net/ipv4/ip_forward", "0")
	l.sysctl(l.host, "net/ipv6/conf/all/forwarding", "0")
	l.sysctl(l.host, "net/ipv4/conf/all/rp_filter", "0")
	l.sysctl(l.host, "net/ipv4/conf/default/rp_filter", "0")
	// The tests before have used up what errors the host sends to an address in a second.
	l.sysctl(l.host, "net/ipv4/icmp_ratemask", "0")
	// And their clients had the same addresses: what the host knows of connections is of
	// others that have gone.
	l.must(netlink.ConntrackTableFlush(netlink.ConntrackTable))
	l.router = l.node("router", routerIP, routerIP6)
	l.sysctl(l.router, "net/ipv4/ip_forward", "1")
	l.sysctl(l.router, "net/ipv6/conf/all/forwarding", "1")
	l.join(l.host, hostIP+"/24", hostIP6+"/64", l.router, routerIP+"/24", routerIP6+"/64")
	l.address(l.host, toward(l.router), hostIPOther+"/24")
	l.gateway(l.host, routerIP, routerIP6)
	l.rt = l.installation()
	return l
}

// installation opens a runtime in a directory of its own.
func (l *lab) installation() *sandbox.Runtime {
	l.Helper()
	root := l.TempDir()
	l.must(os.Chmod(root, 0o700))
	rt, err := sandbox.Open(sandbox.Options{Root: root})
	l.must(err)
	l.Cleanup(func() { rt.Close() })
	return rt
}

// machine adds a machine behind the router, on a network of its own.
func (l *lab) machine(name string) *node {
	l.Helper()
	l.machines++
	// 198.51.100.0/24 is cut into networks of 16 addresses.
	v4 := func(host int) string { return fmt.Sprintf("198.51.100.%d", (l.machines-1)*16+host) }
	v6 := func(host int) string { return fmt.Sprintf("2001:db8:%x::%x", l.machines, host) }
	m := l.node(name, v4(2), v6(2))
	l.join(l.router, v4(1)+"/28", v6(1)+"/64", m, v4(2)+"/28", v6(2)+"/64")
	l.gateway(m, v4(1), v6(1))
	return m
}

// node makes a namespace for somebody who is not the host.
func (l *lab) node(name, ip, ip6 string) *node {
	l.Helper()
	ns, err := netns.Create()
	l.must(err)
	l.Cleanup(func() { ns.Close() })
	return &node{name: name, ns: ns, ip: addr(ip), ip6: addr(ip6)}
}

// toward is the name of the link that a node has to another.
func toward(n *node) string { return "to-" + n.name }

// join lays a link between two nodes, the second of which is not the host.
func (l *lab) join(a *node, a4, a6 string, b *node, b4, b6 string) {
	l.Helper()
	// The links' own addresses of IPv6 shall not first be looked for on them.
	l.sysctl(a, "net/ipv6/conf/default/accept_dad", "0")
	l.sysctl(b, "net/ipv6/conf/default/accept_dad", "0")
	l.must(a.do(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: toward(b)}, PeerName: toward(a), PeerNamespace: netlink.NsFd(b.ns.File().Fd()),
		})
	}))
	// With a namespace its links go, but later.
	l.Cleanup(func() { l.must(a.do(func() error { return dropLink(toward(b)) })) })
	l.address(a, toward(b), a4, a6)
	l.address(b, toward(a), b4, b6)
	l.must(errors.Join(a.do(func() error { return awaitCarrier(toward(b)) }), b.do(func() error { return awaitCarrier(toward(a)) })))
}

// setMTU sets that of the link between two nodes, at both ends.
func (l *lab) setMTU(a, b *node, mtu int) {
	l.Helper()
	set := func(n *node, link string) error {
		return n.do(func() error {
			it, err := netlink.LinkByName(link)
			if err != nil {
				return err
			}
			return netlink.LinkSetMTU(it, mtu)
		})
	}
	l.must(errors.Join(set(a, toward(b)), set(b, toward(a))))
}

// address gives a link of a node addresses, and sets it up.
func (l *lab) address(n *node, link string, addrs ...string) {
	l.Helper()
	l.must(n.do(func() error {
		it, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		for _, s := range addrs {
			a, err := netlink.ParseAddr(s)
			if err != nil {
				return err
			}
			if a.IP.To4() == nil {
				a.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(it, a); err != nil {
				return fmt.Errorf("address %s on %s of %s: %w", s, link, n.name, err)
			}
		}
		return netlink.LinkSetUp(it)
	}))
}

// gateway gives a node default routes.
func (l *lab) gateway(n *node, via ...string) {
	l.Helper()
	for _, v := range via {
		l.must(n.do(func() error { return netlink.RouteAdd(&netlink.Route{Gw: addr(v).AsSlice()}) }))
	}
}

// sysctl sets a kernel parameter of a node for the life of the test.
func (l *lab) sysctl(n *node, name, value string) {
	l.Helper()
	// Not /proc/self: that is the main thread.
	path := "/proc/sys/" + name
	l.must(n.do(func() error {
		was, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n.ns == nil {
			l.Cleanup(func() { _ = os.WriteFile(path, was, 0) })
		}
		return os.WriteFile(path, []byte(value), 0)
	}))
}

// number reads a kernel parameter of the host.
func (l *lab) number(name string) int {
	l.Helper()
	b, err := os.ReadFile("/proc/sys/" + name)
	l.must(err)
	n, err := strconv.Atoi(string(b[:len(b)-1]))
	l.must(err)
	return n
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
