package netns

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A lab is a host with two pods and a network beside it, on which there is a machine.
type lab struct {
	known   Uplinks
	pods    []*NS
	outside *NS
	rules   Rules
}

const (
	hostOutside, machine   = "192.0.2.1", "192.0.2.2"
	hostOutside6, machine6 = "2001:db8::1", "2001:db8::2"
)

// inLab calls f on a thread of the host.
func inLab(t *testing.T, f func(*lab) error) {
	t.Helper()
	onHost(t, func() error {
		l := &lab{rules: Rules{Table: DefaultTable}}
		// A new namespace has it from the first one: whether this host is a router
		// must not matter.
		if err := setSysctl(conf4+"all/forwarding", "0"); err != nil {
			return err
		}
		before, err := FindUplinks(Uplinks{})
		if err != nil {
			return err
		}
		l.known.Router6 = before.Router6 // which is not to be seen any more when there are pods
		for i, a := range []Address{addrA, addrB} {
			ns, err := Create()
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := Connect(ns, fmt.Sprint(linkPrefix, i), a, 1500); err != nil {
				return err
			}
			l.pods = append(l.pods, ns)
		}
		if l.outside, err = Create(); err != nil {
			return err
		}
		defer l.outside.Close()
		up := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "lan0",
			PeerNamespace: netlink.NsFd(l.outside.File().Fd()),
		}
		if err := netlink.LinkAdd(up); err != nil {
			return err
		}
		if err := configure("up0", hostOutside+"/24", hostOutside6+"/64"); err != nil {
			return err
		}
		if err := l.outside.Do(func() error { return configure("lan0", machine+"/24", machine6+"/64") }); err != nil {
			return err
		}
		if err := awaitCarrier(&netlink.Handle{}, up); err != nil {
			return err
		}
		return f(l)
	})
}

func configure(name string, addrs ...string) error {
	link, err := netlink.LinkByName(name)
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
		if err := netlink.AddrAdd(link, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// replace makes the rules as a runtime would.
func (l *lab) replace(pods ...Publication) error {
	up, err := FindUplinks(l.known)
	if err != nil {
		return err
	}
	if err := l.rules.Replace(pods, up); err != nil {
		return err
	}
	return up.Forward()
}

// serve answers each connection in a namespace, or on the host if that is nil, with
// name and who connects.
func serve(ns *NS, name, network, addr string) (io.Closer, error) {
	var closer io.Closer
	listen := func() error {
		if strings.HasPrefix(network, "udp") {
			c, err := net.ListenPacket(network, addr)
			if err != nil {
				return err
			}
			closer = c
			go func() {
				b := make([]byte, 100)
				for {
					_, from, err := c.ReadFrom(b)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte(name+" "+from.String()), from)
				}
			}()
			return nil
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			return err
		}
		closer = l
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, name+" "+c.RemoteAddr().String())
				c.Close()
			}
		}()
		return nil
	}
	var err error
	if ns == nil {
		err = listen()
	} else {
		err = ns.Do(listen)
	}
	return closer, err
}

// ask connects from a namespace, or from the host, and returns what it is told: who
// answers and which address it sees.
func ask(ns *NS, network, addr string) (name, seen string, err error) {
	return askFor(3*time.Second, ns, network, addr)
}

// askFor is ask for somebody who may get no answer.
func askFor(patience time.Duration, ns *NS, network, addr string) (name, seen string, err error) {
	do := func() error {
		c, err := net.DialTimeout(network, addr, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if strings.HasPrefix(network, "udp") {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
		}
		b := make([]byte, 100)
		n, err := c.Read(b)
		if err != nil && err != io.EOF {
			return err
		}
		var from string
		name, from, _ = strings.Cut(string(b[:n]), " ")
		host, _, err := net.SplitHostPort(from)
		seen, _, _ = strings.Cut(host, "%")
		return err
	}
	if ns == nil {
		err = do()
	} else {
		err = ns.Do(do)
	}
	return name, seen, err
}

func mustParsePort(s string) Port {
	p, err := ParsePort(s)
	if err != nil {
		panic(err)
	}
	return p
}

// A published port is reached from everywhere, and the pod sees who it is wherever
// that can be.
func TestPublish(t *testing.T) {
	inLab(t, func(l *lab) error {
		pub := Publication{addrA, []Port{
			mustParsePort("8080:80"), mustParsePort("8080:80/udp"), mustParsePort("127.0.0.1:9090:80"),
			mustParsePort("7000-7009:7000-7009"), mustParsePort("6000-6002:80-82"),
			mustParsePort(hostOutside + ":5000:80"), mustParsePort("[" + hostOutside6 + "]:5000:80"), mustParsePort("[::]:4000:80"),
		}}
		if err := ReachLoopback(linkPrefix+"0", true); err != nil {
			return err
		}
		if err := l.replace(pub); err != nil {
			return err
		}
		for _, s := range []string{"tcp :80", "udp 10.88.0.2:80", "udp [" + addrA.IP6.String() + "]:80", "tcp :7003", "tcp :82"} {
			network, addr, _ := strings.Cut(s, " ")
			c, err := serve(l.pods[0], "A", network, addr)
			if err != nil {
				return err
			}
			defer c.Close()
		}
		const refused = "refused"
		a, b, gw, gw6 := addrA.IP.String(), addrB.IP.String(), Gateway.String(), Gateway6.String()
		for _, tt := range []struct {
			what          string
			from          *NS
			network, addr string
			seen          string
		}{
			{"outside", l.outside, "tcp", hostOutside + ":8080", machine},
			{"outside", l.outside, "udp", hostOutside + ":8080", machine},
			{"outside", l.outside, "tcp", "[" + hostOutside6 + "]:8080", machine6},
			{"outside", l.outside, "udp", "[" + hostOutside6 + "]:8080", machine6},
			{"host by 127.0.0.1", nil, "tcp", "127.0.0.1:8080", gw},
			{"host by 127.0.0.1", nil, "udp", "127.0.0.1:8080", gw},
			{"host by 127.0.0.9", nil, "tcp", "127.0.0.9:8080", gw},
			{"host by ::1", nil, "tcp", "[::1]:8080", refused},
			{"host by its address", nil, "tcp", hostOutside + ":8080", hostOutside},
			{"host by its address", nil, "tcp", "[" + hostOutside6 + "]:8080", hostOutside6},
			{"other pod", l.pods[1], "tcp", hostOutside + ":8080", b},
			{"other pod", l.pods[1], "tcp", gw + ":8080", b},
			{"other pod", l.pods[1], "tcp", "[" + hostOutside6 + "]:8080", addrB.IP6.String()},
			{"the pod itself", l.pods[0], "tcp", hostOutside + ":8080", gw},
			{"the pod itself", l.pods[0], "udp", gw + ":8080", gw},
			{"the pod itself", l.pods[0], "tcp", "[" + hostOutside6 + "]:8080", gw6},
			{"range", l.outside, "tcp", hostOutside + ":7003", machine},
			{"range", l.outside, "tcp", "[" + hostOutside6 + "]:7003", machine6},
			{"range, nobody there", l.outside, "tcp", hostOutside + ":7004", refused},
			{"shifted range", l.outside, "tcp", hostOutside + ":6002", machine},
			{"shifted range", nil, "tcp", "127.0.0.1:6000", gw},
			{"one address", l.outside, "tcp", hostOutside + ":5000", machine},
			{"one address", l.outside, "tcp", "[" + hostOutside6 + "]:5000", machine6},
			{"another address", nil, "tcp", "127.0.0.1:5000", refused},
			{"another address", l.pods[1], "tcp", gw + ":5000", refused},
			{"all of IPv6", l.outside, "tcp", "[" + hostOutside6 + "]:4000", machine6},
			{"all of IPv6, by IPv4", l.outside, "tcp", hostOutside + ":4000", refused},
			{"127.0.0.1 only", nil, "tcp", "127.0.0.1:9090", gw},
			{"127.0.0.1 only, from outside", l.outside, "tcp", hostOutside + ":9090", refused},
			{"not published", l.outside, "tcp", hostOutside + ":80", refused},
			{"directly", l.pods[1], "tcp", a + ":80", b},
		} {
			_, seen, err := ask(tt.from, tt.network, tt.addr)
			if errors.Is(err, unix.ECONNREFUSED) {
				seen, err = refused, nil
			}
			if err != nil || seen != tt.seen {
				t.Errorf("%s to %s %s: seen as %q, %v, want %q", tt.what, tt.network, tt.addr, seen, err, tt.seen)
			}
		}
		// One is taken away, the others stay; again does no harm, nor without rules.
		one := Publication{addrA, pub.Ports[:1]}
		for range 2 {
			if err := l.rules.Delete(one, false); err != nil {
				return err
			}
		}
		if _, _, err := ask(l.outside, "tcp", hostOutside+":8080"); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("deleted: %v", err)
		}
		if _, seen, err := ask(l.pods[0], "tcp", hostOutside+":5000"); err != nil || seen != gw {
			t.Errorf("another of the same pod: %s, %v", seen, err)
		}
		for range 2 {
			if err := l.rules.Add(one); err != nil {
				return err
			}
		}
		if _, _, err := ask(l.outside, "tcp", hostOutside+":8080"); err != nil {
			t.Errorf("added again: %v", err)
		}
		if err := l.rules.Add(Publication{addrB, pub.Ports[:1]}); err == nil {
			t.Error("a port is published for two pods")
		}
		for range 2 {
			if err := l.rules.Remove(); err != nil {
				return err
			}
		}
		if there, err := l.rules.Present(); there || err != nil {
			t.Errorf("removed, but %v, %v", there, err)
		}
		return l.rules.Delete(one, true)
	})
}

// Pods reach the network beside the host by the host's address. The host does not
// become a router for others: who is outside does not reach a pod otherwise than by
// a published port, nor 127.0.0.1.
func TestEgressAndGuard(t *testing.T) {
	inLab(t, func(l *lab) error {
		if err := l.replace(Publication{addrA, []Port{mustParsePort("127.0.0.1:9090:80/udp")}}); err != nil {
			return err
		}
		if err := ReachLoopback(linkPrefix+"0", true); err != nil {
			return err
		}
		for _, s := range []struct{ addr, seen string }{{machine, hostOutside}, {machine6, hostOutside6}} {
			for _, network := range []string{"tcp", "udp"} {
				addr := net.JoinHostPort(s.addr, "99")
				c, err := serve(l.outside, "machine", network, addr)
				if err != nil {
					return err
				}
				defer c.Close()
				if _, seen, err := ask(l.pods[0], network, addr); err != nil || seen != s.seen {
					t.Errorf("pod to %s %s: seen as %q, %v, want %s", network, addr, seen, err, s.seen)
				}
			}
		}
		// Whoever knows the way, and takes it.
		inside, err := serve(l.pods[0], "A", "tcp", ":80")
		if err != nil {
			return err
		}
		defer inside.Close()
		for _, tt := range []struct {
			dst, via netip.Addr
		}{{addrA.IP, netip.MustParseAddr(hostOutside)}, {addrA.IP6, netip.MustParseAddr(hostOutside6)}} {
			if err := l.outside.Do(func() error { return strangeRoute(tt.dst, tt.via) }); err != nil {
				return err
			}
			addr := net.JoinHostPort(tt.dst.String(), "80")
			if name, seen, err := askFor(300*time.Millisecond, l.outside, "tcp", addr); err == nil {
				t.Errorf("%s is reached: %s sees %s", addr, name, seen)
			}
		}
		// To 127.0.0.1 answers find no way back; what is sent counts.
		for _, tt := range []struct {
			what     string
			from, at *NS
			via      netip.Addr
			listen   string
			as, to   string
		}{
			{"host's loopback, by a pod", l.pods[0], nil, Gateway, "127.0.0.1:22", "", "127.0.0.1:22"},
			{"host's loopback, from outside", l.outside, nil, netip.MustParseAddr(hostOutside), "127.0.0.1:22", "", "127.0.0.1:22"},
			{"port published at 127.0.0.1, from outside", l.outside, l.pods[0], netip.MustParseAddr(hostOutside), ":80", "", "127.0.0.1:9090"},
			{"host, by a pod that says it is 127.0.0.2", l.pods[0], nil, Gateway, "169.254.1.1:23", "127.0.0.2", "169.254.1.1:23"},
		} {
			heard, err := listenUDP(tt.at, tt.listen)
			if err != nil {
				return err
			}
			err = tt.from.Do(func() error {
				if err := strangeRoute(netip.MustParseAddr("127.0.0.1"), tt.via); err != nil {
					return err
				}
				if tt.as != "" {
					if err := configure("lo", tt.as+"/32"); err != nil {
						return err
					}
				}
				c, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(tt.as)}}).Dial("udp", tt.to)
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Write([]byte("x"))
				return err
			})
			if err != nil {
				return err
			}
			_ = heard.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, from, err := heard.ReadFrom(make([]byte, 9)); err == nil {
				t.Errorf("%s: heard from %s", tt.what, from)
			}
			heard.Close()
		}
		// It ends with the rules.
		up, err := FindUplinks(Uplinks{V4: []string{"up0"}, V6: []string{"up0"}})
		if err != nil || !slices.Equal(up.V4, []string{"up0"}) {
			t.Errorf("uplinks %v, %v", up, err)
		}
		if err := up.Stop(l.rules.Table); err != nil {
			return err
		}
		if on(conf4+"up0/forwarding") || on(conf6+"up0/force_forwarding") {
			t.Error("the link forwards after Stop")
		}
		return nil
	})
}

func listenUDP(ns *NS, addr string) (c net.PacketConn, err error) {
	listen := func() error {
		c, err = net.ListenPacket("udp", addr)
		return err
	}
	if ns == nil {
		err = listen()
	} else {
		err = ns.Do(listen)
	}
	return c, err
}

// strangeRoute sends what is for dst to a neighbour, even if it is a loopback address.
func strangeRoute(dst, via netip.Addr) error {
	link := Interface
	if linkIndex(link) == 0 {
		link = "lan0"
	}
	index := linkIndex(link)
	if dst.IsLoopback() {
		for _, c := range []string{"all", link} {
			if err := setSysctl(conf4+c+"/route_localnet", "1"); err != nil {
				return err
			}
		}
		local := &netlink.Route{LinkIndex: 1, Dst: &net.IPNet{IP: net.IPv4(127, 0, 0, 0), Mask: net.CIDRMask(8, 32)}, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST}
		_ = netlink.RouteDel(local)
		one := *local
		one.Dst = host(dst)
		_ = netlink.RouteDel(&one)
	}
	err := netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: host(dst), Gw: via.AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// Two installations use one link, and the one that stays keeps it.
func TestUplinksOfTwo(t *testing.T) {
	inLab(t, func(l *lab) error {
		other := &lab{rules: Rules{Table: DefaultTable + "-1234"}}
		if err := l.replace(); err != nil {
			return err
		}
		if err := other.replace(); err != nil {
			return err
		}
		up := Uplinks{V4: []string{"up0"}, V6: []string{"up0"}}
		if err := up.Stop(l.rules.Table); err != nil {
			return err
		}
		if err := l.rules.Remove(); err != nil {
			return err
		}
		if !on(conf4 + "up0/forwarding") {
			t.Error("the link does not forward, which the other installation needs")
		}
		if err := up.Stop(other.rules.Table); err != nil {
			return err
		}
		if on(conf4 + "up0/forwarding") {
			t.Error("the link forwards for nobody")
		}
		// By its owner's will the host is a router: nothing to be done or guarded.
		for _, conf := range []string{conf4, conf6} {
			if err := setSysctl(conf+"all/forwarding", "1"); err != nil {
				return err
			}
		}
		// Where no link has a switch for IPv6 it is still for pods that the host forwards.
		if up, err := FindUplinks(up); err != nil || len(up.V4) > 0 || len(up.V6) > 0 && !up.Router6 || up.Router6 && switches6(conf6) {
			t.Errorf("of a router: %v, %v", up, err)
		}
		return nil
	})
}

// A sender that does not stop is heard by whoever publishes the port now.
func TestUDPMovesOn(t *testing.T) {
	inLab(t, func(l *lab) error {
		for i, a := range []Address{addrA, addrB} {
			for _, ip := range []netip.Addr{a.IP, a.IP6} {
				c, err := serve(l.pods[i], string(rune('A'+i)), "udp", netip.AddrPortFrom(ip, 53).String())
				if err != nil {
					return err
				}
				defer c.Close()
			}
		}
		port := []Port{mustParsePort("5353:53/udp")}
		a, b := Publication{addrA, port}, Publication{addrB, port}
		if err := l.replace(a); err != nil {
			return err
		}
		for _, host := range []string{hostOutside, hostOutside6} {
			var c net.Conn
			err := l.outside.Do(func() (err error) {
				c, err = net.Dial("udp", net.JoinHostPort(host, "5353"))
				return err
			})
			if err != nil {
				return err
			}
			defer c.Close()
			who := func() string {
				buf := make([]byte, 100)
				if _, err := c.Write([]byte("?")); err != nil {
					return err.Error()
				}
				_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				n, err := c.Read(buf)
				if err != nil {
					return "nobody"
				}
				name, _, _ := strings.Cut(string(buf[:n]), " ")
				return name
			}
			if got := who(); got != "A" {
				t.Errorf("%s: %s answers, want A", host, got)
			}
			if err := l.rules.Delete(a, true); err != nil {
				return err
			}
			if err := l.rules.Add(b); err != nil {
				return err
			}
			// That is what would go wrong.
			if got := who(); got != "A" {
				t.Errorf("%s: %s answers: does the kernel forget by itself?", host, got)
			}
			if err := ForgetPod(a); err != nil {
				return err
			}
			if got := who(); got != "B" {
				t.Errorf("%s: %s answers after ForgetPod, want B", host, got)
			}
			// The other way: whoever comes does it.
			if err := l.rules.Delete(b, true); err != nil {
				return err
			}
			if err := l.rules.Add(a); err != nil {
				return err
			}
			if err := ForgetOthers(a); err != nil {
				return err
			}
			if got := who(); got != "A" {
				t.Errorf("%s: %s answers after ForgetOthers, want A", host, got)
			}
			// Sent before anybody publishes it.
			if err := l.rules.Delete(a, true); err != nil {
				return err
			}
			if err := ForgetPod(a); err != nil {
				return err
			}
			if got := who(); got == "A" || got == "B" {
				t.Errorf("%s: %s answers what is not published", host, got)
			}
			if err := l.rules.Add(a); err != nil {
				return err
			}
			if err := ForgetOthers(a); err != nil {
				return err
			}
			if got := who(); got != "A" {
				t.Errorf("%s: %s answers, want A", host, got)
			}
		}
		return nil
	})
}

// While the rules are made anew, connections go on and new ones come through.
func TestReplaceUnderTraffic(t *testing.T) {
	inLab(t, func(l *lab) error {
		pub := Publication{addrA, []Port{mustParsePort("8080:80"), mustParsePort("9090:90")}}
		if err := l.replace(pub); err != nil {
			return err
		}
		var echo net.Listener
		err := l.pods[0].Do(func() (err error) {
			echo, err = net.Listen("tcp", ":90")
			return err
		})
		if err != nil {
			return err
		}
		defer echo.Close()
		go func() {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
		web, err := serve(l.pods[0], "A", "tcp", ":80")
		if err != nil {
			return err
		}
		defer web.Close()
		var long net.Conn
		err = l.outside.Do(func() (err error) {
			long, err = net.DialTimeout("tcp", hostOutside+":9090", 3*time.Second)
			return err
		})
		if err != nil {
			return err
		}
		defer long.Close()

		stop, dialed := make(chan struct{}), make(chan int)
		go func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					dialed <- n
					return
				default:
				}
				if _, _, err := ask(l.outside, "tcp", hostOutside+":8080"); err != nil {
					t.Errorf("connection %d: %v", n, err)
				}
			}
		}()
		for i := range 30 {
			if err := l.rules.Replace([]Publication{pub}, Uplinks{V4: []string{"up0"}, V6: []string{"up0"}}); err != nil {
				t.Error(err)
			}
			_ = long.SetDeadline(time.Now().Add(3 * time.Second))
			b := []byte{byte(i)}
			if _, err := long.Write(b); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(long, b); err != nil || b[0] != byte(i) {
				t.Errorf("after reload %d: %v, %v", i, b, err)
				break
			}
		}
		close(stop)
		if n := <-dialed; n < 10 {
			t.Errorf("%d connections only", n)
		}
		return nil
	})
}
