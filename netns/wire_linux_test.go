package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

// onHost runs f on a thread in a network namespace that plays the host, and
// leaves the machine alone.
func onHost(t *testing.T, f func() error) {
	t.Helper()
	testenv.NeedRoot(t)
	hostNS, err := Create()
	if err != nil {
		t.Fatal(err)
	}
	defer hostNS.Close()
	if err := hostNS.Do(f); err != nil {
		t.Fatal(err)
	}
}

var (
	addrA = Address{netip.MustParseAddr("10.88.0.2"), netip.MustParseAddr("fd70:6f64:626f:7800::2"), "02:00:00:00:00:02"}
	addrB = Address{netip.MustParseAddr("10.88.0.3"), netip.MustParseAddr("fd70:6f64:626f:7800::3"), "02:00:00:00:00:03"}
)

// A pod is reached from the host and from other pods, at once, by both families.
func TestConnect(t *testing.T) {
	onHost(t, func() error {
		var pods []*NS
		for i, a := range []Address{addrA, addrB} {
			ns, err := Create()
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := Connect(ns, fmt.Sprint(linkPrefix, i), a, 1400); err != nil {
				return err
			}
			pods = append(pods, ns)
		}
		for _, ip := range []netip.Addr{addrA.IP, addrA.IP6} {
			var l net.Listener
			err := pods[0].Do(func() (err error) {
				l, err = net.Listen("tcp", netip.AddrPortFrom(ip, 80).String())
				return err
			})
			if err != nil {
				return err
			}
			defer l.Close()
			dial := func() error {
				c, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
				if err != nil {
					return err
				}
				return c.Close()
			}
			if err := pods[1].Do(dial); err != nil {
				return fmt.Errorf("pod to pod: %w", err)
			}
			if err := dialHere(l.Addr().String()); err != nil {
				return fmt.Errorf("host to pod: %w", err)
			}
			c, err := l.Accept()
			if err != nil {
				return err
			}
			if from := netip.MustParseAddrPort(c.RemoteAddr().String()).Addr(); from != addrB.IP && from != addrB.IP6 {
				return fmt.Errorf("pod is seen from %s", from)
			}
			if c, err = l.Accept(); err != nil {
				return err
			}
			if from := netip.MustParseAddrPort(c.RemoteAddr().String()).Addr().WithZone(""); from != Gateway && from != Gateway6 {
				return fmt.Errorf("host is seen from %s", from)
			}
		}
		// The host is reached from the pod.
		l, err := net.Listen("tcp", netip.AddrPortFrom(Gateway, 80).String())
		if err != nil {
			return err
		}
		defer l.Close()
		err = pods[1].Do(func() error { return dialHere(l.Addr().String()) })
		if err != nil {
			return fmt.Errorf("pod to host: %w", err)
		}

		// An address that the kernel makes up sends packets and waits.
		for i, ns := range pods {
			err := ns.Do(func() error {
				time.Sleep(20 * time.Millisecond)
				eth0, err := netlink.LinkByName(Interface)
				if err != nil {
					return err
				}
				addrs, err := netlink.AddrList(eth0, netlink.FAMILY_V6)
				if err != nil || len(addrs) != 1 {
					return fmt.Errorf("pod %d has IPv6 addresses %v, %v", i, addrs, err)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}

		link, err := netlink.LinkByName(linkPrefix + "0")
		if err != nil {
			return err
		}
		if link.Attrs().MTU != 1400 {
			return fmt.Errorf("mtu %d", link.Attrs().MTU)
		}
		if !Connected(linkPrefix+"0") || Connected(linkPrefix+"7") {
			return errors.New("Connected is wrong")
		}
		for i := range pods {
			for range 2 { // the second time it is absent
				wait, err := Disconnect(fmt.Sprint(linkPrefix, i))
				if err != nil {
					return err
				}
				if Connected(fmt.Sprint(linkPrefix, i)) {
					return errors.New("link is there after Disconnect")
				}
				defer wait()
			}
		}
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			routes, err := netlink.RouteList(nil, family)
			if err != nil {
				return err
			}
			for _, r := range routes {
				if r.Dst != nil && !r.Dst.IP.IsLoopback() && !r.Dst.IP.IsMulticast() {
					return fmt.Errorf("route left: %s", r)
				}
			}
		}
		return nil
	})
}

// dialHere connects from the thread it runs on; net.Dial may race addresses on
// other goroutines only for names.
func dialHere(addr string) error {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// The first packets of a new pod are not dropped, however soon they are sent.
func TestFirstPacket(t *testing.T) {
	onHost(t, func() error {
		for range 50 {
			ns, err := Create()
			if err != nil {
				return err
			}
			if err := Connect(ns, linkPrefix+"0", addrA, 1500); err != nil {
				return err
			}
			for _, ip := range []netip.Addr{addrA.IP, addrA.IP6} {
				if err := firstPacket(ip); err != nil {
					return fmt.Errorf("first packet to %s: %w", ip, err)
				}
			}
			wait, err := Disconnect(linkPrefix + "0")
			if err != nil {
				return err
			}
			wait()
			ns.Close()
		}
		return nil
	})
}

// firstPacket connects to where nobody listens: the answer is a refusal, to the first packet
// that was sent. The kernel counts those that it sends again; how long it took says more of
// the machine.
func firstPacket(to netip.Addr) error {
	family, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: 9})
	if to.Is6() {
		family, addr = unix.AF_INET6, &unix.SockaddrInet6{Addr: to.As16(), Port: 9}
	} else {
		addr.(*unix.SockaddrInet4).Addr = to.As4()
	}
	s, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := unix.Connect(s, addr); err != nil && err != unix.EINPROGRESS && err != unix.ECONNREFUSED {
		return fmt.Errorf("connect: %w", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		// What it counts is lost when a call has told of the refusal.
		info, err := unix.GetsockoptTCPInfo(s, unix.IPPROTO_TCP, unix.TCP_INFO)
		switch {
		case err != nil:
			return err
		case info.Total_retrans != 0 || time.Now().After(deadline):
			return fmt.Errorf("was sent again: %d times", info.Total_retrans)
		case info.State == unix.BPF_TCP_CLOSE:
			return nil
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// A pod cannot make itself the host's router.
func TestRouterAdvertisement(t *testing.T) {
	onHost(t, func() error {
		ns, err := Create()
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := Connect(ns, linkPrefix+"0", addrA, 1500); err != nil {
			return err
		}
		if err := ns.Do(advertise); err != nil {
			return err
		}
		for range 20 {
			time.Sleep(10 * time.Millisecond)
			routes, err := netlink.RouteList(nil, netlink.FAMILY_V6)
			if err != nil {
				return err
			}
			for _, r := range routes {
				if r.Gw != nil || r.Protocol == unix.RTPROT_RA {
					return fmt.Errorf("the host has a route from a pod: %s", r)
				}
			}
		}
		return nil
	})
}

// advertise sends a router advertisement (RFC 4861) to the gateway.
func advertise() error {
	index := linkIndex(Interface)
	eth0 := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
	router := netip.MustParseAddr("fe80::77")
	if err := netlink.AddrAdd(eth0, &netlink.Addr{IPNet: host(router), Flags: unix.IFA_F_NODAD}); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255); err != nil {
		return err
	}
	if err := unix.Bind(s, &unix.SockaddrInet6{ZoneId: uint32(index), Addr: router.As16()}); err != nil {
		return err
	}
	ra := make([]byte, 16)
	ra[0], ra[4], ra[6], ra[7] = 134, 64, 0x07, 0x08 // type, hop limit, a lifetime of 1,800 s
	return unix.Sendto(s, ra, 0, &unix.SockaddrInet6{ZoneId: uint32(index), Addr: Gateway6.As16()})
}

func TestFree(t *testing.T) {
	onHost(t, func() error {
		ns, err := Create()
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := Connect(ns, linkPrefix+"0", addrA, 1500); err != nil {
			return err
		}
		other := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "other0"}, PeerName: "other1"}
		if err := netlink.LinkAdd(other); err != nil {
			return err
		}
		addr, _ := netlink.ParseAddr("10.99.0.1/16")
		if err := netlink.AddrAdd(other, addr); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(other); err != nil {
			return err
		}
		for ip, want := range map[string]error{
			"10.88.0.2":              ErrInUse,
			"fd70:6f64:626f:7800::2": ErrInUse,
			"10.88.0.9":              nil,
			"fd70:6f64:626f:7800::9": nil,
			"10.99.3.4":              ErrConflict,
			"10.99.0.1":              ErrConflict,
		} {
			if err := Free(netip.MustParseAddr(ip)); !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("Free(%s) = %v, want %v", ip, err, want)
			}
		}
		return nil
	})
}

// The MTU is that of the link of the default route, also of a split one, within
// what IPv6 and veth can do.
func TestHostMTU(t *testing.T) {
	onHost(t, func() error {
		if got := HostMTU(); got != 1500 {
			t.Errorf("without a default route: %d", got)
		}
		up := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "up1"}
		if err := netlink.LinkAdd(up); err != nil {
			return err
		}
		addr, _ := netlink.ParseAddr("10.99.0.1/24")
		if err := netlink.AddrAdd(up, addr); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(up); err != nil {
			return err
		}
		for _, dst := range []string{"0.0.0.0/1", "128.0.0.0/1", "0.0.0.0/0"} {
			_, to, _ := net.ParseCIDR(dst)
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: up.Index, Dst: to, Gw: net.IPv4(10, 99, 0, 2)}); err != nil {
				return err
			}
		}
		if err := Free(netip.MustParseAddr("10.88.0.2")); err != nil {
			t.Errorf("under a split default route: %v", err)
		}
		for mtu, want := range map[int]int{1380: 1380, 1000: 1280, 9000: 9000} {
			if err := netlink.LinkSetMTU(up, mtu); err != nil {
				return err
			}
			if got := HostMTU(); got != want {
				t.Errorf("MTU %d: got %d, want %d", mtu, got, want)
			}
		}
		return nil
	})
}

func TestWithoutIPv6(t *testing.T) {
	onHost(t, func() error {
		if !IPv6() {
			return errors.New("fresh namespace without IPv6")
		}
		if err := setSysctl(conf6+"default/disable_ipv6", "1"); err != nil {
			return err
		}
		if IPv6() {
			t.Error("IPv6 with disable_ipv6 set")
		}
		ns, err := Create()
		if err != nil {
			return err
		}
		defer ns.Close()
		a := addrA
		a.IP6 = netip.Addr{}
		return Connect(ns, linkPrefix+"0", a, 1500)
	})
}

func TestOpenRefuses(t *testing.T) {
	for _, path := range []string{"/proc/self/ns/ipc", "/etc/passwd", "/nonexistent", "/dev/null"} {
		if ns, err := Open(path); err == nil {
			ns.Close()
			t.Errorf("Open(%s) succeeded", path)
		}
	}
}

func TestLeases(t *testing.T) {
	ctx := context.Background()
	alive := map[string]bool{"a": true, "b": true, "c": true, "d": true, "e": true}
	l := &Leases{Dir: t.TempDir(), Alive: func(o string) bool { return alive[o] }}
	r := netip.MustParsePrefix("10.1.0.0/29") // .2 to .6
	ok := func(netip.Addr) error { return nil }
	take := func(owner string) string {
		t.Helper()
		a, err := l.Acquire(ctx, r, owner, ok)
		if err != nil {
			t.Fatal(err)
		}
		return a.String()
	}
	if a, b := take("a"), take("b"); a != "10.1.0.2" || b != "10.1.0.3" {
		t.Errorf("got %s, %s", a, b)
	}
	if err := l.Release(netip.MustParseAddr("10.1.0.3"), "a"); err != nil { // not a's
		t.Fatal(err)
	}
	if err := l.Claim(ctx, netip.MustParseAddr("10.1.0.3"), "a"); !errors.Is(err, ErrInUse) {
		t.Errorf("claim of another's: %v", err)
	}
	if err := l.Release(netip.MustParseAddr("10.1.0.3"), "b"); err != nil {
		t.Fatal(err)
	}
	if got := take("b"); got != "10.1.0.4" { // not the one just given back
		t.Errorf("got %s", got)
	}
	// Others' addresses are passed over.
	got, err := l.Acquire(ctx, r, "c", func(a netip.Addr) error {
		if a.String() == "10.1.0.5" {
			return ErrInUse
		}
		return nil
	})
	if err != nil || got.String() != "10.1.0.6" {
		t.Errorf("got %v, %v", got, err)
	}
	if got := take("d"); got != "10.1.0.3" { // round again
		t.Errorf("got %s", got)
	}
	take("d")
	if _, err := l.Acquire(ctx, r, "e", ok); !errors.Is(err, ErrExhausted) {
		t.Errorf("full range: %v", err)
	}
	delete(alive, "a") // a's pod is gone: its lease is free
	if got := take("e"); got != "10.1.0.2" {
		t.Errorf("got %s", got)
	}
	delete(alive, "d")
	freed, err := l.Sweep(ctx)
	if err != nil || len(freed) != 2 {
		t.Errorf("swept %v, %v", freed, err)
	}
	left, err := os.ReadDir(l.Dir)
	if err != nil || len(left) != 4 { // b, c, e, cursor
		t.Errorf("left %v, %v", left, err)
	}
}

func TestLeasesRace(t *testing.T) {
	l := &Leases{Dir: t.TempDir(), Alive: func(o string) bool { return o != "dead" }}
	r := netip.MustParsePrefix("10.1.0.0/24")
	ctx := context.Background()
	for i := 2; i < 100; i += 3 {
		if err := l.Claim(ctx, nth(r, uint64(i)), "dead"); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan netip.Addr)
	const n = 120
	for i := range n {
		go func() {
			a, err := l.Acquire(ctx, r, fmt.Sprint("pod", i), func(netip.Addr) error { return nil })
			if err != nil {
				t.Error(err)
			}
			got <- a
		}()
	}
	seen := map[netip.Addr]bool{}
	for range n {
		a := <-got
		if seen[a] {
			t.Errorf("%s given twice", a)
		}
		seen[a] = true
	}
}

func TestParse(t *testing.T) {
	for s, want := range map[string]error{
		"pod": nil, "none": nil, "host": nil, "ns:/run/netns/x": nil,
		"": ErrInvalid, "bridge": ErrInvalid, "ns": ErrInvalid, "ns:relative": ErrInvalid,
		"pod:x": ErrInvalid, "cni:net": nil, "cni:lan,storage.2": nil,
		"cni": ErrInvalid, "cni:": ErrInvalid, "cni:a,": ErrInvalid, "cni:a,a": ErrInvalid, "cni:../a": ErrInvalid, "cni:-a": ErrInvalid,
		"cni:" + strings.Repeat("a", MaxNetworkName+1): ErrInvalid, "cni:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16": ErrInvalid,
	} {
		if _, err := Parse(s); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("Parse(%q): %v, want %v", s, err, want)
		}
	}
}

func TestValidate(t *testing.T) {
	ip, pfx := netip.MustParseAddr, netip.MustParsePrefix
	for _, tt := range []struct {
		n  Network
		ok bool
	}{
		{Network{}, true},
		{Network{IP: ip("10.0.0.7"), IP6: ip("fd00::7"), MAC: "02:00:5e:10:00:01"}, true},
		{Network{IP: ip("127.0.0.1")}, false},
		{Network{IP: ip("0.1.2.3")}, false},
		{Network{IP: ip("255.255.255.255")}, false},
		{Network{IP: ip("224.0.0.1")}, false},
		{Network{IP: ip("fd00::7")}, false},
		{Network{IP6: ip("::ffff:10.0.0.1")}, false},
		{Network{IP6: ip("fe80::7")}, false},
		{Network{IP6: ip("fd00::7%eth0")}, false},
		{Network{MAC: "01:00:5e:10:00:01"}, false},
		{Network{MAC: "02:00:5e:10:00:01:00:00"}, false},
		{Network{MAC: "x"}, false},
		{Network{Range: pfx("10.1.2.0/24")}, true},
		{Network{Range: pfx("10.1.2.3/24")}, false},
		{Network{Range: pfx("10.1.2.0/31")}, false},
		{Network{Range: pfx("0.0.0.0/0")}, false},
		{Network{Range: pfx("fd00::/64")}, false},
		{Network{Range6: pfx("fd00::/8")}, false},
		{Network{Mode: ModeNone, IP: ip("10.0.0.7")}, false},
		{Network{Mode: ModePath, Path: "x"}, false},
		{Network{Path: "/x"}, false},
		{Network{Mode: "bridge"}, false},
	} {
		if err := tt.n.Validate(); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.n, err)
		}
	}
}
