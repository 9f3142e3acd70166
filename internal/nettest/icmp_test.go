package nettest

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// A version is what the tests need to know of ICMP for one version of IP.
type version struct {
	name, network, udp string
	proto              int
	echo, reply        icmp.Type
	exceeded, noPort   icmp.Type
}

var (
	icmp4 = version{
		"ICMP", "ip4:icmp", "udp4", 1,
		ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply, ipv4.ICMPTypeTimeExceeded, ipv4.ICMPTypeDestinationUnreachable,
	}
	icmp6 = version{
		"ICMPv6", "ip6:ipv6-icmp", "udp6", 58,
		ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, ipv6.ICMPTypeTimeExceeded, ipv6.ICMPTypeDestinationUnreachable,
	}
)

// of returns the node's address of a version.
func (v version) of(n *node) netip.Addr {
	if v.proto == icmp4.proto {
		return n.ip
	}
	return n.ip6
}

// raw opens a socket that hears all ICMP that comes to the node.
func (l *lab) raw(n *node, v version) *icmp.PacketConn {
	l.Helper()
	var c *icmp.PacketConn
	l.must(n.do(func() (err error) {
		c, err = icmp.ListenPacket(v.network, v.of(n).String())
		return err
	}))
	l.Cleanup(func() { c.Close() })
	return c
}

// hear returns the next message for which f is true, or says that there was none.
func hear(c *icmp.PacketConn, v version, f func(m *icmp.Message, from net.Addr) bool) error {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 2000)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		if m, err := icmp.ParseMessage(v.proto, b[:n]); err == nil && f(m, from) {
			return nil
		}
	}
}

// Pods ping the host, one another and what is far, also with the same identifier at
// the same time.
func TestEcho(t *testing.T) {
	l := newLab(t)
	server := l.machine("server")
	a, b := l.pod("a"), l.pod("b")
	for _, v := range []version{icmp4, icmp6} {
		for _, to := range []*node{server, l.router, l.host, b.node} {
			for _, from := range []*pod{a, b} {
				if from.node == to {
					continue
				}
				c := l.raw(from.node, v)
				payload := from.name + " to " + to.name
				m := icmp.Message{Type: v.echo, Body: &icmp.Echo{ID: 22, Seq: 1, Data: []byte(payload)}}
				packet, err := m.Marshal(nil)
				l.must(err)
				_, err = c.WriteTo(packet, &net.IPAddr{IP: v.of(to).AsSlice()})
				l.must(err)
				err = hear(c, v, func(m *icmp.Message, peer net.Addr) bool {
					e, is := m.Body.(*icmp.Echo)
					return is && m.Type == v.reply && e.ID == 22 && string(e.Data) == payload && peer.String() == v.of(to).String()
				})
				if err != nil {
					t.Errorf("%s: %s: no answer: %v", v.name, payload, err)
				}
			}
		}
	}
}

// Errors about what a pod has sent reach it, and are about what it has sent, by its own
// address and port: traceroute works.
func TestTraceroute(t *testing.T) {
	l := newLab(t)
	server := l.machine("server")
	a := l.pod("a")
	for _, v := range []version{icmp4, icmp6} {
		c := l.raw(a.node, v)
		nearby := map[int]string{icmp4.proto: "169.254.1.1", icmp6.proto: hostIP6}[v.proto]
		for ttl, hop := range []string{nearby, v.of(l.router).String(), v.of(server).String()} {
			ttl++
			kind := v.exceeded
			if ttl == 3 {
				kind = v.noPort
			}
			const port = 33434
			local, err := probe(a.node, v, ttl, netip.AddrPortFrom(v.of(server), port))
			l.must(err)
			var heard []string
			err = hear(c, v, func(m *icmp.Message, from net.Addr) bool {
				src, dst := about(v, m)
				heard = append(heard, fmt.Sprint(m.Type, " of ", from, " about ", src, " to ", dst))
				return m.Type == kind && from.String() == hop && src == local && dst == netip.AddrPortFrom(v.of(server), port)
			})
			if err != nil {
				t.Errorf("%s, hop %d: no %v of %s about %s: %v; heard %q", v.name, ttl, kind, hop, local, err, heard)
			}
		}
	}
}

// probe sends a packet of UDP that lives for some hops, and returns where it is from.
func probe(n *node, v version, ttl int, to netip.AddrPort) (from netip.AddrPort, err error) {
	err = n.do(func() error {
		c, err := net.DialUDP(v.udp, nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		defer c.Close()
		from = c.LocalAddr().(*net.UDPAddr).AddrPort()
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if v.proto == icmp4.proto {
			err = ipv4.NewConn(c).SetTTL(ttl)
		} else {
			err = ipv6.NewConn(c).SetHopLimit(ttl)
		}
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("probe"))
		return err
	})
	return from, err
}

// about returns the source and the destination of the packet of UDP that an error is
// about.
func about(v version, m *icmp.Message) (src, dst netip.AddrPort) {
	var data []byte
	switch body := m.Body.(type) {
	case *icmp.TimeExceeded:
		data = body.Data
	case *icmp.DstUnreach:
		data = body.Data
	case *icmp.PacketTooBig:
		data = body.Data
	}
	header, at, size := 20, 12, 4
	if v.proto == icmp6.proto {
		header, at, size = 40, 8, 16
	}
	if len(data) < header+4 {
		return src, dst
	}
	end := func(address, port int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(data[address : address+size])
		return netip.AddrPortFrom(a, uint16(data[port])<<8|uint16(data[port+1]))
	}
	return end(at, header), end(at+size, header+2)
}

// A pod that asks for a way that does not exist is told so.
func TestUnreachable(t *testing.T) {
	l := newLab(t)
	a := l.pod("a")
	l.machine("server")
	// The router has no route there.
	for _, to := range []string{"203.0.113.9:99", "[2001:db8:ffff::9]:99"} {
		if got := l.ask(a.node, "tcp", to, unreachable); got != unreachable {
			t.Errorf("to %s: %s, want %s", to, got, unreachable)
		}
	}
}
