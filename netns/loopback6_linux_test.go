package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/ebpf"
)

// ofTest are the programs of one test: others may run at the same time, and the root of
// the control groups is the machine's.
func ofTest() Loopback6 { return Loopback6{Name: fmt.Sprintf("podbox_t%x", os.Getpid())} }

// By ::1 the host reaches what pods publish, and nobody else does.
func TestLoopback6(t *testing.T) {
	inLab(t, func(l *lab) error {
		lo := ofTest()
		pub := Publication{addrA, []Port{
			mustParsePort("8080:80"), mustParsePort("8080:80/udp"), mustParsePort("127.0.0.1:9090:80"),
			mustParsePort("7000-7009:7000-7009"), mustParsePort("6001-6007:81-87"), mustParsePort("[::]:4000:80"), mustParsePort("0.0.0.0:4100:80"),
			mustParsePort("[" + hostOutside6 + "]:5000:80"),
		}}
		for _, s := range []string{":80", ":7003", ":82", ":87"} {
			c, err := serve(l.pods[0], "A", "tcp", s)
			if err != nil {
				return err
			}
			defer c.Close()
		}
		for addr, ns := range map[string]*NS{"[" + addrA.IP6.String() + "]:80": l.pods[0], "[::1]:5353": nil} {
			c, err := serve(ns, "A", "udp", addr)
			if err != nil {
				return err
			}
			defer c.Close()
		}
		own, err := serve(nil, "host", "tcp", "[::1]:3000")
		if err != nil {
			return err
		}
		defer own.Close()
		if err := l.replace(pub); err != nil {
			return err
		}
		if err := lo.Replace([]Publication{{Address: addrB}, pub}); err != nil {
			return err
		}
		defer lo.Remove()
		if there, err := lo.Present(); !there || err != nil {
			t.Errorf("not present: %v", err)
		}
		const refused = "refused"
		check := func(when string, tests []loopbackTest) {
			t.Helper()
			for _, tt := range tests {
				_, seen, err := ask(tt.from, tt.network, tt.addr)
				if errors.Is(err, unix.ECONNREFUSED) {
					seen, err = refused, nil
				}
				if err != nil || seen != tt.seen {
					t.Errorf("%s: %s to %s %s: seen as %q, %v, want %q", when, tt.what, tt.network, tt.addr, seen, err, tt.seen)
				}
			}
		}
		all := []loopbackTest{
			{"host", nil, "tcp", "[::1]:8080", hostOutside6},
			{"host", nil, "udp", "[::1]:8080", hostOutside6},
			{"range", nil, "tcp", "[::1]:7003", hostOutside6},
			{"nobody there", nil, "tcp", "[::1]:7004", refused},
			{"before the range", nil, "tcp", "[::1]:6000", refused},
			{"shifted range", nil, "tcp", "[::1]:6002", hostOutside6},
			{"its last", nil, "tcp", "[::1]:6007", hostOutside6},
			{"after it", nil, "tcp", "[::1]:6008", refused},
			{"all of IPv6", nil, "tcp", "[::1]:4000", hostOutside6},
			{"all of IPv4", nil, "tcp", "[::1]:4100", refused},
			{"another address", nil, "tcp", "[::1]:9090", refused},
			{"another address", nil, "tcp", "[::1]:5000", refused},
			{"the host's own", nil, "tcp", "[::1]:3000", "::1"},
			{"the host's own", nil, "udp", "[::1]:5353", "::1"},
			{"the pod itself", l.pods[0], "tcp", "[::1]:8080", refused},
			{"the pod's own", l.pods[0], "tcp", "[::1]:80", "::1"},
			{"other pod", l.pods[1], "tcp", "[::1]:8080", refused},
			{"outside", l.outside, "tcp", "[::1]:8080", refused},
			{"127.0.0.1, as ever", nil, "tcp", "[::ffff:127.0.0.2]:3000", refused},
		}
		check("published", all)

		// Made anew, again and again: the same.
		for range 3 {
			if err := lo.Replace([]Publication{pub}); err != nil {
				return err
			}
		}
		check("replaced", all)

		one := Publication{addrA, pub.Ports[:1]}
		for range 2 {
			if err := lo.Delete(one); err != nil {
				return err
			}
		}
		check("deleted", []loopbackTest{{"host", nil, "tcp", "[::1]:8080", refused}, {"host", nil, "udp", "[::1]:8080", hostOutside6}})
		for range 2 {
			if there, err := lo.Add(one); !there || err != nil {
				return fmt.Errorf("add: %v, %w", there, err)
			}
		}
		check("added", all[:1])

		// Another installation beside it.
		other := ofTest()
		other.Name += "b"
		if err := other.Replace([]Publication{{addrA, []Port{mustParsePort("9999:80")}}}); err != nil {
			return err
		}
		defer other.Remove()
		check("beside another", append(all[:2], loopbackTest{"other", nil, "tcp", "[::1]:9999", hostOutside6}))
		for range 2 {
			if err := lo.Remove(); err != nil {
				return err
			}
		}
		check("removed", []loopbackTest{{"host", nil, "tcp", "[::1]:8080", refused}, {"other", nil, "tcp", "[::1]:9999", hostOutside6}})
		if there, err := lo.Present(); there || err != nil {
			t.Errorf("still present, %v", err)
		}
		if there, err := lo.Add(one); there || err != nil {
			t.Errorf("add to nothing: %v, %v", there, err)
		}
		return other.Remove()
	})
}

type loopbackTest struct {
	what          string
	from          *NS
	network, addr string
	seen          string
}

// A program is told that it talks with ::1, whether its socket is connected or not: it
// takes an answer from elsewhere for a stranger's.
func TestLoopback6Names(t *testing.T) {
	inLab(t, func(l *lab) error {
		lo := ofTest()
		pub := Publication{addrA, []Port{mustParsePort("8080:80"), mustParsePort("8053:53/udp")}}
		if err := lo.Replace([]Publication{pub}); err != nil {
			return err
		}
		defer lo.Remove()
		tcp, err := serve(l.pods[0], "A", "tcp", ":80")
		if err != nil {
			return err
		}
		defer tcp.Close()
		udp, err := serve(l.pods[0], "A", "udp", ":53")
		if err != nil {
			return err
		}
		defer udp.Close()

		// A socket as C programs have it, for Go remembers what it connected to.
		s, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		if err := unix.Connect(s, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16(), Port: 8080}); err != nil {
			return err
		}
		peer, err := unix.Getpeername(s)
		if a, ok := peer.(*unix.SockaddrInet6); !ok || a.Addr != netip.IPv6Loopback().As16() || a.Port != 8080 {
			t.Errorf("the peer is %+v, %v, want [::1]:8080", peer, err)
		}

		for name, connected := range map[string]bool{"connected": true, "not connected": false} {
			var c *net.UDPConn
			to := &net.UDPAddr{IP: net.IPv6loopback, Port: 8053}
			if connected {
				c, err = net.DialUDP("udp6", nil, to)
			} else {
				c, err = net.ListenUDP("udp6", nil)
			}
			if err != nil {
				return err
			}
			defer c.Close()
			if connected {
				_, err = c.Write([]byte("?"))
			} else {
				_, err = c.WriteTo([]byte("?"), to)
			}
			if err != nil {
				return err
			}
			_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
			_, from, err := c.ReadFrom(make([]byte, 100))
			if err != nil || from.String() != "[::1]:8053" {
				t.Errorf("%s: answer from %v, %v, want [::1]:8053", name, from, err)
			}
		}

		// Who talks with the pod by its address is not told otherwise.
		direct, err := net.Dial("udp6", "["+addrA.IP6.String()+"]:53")
		if err != nil {
			return err
		}
		defer direct.Close()
		_, _ = direct.Write([]byte("?"))
		_ = direct.SetReadDeadline(time.Now().Add(3 * time.Second))
		_, from, err := direct.(*net.UDPConn).ReadFrom(make([]byte, 100))
		if want := "[" + addrA.IP6.String() + "]:53"; err != nil || from.String() != want {
			t.Errorf("directly: answer from %v, %v, want %s", from, err, want)
		}
		return lo.Remove()
	})
}

// A host that has no other address of IPv6 reaches its pods by ::1 too. A socket that is
// bound to ::1 does not, and learns so at once.
func TestLoopback6Alone(t *testing.T) {
	inLab(t, func(l *lab) error {
		lo := ofTest()
		up, err := netlink.LinkByName("up0")
		if err != nil {
			return err
		}
		if err := netlink.LinkDel(up); err != nil {
			return err
		}
		if err := lo.Replace([]Publication{{addrA, []Port{mustParsePort("8080:80")}}}); err != nil {
			return err
		}
		defer lo.Remove()
		c, err := serve(l.pods[0], "A", "tcp", ":80")
		if err != nil {
			return err
		}
		defer c.Close()
		if _, seen, err := ask(nil, "tcp", "[::1]:8080"); err != nil || seen != Gateway6.String() {
			t.Errorf("seen as %q, %v, want %s", seen, err, Gateway6)
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv6loopback}, Timeout: 3 * time.Second}
		if _, err := d.Dial("tcp", "[::1]:8080"); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("from ::1: %v, want ECONNREFUSED", err)
		}
		return lo.Remove()
	})
}

// Whoever is killed leaves some of the programs, or both those that were and those that
// came: Present says so, and Replace and Remove make it good.
func TestLoopback6Killed(t *testing.T) {
	onHost(t, func() error {
		lo := ofTest()
		defer lo.Remove()
		cgroup, err := lo.open()
		if err != nil {
			return err
		}
		defer cgroup.Close()
		pub := Publication{addrA, []Port{mustParsePort("8080:80")}}
		for _, sets := range []int{1, 2} {
			for n := range len(attachTypes) + 1 {
				if err := lo.Replace([]Publication{pub}); err != nil {
					return err
				}
				if sets == 1 {
					if err := lo.Remove(); err != nil {
						return err
					}
				}
				ps, err := lo.load([]Publication{pub})
				if err != nil {
					return err
				}
				for _, p := range ps[:n] {
					if err := p.Attach(cgroup); err != nil {
						return err
					}
				}
				closeAll(ps)
				complete := sets == 1 && n == len(attachTypes) || sets == 2 && n < len(attachTypes)
				if there, err := lo.Present(); there != complete || err != nil {
					t.Errorf("%d sets, %d programs: present %v, %v", sets, n, there, err)
				}
				if there, err := lo.Add(pub); there != complete || err != nil {
					t.Errorf("%d sets, %d programs: added %v, %v", sets, n, there, err)
				}
				if err := lo.Replace([]Publication{pub}); err != nil {
					return err
				}
				for _, at := range attachTypes {
					ps, err := ebpf.Attached(cgroup, at, lo.Name)
					closeAll(ps)
					if len(ps) != 1 || err != nil {
						t.Errorf("%d sets, %d programs: then %d, %v", sets, n, len(ps), err)
					}
				}
				if err := lo.Remove(); err != nil {
					return err
				}
				if ps, err := lo.attached(cgroup); len(ps) > 0 || err != nil {
					t.Errorf("removed, but %d programs are left, %v", len(ps), err)
				}
			}
		}
		return nil
	})
}

// Where there is no cgroup v2 it is told so, and there is nothing to take away.
func TestLoopback6Unsupported(t *testing.T) {
	onHost(t, func() error {
		if err := unix.Mount("none", "/sys/fs/cgroup", "tmpfs", 0, ""); err != nil {
			return os.NewSyscallError("mount", err)
		}
		defer unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH)
		lo, pub := ofTest(), Publication{addrA, []Port{mustParsePort("8080:80")}}
		_, present := lo.Present()
		_, add := lo.Add(pub)
		for what, err := range map[string]error{"Usable": lo.Usable(), "Present": present, "Add": add, "Replace": lo.Replace([]Publication{pub})} {
			if !errors.Is(err, ErrNotSupported) {
				t.Errorf("%s: %v, want ErrNotSupported", what, err)
			}
		}
		return errors.Join(lo.Delete(pub), lo.Remove())
	})
}

// Keys of a range are its ports, each once, and few.
func TestLoopback6Keys(t *testing.T) {
	for _, s := range []string{"80:80", "1-65535:1-65535", "7000-7099:1-100", "8-8:1-1", "65535:1", "32768-65535:1-32768", "1-3:5-7"} {
		p := mustParsePort(s)
		ports, keys := 0, 0
		next := int(p.HostPort)
		err := eachKeyOf(1, Publication{addrA, []Port{p}}, func(key, value []byte) error {
			first, n := int(key[14])<<8|int(key[15]), 1<<(allBits-int(key[0]))
			if first != next || first%n != 0 {
				t.Errorf("%s: a key for %d ports from %d on, want from %d", s, n, first, next)
			}
			next = first + n
			ports += n
			keys++
			return nil
		})
		if err != nil || ports != int(p.Count) || keys > 32 {
			t.Errorf("%s: %d keys for %d ports, %v", s, keys, ports, err)
		}
	}
}

func BenchmarkLoopback6Replace(b *testing.B) {
	lo := ofTest()
	defer lo.Remove()
	pub := []Publication{{addrA, []Port{mustParsePort("8080:80")}}}
	for b.Loop() {
		if err := lo.Replace(pub); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoopback6Add(b *testing.B) {
	lo := ofTest()
	defer lo.Remove()
	pub := Publication{addrA, []Port{mustParsePort("8080:80")}}
	if err := lo.Replace([]Publication{pub}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if there, err := lo.Add(pub); !there || err != nil {
			b.Fatal(there, err)
		}
	}
}

// BenchmarkConnect6 connects a socket of UDP to an address that nobody publishes: what it
// takes all others on the machine that there are programs.
func BenchmarkConnect6(b *testing.B) {
	for name, there := range map[string]bool{"without": false, "with": true} {
		b.Run(name, func(b *testing.B) {
			lo := ofTest()
			if there {
				if err := lo.Replace([]Publication{{addrA, []Port{mustParsePort("8080:80")}}}); err != nil {
					b.Fatal(err)
				}
				defer lo.Remove()
			}
			s, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer unix.Close(s)
			to := &unix.SockaddrInet6{Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16(), Port: 9}
			for b.Loop() {
				if err := unix.Connect(s, to); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
