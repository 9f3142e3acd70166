package nettest

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/netns"
)

// strangeRoute leads to addresses by a neighbour that nobody has asked.
func (l *lab) strangeRoute(n *node, to string, via *node) {
	l.Helper()
	_, dst, err := net.ParseCIDR(to)
	l.must(err)
	gateway := via.ip
	if dst.IP.To4() == nil {
		gateway = via.ip6
	}
	l.must(n.do(func() error { return netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: gateway.AsSlice()}) }))
}

// A host that does not forward does not begin to because of its pods: who sends to
// somewhere else by way of it is not served, nor who sends to a pod's address. The pods
// are, meanwhile. With the last pod all is as before.
func TestNoRouterForOthers(t *testing.T) {
	l := newLab(t)
	// A second network beside the host, on which somebody listens who would be reached.
	inner := l.node("inner", "192.0.2.130", "2001:db8:9::2")
	l.join(l.host, "192.0.2.129/30", "2001:db8:9::1/64", inner, "192.0.2.130/30", "2001:db8:9::2/64")
	l.gateway(inner, "192.0.2.129", "2001:db8:9::1")
	client := l.machine("client")
	for _, to := range []string{"192.0.2.128/30", "10.88.0.0/16", "2001:db8:9::/64", "fd70:6f64:626f:7800::/64"} {
		l.strangeRoute(l.router, to, l.host)
	}
	for _, network := range []string{"tcp", "udp"} {
		l.serve(inner, network, ":99")
		l.serve(client, network, ":99")
	}
	closed := func(when string) {
		t.Helper()
		var asked sync.WaitGroup
		defer asked.Wait()
		for _, w := range []struct {
			from *node
			to   string
		}{{client, inner.at("99")}, {client, inner.at6("99")}, {inner, client.at("99")}, {inner, client.at6("99")}} {
			for _, network := range []string{"tcp", "udp"} {
				asked.Go(func() {
					// The kernel says nothing, or that there is no way.
					got := l.ask(w.from, network, w.to, nothing)
					if got != nothing && got != unreachable {
						t.Errorf("%s: %s to %s %s: %s", when, w.from.name, network, w.to, got)
					}
				})
			}
		}
	}
	closed("before there is a pod")
	web := l.pod("web", "22080:80")
	for _, network := range []string{"tcp", "udp"} {
		l.serve(web.node, network, web.at("80"))
		l.serve(web.node, network, web.at6("80"))
	}
	pods := func(when string) {
		t.Helper()
		closed(when)
		l.reaches(client, "tcp", hostIP+":22080", "web sees "+client.ip.String())
		l.reaches(inner, "tcp", "["+hostIP6+"]:22080", "web sees "+inner.ip6.String())
		l.reaches(web.node, "udp", client.at("99"), "client sees "+hostIP)
		l.reaches(web.node, "tcp", inner.at6("99"), "inner sees 2001:db8:9::1")
		var asked sync.WaitGroup
		defer asked.Wait()
		for _, to := range []string{web.at("80"), web.at6("80")} {
			for _, network := range []string{"tcp", "udp"} {
				asked.Go(func() { l.reaches(client, network, to, nothing) })
			}
		}
	}
	pods("with a pod")
	l.must(l.rt.ReloadNetwork(l.Context()))
	pods("reloaded")
	// A link that comes later.
	late := l.node("late", "192.0.2.134", "2001:db8:a::2")
	l.join(l.host, "192.0.2.133/30", "2001:db8:a::1/64", late, "192.0.2.134/30", "2001:db8:a::2/64")
	l.gateway(late, "192.0.2.133", "2001:db8:a::1")
	l.serve(late, "tcp", ":99")
	l.must(l.rt.ReloadNetwork(l.Context()))
	l.reaches(web.node, "tcp", late.at("99"), "late sees 192.0.2.133")
	l.reaches(late, "tcp", "192.0.2.133:22080", "web sees 192.0.2.134")
	l.reaches(late, "tcp", inner.at("99"), nothing)
	pods("with one more link")

	web.leave()
	l.must(web.Remove(l.Context()))
	closed("without pods again")
	for _, link := range []string{toward(l.router), toward(inner), toward(late)} {
		for _, file := range []string{"/proc/sys/net/ipv4/conf/" + link + "/forwarding", "/proc/sys/net/ipv6/conf/" + link + "/force_forwarding"} {
			if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) != "0" {
				t.Errorf("%s is %s without pods", file, b)
			}
		}
	}
}

// A host that forwards by its owner's will goes on to, with pods and after them; and
// then who knows the way reaches pods directly.
func TestRouterByWill(t *testing.T) {
	l := newLab(t)
	l.sysctl(l.host, "net/ipv4/ip_forward", "1")
	l.sysctl(l.host, "net/ipv6/conf/all/forwarding", "1")
	inner := l.node("inner", "192.0.2.130", "2001:db8:9::2")
	l.join(l.host, "192.0.2.129/30", "2001:db8:9::1/64", inner, "192.0.2.130/30", "2001:db8:9::2/64")
	l.gateway(inner, "192.0.2.129", "2001:db8:9::1")
	client := l.machine("client")
	for _, to := range []string{"192.0.2.128/30", "10.88.0.0/16", "2001:db8:9::/64", "fd70:6f64:626f:7800::/64"} {
		l.strangeRoute(l.router, to, l.host)
	}
	l.serve(inner, "tcp", ":99")
	open := func() {
		t.Helper()
		l.reaches(client, "tcp", inner.at("99"), "inner sees "+client.ip.String())
		l.reaches(client, "tcp", inner.at6("99"), "inner sees "+client.ip6.String())
	}
	open()
	web := l.pod("web", "22080:80")
	l.serve(web.node, "tcp", ":80")
	open()
	l.reaches(client, "tcp", hostIP+":22080", "web sees "+client.ip.String())
	l.reaches(client, "tcp", web.at("80"), "web sees "+client.ip.String())
	l.reaches(client, "tcp", web.at6("80"), "web sees "+client.ip6.String())
	web.leave()
	l.must(web.Remove(l.Context()))
	open()
	for _, file := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if l.number(file) != 1 {
			t.Errorf("%s is off: it was the owner's", file)
		}
	}
}

// Nobody reaches 127.0.0.1 of the host by a pod's link or from outside, nor what is
// published there.
func TestLoopbackStaysInside(t *testing.T) {
	l := newLab(t)
	web, other := l.pod("web", "127.0.0.1:22080:80/udp"), l.pod("other")
	heard := make(chan string, 100)
	listen := func(n *node, address string) {
		c := l.listenPacket(n, address)
		go func() {
			b := make([]byte, 100)
			for {
				n2, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				heard <- n.name + " hears " + string(b[:n2]) + " from " + from.String()
			}
		}()
	}
	listen(l.host, "127.0.0.1:22053")
	listen(web.node, ":80")
	send := func(from *node, link, mac string, to netip.AddrPort, as netip.Addr) {
		t.Helper()
		l.must(from.do(func() error { return frame(link, mac, as, to, "word of "+from.name) }))
	}
	hostMAC := l.macOf(l.host, toward(l.router))
	loop := netip.MustParseAddr("127.0.0.1")
	for _, port := range []uint16{22053, 22080} {
		send(l.router, toward(l.host), hostMAC, netip.AddrPortFrom(loop, port), l.router.ip)
		send(other.node, netns.Interface, l.macOf(l.host, l.linkOf(other)), netip.AddrPortFrom(loop, port), other.ip)
		send(web.node, netns.Interface, l.macOf(l.host, l.linkOf(web)), netip.AddrPortFrom(loop, port), web.ip)
		send(web.node, netns.Interface, l.macOf(l.host, l.linkOf(web)), netip.AddrPortFrom(addr(hostIP), port), loop)
	}
	select {
	case s := <-heard:
		t.Error(s)
	case <-time.After(200 * time.Millisecond):
	}
	// The same frame to an address at which the host may be spoken to is heard: it is made
	// right.
	listen(l.host, hostIP+":22054")
	send(l.router, toward(l.host), hostMAC, netip.AddrPortFrom(addr(hostIP), 22054), l.router.ip)
	send(web.node, netns.Interface, l.macOf(l.host, l.linkOf(web)), netip.AddrPortFrom(addr(hostIP), 22054), web.ip)
	for range 2 {
		select {
		case <-heard:
		case <-time.After(patience):
			t.Error("what may be heard is not: do the frames prove anything?")
		}
	}
}

func (l *lab) linkOf(p *pod) string {
	l.Helper()
	i, err := p.Info()
	l.must(err)
	return i.Link
}

func (l *lab) macOf(n *node, link string) (mac string) {
	l.Helper()
	l.must(n.do(func() error {
		it, err := netlink.LinkByName(link)
		if err == nil {
			mac = it.Attrs().HardwareAddr.String()
		}
		return err
	}))
	return mac
}

// frame sends a datagram of UDP in a frame of Ethernet, from an address that need not
// be the sender's.
func frame(link, mac string, from netip.Addr, to netip.AddrPort, payload string) error {
	udp := append([]byte{0x56, 0x78, byte(to.Port() >> 8), byte(to.Port()), 0, 0, 0, 0}, payload...)
	udp[4], udp[5] = byte(len(udp)>>8), byte(len(udp))
	return sendIP(link, mac, unix.IPPROTO_UDP, from, to.Addr(), udp)
}

// sendIP sends a packet of IPv4 by a link, to a neighbour's hardware address, whatever
// routes and sockets would say.
func sendIP(link, mac string, protocol byte, from, to netip.Addr, payload []byte) error {
	it, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	at := &unix.SockaddrLinklayer{Protocol: 0x0008, Ifindex: it.Attrs().Index, Halen: 6} // ETH_P_IP, in the network's order
	copy(at.Addr[:], hw)
	return unix.Sendto(s, append(header(protocol, from, to, len(payload)), payload...), 0, at)
}

// header is that of a packet of IPv4.
func header(protocol byte, from, to netip.Addr, payload int) []byte {
	h := make([]byte, 20)
	h[0], h[8], h[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+payload))
	copy(h[12:], from.AsSlice())
	copy(h[16:], to.AsSlice())
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
	return h
}

// What a pod sends from an address that is not its own is heard by nobody: not by the
// host, by another pod, nor outside.
func TestForgedSource(t *testing.T) {
	l := newLab(t)
	server := l.machine("server")
	p, q := l.pod("p"), l.pod("q")
	gatewayMAC := l.macOf(l.host, l.linkOf(p))
	for _, to := range []*node{l.host, q.node, server} {
		c := l.listenPacket(to, to.at("22053"))
		for _, from := range []netip.Addr{q.ip, server.ip, l.router.ip, addr("10.88.9.9"), addr("203.0.113.9"), addr("169.254.1.1"), addr("0.0.0.0"), p.ip} {
			if from == to.ip {
				continue // which nobody takes from outside
			}
			l.must(p.do(func() error {
				return frame(netns.Interface, gatewayMAC, from, netip.AddrPortFrom(to.ip, 22053), "as "+from.String())
			}))
		}
		// What comes last, by its own address, is heard, and is all that is.
		b := make([]byte, 100)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		n, _, err := c.ReadFrom(b)
		if want := "as " + p.ip.String(); err != nil || string(b[:n]) != want {
			t.Errorf("%s hears %q, %v, want %q", to.name, b[:n], err, want)
		}
	}
}

func (l *lab) listenPacket(n *node, address string) (c net.PacketConn) {
	l.Helper()
	l.must(n.do(func() (err error) {
		c, err = net.ListenPacket("udp", address)
		return err
	}))
	l.Cleanup(func() { c.Close() })
	return c
}

// A pod that plays the router, by advertisements and redirects, is not believed.
func TestPodIsNoRouter(t *testing.T) {
	l := newLab(t)
	server := l.machine("server")
	p := l.pod("p")
	// A host that would listen to routers on any link.
	l.sysctl(l.host, "net/ipv6/conf/default/accept_ra", "2")
	q := l.pod("q")
	routes := func() string {
		var s []string
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			rs, err := netlink.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
			l.must(err)
			for _, r := range rs {
				s = append(s, r.String())
			}
		}
		slices.Sort(s) // the kernel's order changes
		for _, a := range []string{server.ip.String(), server.ip6.String()} {
			rs, err := netlink.RouteGet(addr(a).AsSlice())
			l.must(err)
			s = append(s, "to the server via "+rs[0].Gw.String())
		}
		return strings.Join(s, "\n")
	}
	l.serve(server, "udp", ":99")
	l.reaches(l.host, "udp", server.at("99"), "server sees "+hostIP)
	before := routes()
	for _, rules := range []string{"with rules", "flushed"} {
		if rules == "flushed" {
			l.nft("flush ruleset")
		}
		for _, from := range []*pod{p, q} {
			mac := l.macOf(l.host, l.linkOf(from))
			l.must(from.do(func() error {
				// By its own address, and as if it were the router that the host has.
				return errors.Join(advertise(), redirect(mac, from.ip, from.ip, server.ip), redirect(mac, l.router.ip, from.ip, server.ip))
			}))
		}
		time.Sleep(100 * time.Millisecond)
		if after := routes(); after != before {
			t.Errorf("%s, the host's routes were\n%s\nand are\n%s", rules, before, after)
		}
		l.reaches(l.host, "udp", server.at("99"), "server sees "+hostIP)
	}
}

// advertise sends a router advertisement with a life of an hour and a prefix, from an
// address of the link's own.
func advertise() error {
	eth0, err := netlink.LinkByName(netns.Interface)
	if err != nil {
		return err
	}
	own := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("fe80::666"), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
	if err := netlink.AddrReplace(eth0, own); err != nil {
		return err
	}
	c, err := icmp.ListenPacket("ip6:ipv6-icmp", "fe80::666%"+netns.Interface)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.IPv6PacketConn().SetMulticastHopLimit(255); err != nil {
		return err
	}
	if err := c.IPv6PacketConn().SetHopLimit(255); err != nil {
		return err
	}
	body := []byte{64, 0, 0x0e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0}
	prefix := append([]byte{3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0}, net.ParseIP("2001:db8:666::")...)
	m := icmp.Message{Type: ipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: append(body, prefix...)}}
	packet, err := m.Marshal(icmp.IPv6PseudoHeader(net.ParseIP("fe80::666"), net.ParseIP("ff02::1")))
	if err != nil {
		return err
	}
	for _, to := range []string{"ff02::1", netns.Gateway6.String()} {
		if _, err := c.WriteTo(packet, &net.IPAddr{IP: net.ParseIP(to), Zone: netns.Interface}); err != nil {
			return err
		}
	}
	return nil
}

// redirect tells the host, as somebody, that the way to a machine is by another.
func redirect(mac string, as, by, machine netip.Addr) error {
	about := append(header(unix.IPPROTO_UDP, addr(hostIP), machine, 8), 0, 0, 0, 99, 0, 0, 0, 0)
	m := icmp.Message{Type: ipv4.ICMPTypeRedirect, Code: 1, Body: &icmp.RawBody{Data: append(by.AsSlice(), about...)}}
	packet, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	return sendIP(netns.Interface, mac, unix.IPPROTO_ICMP, as, addr(hostIP), packet)
}
