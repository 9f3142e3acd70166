package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A pod that says it is somebody else is heard by nobody: neither by the host, nor by
// another pod, nor outside.
func TestForged(t *testing.T) {
	inLab(t, func(l *lab) error {
		listen := []struct {
			what string
			ns   *NS
			addr []string
		}{
			{"host", nil, []string{Gateway.String(), hostOutside6}},
			{"other pod", l.pods[1], []string{addrB.IP.String(), addrB.IP6.String()}},
			{"machine outside", l.outside, []string{machine, machine6}},
		}
		if err := awaitNeighbour(l.outside, machine6); err != nil {
			return err
		}
		// Once without the rules, or nobody would know that it is they.
		for _, rules := range []bool{false, true} {
			if rules {
				if err := l.replace(); err != nil {
					return err
				}
				// What is known to be true of one is not true of another.
				for _, to := range []string{Gateway.String(), hostOutside6} {
					if err := l.pods[1].Do(func() error { return sendAs("", net.JoinHostPort(to, "97")) }); err != nil {
						return err
					}
				}
			}
			for _, where := range listen {
				for _, addr := range where.addr {
					to := net.JoinHostPort(addr, "99")
					heard, err := listenUDP(where.ns, to)
					if err != nil {
						return err
					}
					as := []string{"", "10.88.9.9", addrB.IP.String(), machine, "203.0.113.7"}
					if netip.MustParseAddr(addr).Is6() {
						as = []string{"", "fd70:6f64:626f:7800::9", addrB.IP6.String(), machine6, "2001:db8:1::7"}
					}
					if where.ns != nil {
						// The gateway's address the host takes for its own at once.
						as = append(as, map[bool]string{false: Gateway.String(), true: "2001:db8::1"}[netip.MustParseAddr(addr).Is6()])
					}
					for _, from := range as {
						if err := l.pods[0].Do(func() error { return sendAs(from, to) }); err != nil {
							return err
						}
					}
					seen := hear(heard)
					heard.Close()
					own := where.ns == l.outside || slices.Contains(seen, addrA.IP.String()) || slices.Contains(seen, addrA.IP6.String())
					if !own {
						t.Errorf("rules %v: %s at %s does not hear the pod, but %v", rules, where.what, to, seen)
					}
					switch {
					case rules && len(seen) != 1:
						t.Errorf("%s at %s hears %v", where.what, to, seen)
					case !rules && where.ns == l.pods[1] && len(seen) < 3:
						t.Errorf("without rules %s at %s hears only %v: the test proves nothing", where.what, to, seen)
					}
				}
			}
		}
		return nil
	})
}

// Nor does the host hear a pod that gives its address away and speaks to all on the link.
func TestNobody(t *testing.T) {
	inLab(t, func(l *lab) error {
		heard, err := listenUDP(nil, "0.0.0.0:99")
		if err != nil {
			return err
		}
		defer heard.Close()
		if err := l.pods[0].Do(becomeNobody); err != nil {
			return err
		}
		for _, rules := range []bool{false, true} {
			if rules {
				if err := l.replace(); err != nil {
					return err
				}
			}
			if err := l.pods[0].Do(func() error { return sendAs("", "255.255.255.255:99") }); err != nil {
				return err
			}
			if seen := hear(heard); (len(seen) != 0) == rules {
				t.Errorf("rules %v: the host hears %v", rules, seen)
			}
		}
		return nil
	})
}

// The kernel notes what is true, once it has been heard, and nothing else.
func TestSeen(t *testing.T) {
	inLab(t, func(l *lab) error {
		if err := l.replace(); err != nil {
			return err
		}
		err := l.pods[0].Do(func() error {
			for _, to := range []string{Gateway.String(), hostOutside6} {
				for _, from := range []string{addrB.IP.String(), addrB.IP6.String(), ""} {
					if from != "" && netip.MustParseAddr(from).Is4() != netip.MustParseAddr(to).Is4() {
						continue
					}
					if err := sendAs(from, net.JoinHostPort(to, "97")); err != nil {
						return err
					}
				}
			}
			return solicit()
		})
		if err != nil {
			return err
		}
		noted := func() (all []string, err error) {
			for _, family := range []string{"4", "6"} {
				elems, err := elementsOf(new(nftables.Conn), newBatch(l.rules.table()).sets[seen(family)])
				if err != nil {
					return nil, err
				}
				for _, e := range elems {
					index := binaryutil.NativeEndian.Uint32(e.Key)
					addr, _ := netip.AddrFromSlice(e.Key[4:])
					all = append(all, fmt.Sprint(index, " ", addr))
				}
			}
			return all, nil
		}
		link := linkIndex(linkPrefix + "0")
		want := []string{fmt.Sprint(link, " ", addrA.IP), fmt.Sprint(link, " ", addrA.IP6)}
		if has, err := noted(); err != nil || !slices.Equal(has, want) {
			t.Errorf("the kernel notes %v, %v; want %v", has, err, want)
		}
		// The table is not another one when the rules are made anew, or the notes were gone.
		if err := l.replace(); err != nil {
			return err
		}
		if has, err := noted(); err != nil || !slices.Equal(has, want) {
			t.Errorf("after a reload the kernel notes %v, %v; want %v", has, err, want)
		}
		return nil
	})
}

// solicit asks, as nobody, who is on the link.
func solicit() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	packet := make([]byte, 40+24)
	packet[0], packet[5], packet[6], packet[7] = 6<<4, 24, unix.IPPROTO_ICMPV6, 255
	copy(packet[24:], netip.MustParseAddr("ff02::1:ff00:1").AsSlice())
	packet[40] = 135
	copy(packet[48:], Gateway6.AsSlice())
	to := &unix.SockaddrLinklayer{Ifindex: linkIndex(Interface), Protocol: unix.ETH_P_IPV6<<8&0xff00 | unix.ETH_P_IPV6>>8, Halen: 6}
	copy(to.Addr[:], gatewayMAC)
	return unix.Sendto(fd, packet, 0, to)
}

// becomeNobody takes a pod's addresses of IPv4 away, and leaves it a way out.
func becomeNobody() error {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if err := netlink.AddrDel(link, &a); err != nil {
			return err
		}
	}
	return netlink.RouteAdd(&netlink.Route{
		LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
	})
}

// awaitNeighbour waits until the host finds a machine: it asks for none before its own
// addresses of the link are settled.
func awaitNeighbour(ns *NS, addr string) error {
	c, err := listenUDP(ns, net.JoinHostPort(addr, "98"))
	if err != nil {
		return err
	}
	defer c.Close()
	for range 50 {
		if err := sendAs("", c.LocalAddr().String()); err != nil {
			return err
		}
		if len(hear(c)) > 0 {
			return nil
		}
	}
	return errors.New("no way to " + addr)
}

// sendAs sends a datagram from an address that is not ours, or from our own if it is "".
func sendAs(from, to string) error {
	dialer := net.Dialer{Control: transparent}
	if from != "" {
		dialer.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
	}
	c, err := dialer.Dial("udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("x"))
	if errors.Is(err, unix.ECONNREFUSED) {
		err = nil
	}
	return err
}

// hear returns from whom datagrams come, until none does.
func hear(c net.PacketConn) []string {
	var seen []string
	for {
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, from, err := c.ReadFrom(make([]byte, 9))
		if err != nil {
			return seen
		}
		host, _, _ := net.SplitHostPort(from.String())
		seen = append(seen, host)
	}
}

// transparent lets a socket have an address that the host does not have; ip(7).
func transparent(network, _ string, c syscall.RawConn) error {
	level, option := unix.SOL_IP, unix.IP_TRANSPARENT
	if network == "udp6" {
		level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	var failed error
	err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, 1) })
	return errors.Join(err, failed)
}
