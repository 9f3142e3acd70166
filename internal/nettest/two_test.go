package nettest

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

// Two installations share a host, with ranges of their own: their pods reach one another
// and what is outside, neither takes the other's ports, and what one does to its rules,
// or that it ends, changes nothing for the other.
func TestTwoInstallations(t *testing.T) {
	l := newLab(t)
	client, server := l.machine("client"), l.machine("server")
	second := l.installation()
	network := netns.Network{Range: netip.MustParsePrefix("10.99.0.0/24"), Range6: netip.MustParsePrefix("fd99::/64")}
	a := l.pod("a", "22080:80")
	b := l.podOf(second, sandbox.Spec{Name: "b", Network: network, Ports: l.ports("22081:80")})
	l.serve(a.node, "tcp", ":80")
	l.serve(b.node, "tcp", ":80")
	l.serve(server, "tcp", ":99")
	ofA := func(when string) {
		t.Helper()
		l.reaches(client, "tcp", hostIP+":22080", "a sees "+client.ip.String())
		l.reaches(client, "tcp", "["+hostIP6+"]:22080", "a sees "+client.ip6.String())
		l.reaches(l.host, "tcp", "127.0.0.1:22080", "a sees 169.254.1.1")
		l.reaches(a.node, "tcp", hostIP+":22080", "a sees 169.254.1.1")
		l.reaches(a.node, "tcp", server.at("99"), "server sees "+hostIP)
		l.reaches(a.node, "tcp", server.at6("99"), "server sees "+hostIP6)
		if t.Failed() {
			t.Fatal(when)
		}
	}
	both := func(when string) {
		t.Helper()
		ofA(when)
		l.reaches(client, "tcp", hostIP+":22081", "b sees "+client.ip.String())
		l.reaches(l.host, "tcp", "127.0.0.1:22081", "b sees 169.254.1.1")
		l.reaches(a.node, "tcp", b.at("80"), "b sees "+a.ip.String())
		l.reaches(b.node, "tcp", a.at6("80"), "a sees "+b.ip6.String())
		l.reaches(b.node, "tcp", hostIP+":22080", "a sees "+b.ip.String())
		l.reaches(b.node, "tcp", server.at("99"), "server sees "+hostIP)
		if t.Failed() {
			t.Fatal(when)
		}
	}
	both("at first")
	for _, w := range []struct {
		p    *pod
		form string
	}{{a, "22081:81"}, {b, "22080:81"}, {b, "127.0.0.1:22080:81"}, {a, "22000-22099:22000-22099"}} {
		var elsewhere *netns.ElsewhereError
		var published *sandbox.PublishedError
		err := w.p.Publish(l.Context(), l.ports(w.form)...)
		if !errors.As(err, &elsewhere) && !errors.As(err, &published) && !errors.Is(err, sandbox.ErrInvalid) {
			t.Errorf("%s publishes %s, which is taken: %v", w.p.name, w.form, err)
		}
	}
	both("after clashes")
	l.must(second.ReloadNetwork(l.Context()))
	l.must(l.rt.ReloadNetwork(l.Context()))
	both("both reloaded")
	l.nft("flush ruleset")
	l.must(l.rt.ReloadNetwork(l.Context()))
	ofA("flushed, one reloaded")
	l.reaches(client, "tcp", hostIP+":22081", refused)
	l.must(second.ReloadNetwork(l.Context()))
	both("flushed, both reloaded")
	// Removed and made again, first the one, then the other.
	stays := l.converse(client, hostIP+":22080", "a sees "+client.ip.String())
	for range 2 {
		b.leave()
		l.must(b.Remove(l.Context()))
		ofA("the other one ended")
		l.must(stays.goesOn(patience))
		l.reaches(client, "tcp", hostIP+":22081", refused)
		b = l.podOf(second, sandbox.Spec{Name: "b", Network: network, Ports: l.ports("22081:80")})
		l.serve(b.node, "tcp", ":80")
		both("the other one is back")
		l.must(stays.goesOn(patience))
	}
	a.leave()
	stays.Close()
	l.must(a.Remove(l.Context()))
	l.reaches(client, "tcp", hostIP+":22080", refused)
	l.reaches(client, "tcp", hostIP+":22081", "b sees "+client.ip.String())
	l.reaches(b.node, "tcp", server.at6("99"), "server sees "+hostIP6)
	// What the one had is free for the other.
	l.must(b.Publish(l.Context(), l.ports("22080:80")...))
	l.reaches(client, "tcp", hostIP+":22080", "b sees "+client.ip.String())
}
