package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// All connections of a pod are forgotten, whoever has begun them and however they are
// translated, and no others: by the kernel itself, and by looking at all of them.
func TestForgetAll(t *testing.T) {
	for name, forget := range map[string]func(Address) error{"flushed": ForgetAll, "walking": func(a Address) error {
		return errors.Join(forgetWalking(a.IP), forgetWalking(a.IP6))
	}} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) error {
				if err := l.replace(Publication{addrA, []Port{mustParsePort("5353:53/udp"), mustParsePort("8080:80")}}); err != nil {
					return err
				}
				for _, s := range []struct {
					ns            *NS
					network, port string
				}{{l.pods[0], "udp", ":53"}, {l.pods[0], "tcp", ":80"}, {l.pods[1], "udp", ":53"}, {l.outside, "udp", ":53"}, {nil, "udp", ":54"}} {
					c, err := serve(s.ns, "server", s.network, s.port)
					if err != nil {
						return err
					}
					defer c.Close()
				}
				for _, way := range []struct {
					from    *NS
					network string
					to, to6 string
					port    string
				}{
					{l.outside, "udp", hostOutside, hostOutside6, "5353"},
					{l.outside, "tcp", hostOutside, hostOutside6, "8080"},
					{l.pods[0], "udp", machine, machine6, "53"},
					{l.pods[0], "udp", addrB.IP.String(), addrB.IP6.String(), "53"},
					{l.pods[1], "udp", addrA.IP.String(), addrA.IP6.String(), "53"},
					{l.pods[0], "udp", Gateway.String(), hostOutside6, "54"},
					{nil, "udp", addrA.IP.String(), addrA.IP6.String(), "53"},
					// And of others.
					{l.pods[1], "udp", machine, machine6, "53"},
					{l.outside, "udp", hostOutside, hostOutside6, "54"},
				} {
					for _, to := range []string{way.to, way.to6} {
						if _, _, err := ask(way.from, way.network, net.JoinHostPort(to, way.port)); err != nil {
							return fmt.Errorf("to %s: %w", to, err)
						}
					}
				}
				known := func() (own, others int) {
					t.Helper()
					flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_UNSPEC)
					if err != nil {
						t.Fatal(err)
					}
					for _, f := range flows {
						is := false
						for _, ip := range []net.IP{f.Forward.SrcIP, f.Forward.DstIP, f.Reverse.SrcIP, f.Reverse.DstIP} {
							a, _ := netip.AddrFromSlice(ip)
							is = is || a.Unmap() == addrA.IP || a == addrA.IP6
						}
						if is {
							own++
						} else {
							others++
						}
					}
					return own, others
				}
				if own, others := known(); own < 14 || others < 4 {
					t.Fatalf("the kernel knows %d connections of the pod and %d of others: the test proves nothing", own, others)
				}
				_, before := known()
				if err := forget(addrA); err != nil {
					return err
				}
				if own, others := known(); own != 0 || others != before {
					t.Errorf("the kernel knows %d connections of the pod, and %d of others where it knew %d", own, others, before)
				}
				return forget(addrA) // nothing more
			})
		})
	}
}

// A pod has no connections by an address from which it never sent anything.
func TestAnswered(t *testing.T) {
	inLab(t, func(l *lab) error {
		link := linkPrefix + "0"
		want := func(what string, is Address) {
			t.Helper()
			if is.MAC = addrA.MAC; Answered(link, addrA) != is {
				t.Errorf("%s: %v, want %v", what, Answered(link, addrA), is)
			}
		}
		send := func(ns *NS, to netip.Addr) error {
			return ns.Do(func() error { return sendAs("", netip.AddrPortFrom(to, 97).String()) })
		}
		// What is sent to all who are on the link is no connection.
		if err := l.pods[0].Do(solicit); err != nil {
			return err
		}
		want("at first", Address{})
		if err := send(l.pods[0], addrB.IP); err != nil {
			return err
		}
		want("IPv4", Address{IP: addrA.IP})
		if err := send(l.pods[0], addrB.IP6); err != nil {
			return err
		}
		want("both", addrA)
		if err := netlink.LinkDel(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: linkIndex(link)}}); err != nil {
			return err
		}
		want("without a link", addrA)
		return nil
	})
}
