package nettest

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A host on which IPv6 is turned off has pods of IPv4.
func TestHostWithoutIPv6(t *testing.T) {
	l := newLab(t)
	client := l.machine("client")
	l.sysctl(l.host, "net/ipv6/conf/all/disable_ipv6", "1")
	l.sysctl(l.host, "net/ipv6/conf/default/disable_ipv6", "1")
	a, b := l.pod("a", "22080:80", "0.0.0.0:22081:80"), l.pod("b")
	if a.ip6.IsValid() {
		t.Errorf("the pod has %s", a.ip6)
	}
	l.serve(a.node, "tcp", ":80")
	l.serve(client, "tcp", ":99")
	l.reaches(client, "tcp", hostIP+":22080", "a sees "+client.ip.String())
	l.reaches(client, "tcp", hostIP+":22081", "a sees "+client.ip.String())
	l.reaches(l.host, "tcp", "127.0.0.1:22080", "a sees 169.254.1.1")
	l.reaches(b.node, "tcp", a.at("80"), "a sees "+b.ip.String())
	l.reaches(a.node, "tcp", hostIP+":22080", "a sees 169.254.1.1")
	l.reaches(a.node, "tcp", client.at("99"), "client sees "+hostIP)
	if err := a.Publish(l.Context(), l.ports("[::]:22082:80")...); err == nil {
		t.Error("a port of IPv6 is published for a pod that has no such address")
	}
	l.must(l.rt.ReloadNetwork(l.Context()))
	l.reaches(client, "tcp", hostIP+":22080", "a sees "+client.ip.String())
}

// A host that has no IPv4 but on its loopback link is reached, and reaches, by IPv6.
func TestHostWithoutIPv4(t *testing.T) {
	l := newLab(t)
	client := l.machine("client")
	up, err := netlink.LinkByName(toward(l.router))
	l.must(err)
	addrs, err := netlink.AddrList(up, netlink.FAMILY_V4)
	l.must(err)
	for _, a := range addrs {
		// With the first of a network the others go.
		if err := netlink.AddrDel(up, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Fatal(err)
		}
	}
	l.setMTU(l.host, l.router, 1400) // that of the link of IPv6's default route counts
	a, b := l.pod("a", "22080:80"), l.pod("b")
	l.serve(a.node, "tcp", ":80")
	l.serve(client, "tcp", ":99")
	l.reaches(client, "tcp", "["+hostIP6+"]:22080", "a sees "+client.ip6.String())
	l.reaches(l.host, "tcp", "["+hostIP6+"]:22080", "a sees "+hostIP6)
	l.reaches(l.host, "tcp", "127.0.0.1:22080", "a sees 169.254.1.1")
	l.reaches(b.node, "tcp", "["+hostIP6+"]:22080", "a sees "+b.ip6.String())
	l.reaches(b.node, "tcp", "169.254.1.1:22080", "a sees "+b.ip.String())
	l.reaches(a.node, "tcp", "["+hostIP6+"]:22080", "a sees fe80::1")
	l.reaches(a.node, "tcp", client.at6("99"), "client sees "+hostIP6)
	l.reaches(a.node, "tcp", client.at("99"), unreachable)
	l.must(a.do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err == nil && link.Attrs().MTU != 1400 {
			t.Errorf("the pod's MTU is %d, want 1400", link.Attrs().MTU)
		}
		return err
	}))
}
