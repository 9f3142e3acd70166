package nettest

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

// Whoever has an address after another pod has nothing of its connections: what a machine
// outside, or another pod, still sends for them does not get in.
func TestNextHearsNothing(t *testing.T) {
	l := newLab(t)
	server, other := l.machine("server"), l.pod("other")
	fixed := sandbox.Spec{Name: "first", Network: netns.Network{
		IP: netip.MustParseAddr("10.88.0.99"), IP6: netip.MustParseAddr("fd70:6f64:626f:7800::99"),
	}}
	first := l.podOf(l.rt, fixed)
	// One socket of each who is asked: it is from there that it is sent again.
	type ends struct {
		name  string
		asked net.PacketConn
		back  net.Addr
	}
	var all []ends
	for _, n := range []*node{server, other.node} {
		for _, addrs := range [][2]string{{n.at("98"), first.at("5000")}, {n.at6("98"), first.at6("5000")}} {
			e := ends{name: n.name + " " + addrs[0], asked: l.listenPacket(n, addrs[0])}
			defer e.asked.Close()
			c := l.listenPacket(first.node, addrs[1])
			to, err := net.ResolveUDPAddr("udp", addrs[0])
			l.must(err)
			_, err = c.WriteTo([]byte("?"), to)
			l.must(err)
			e.back = heard(e.asked, patience)
			if e.back == nil {
				t.Fatalf("%s hears nothing", e.name)
			}
			// As an answer it gets in.
			_, err = e.asked.WriteTo([]byte("!"), e.back)
			l.must(err)
			if heard(c, patience) == nil {
				t.Errorf("%s is not heard as it answers", e.name)
			}
			c.Close()
			all = append(all, e)
		}
	}
	first.leave()
	l.must(first.Remove(l.Context()))
	next := fixed
	next.Name, next.Policy = "next", netns.Policy{From: []netns.Peer{}}
	p := l.podOf(l.rt, next)
	for i, addr := range []string{p.at("5000"), p.at6("5000"), p.at("5000"), p.at6("5000")} {
		e := all[i]
		c := l.listenPacket(p.node, addr)
		_, err := e.asked.WriteTo([]byte("still here"), e.back)
		l.must(err)
		if got := heard(c, 300*time.Millisecond); got != nil {
			t.Errorf("the next pod hears %s, from %v", e.name, got)
		}
		c.Close()
	}
}

// heard returns who sends something, nil if nobody does.
func heard(c net.PacketConn, patience time.Duration) net.Addr {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, from, err := c.ReadFrom(make([]byte, 100))
	if err != nil {
		return nil
	}
	return from
}
