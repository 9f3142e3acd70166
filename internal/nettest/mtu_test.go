package nettest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/netns"
)

// A pod's link has the MTU that the host's uplink has when the pod is made.
func TestPodMTU(t *testing.T) {
	l := newLab(t)
	for _, mtu := range []int{1500, 1400, 1280, 9000} {
		l.setMTU(l.host, l.router, mtu)
		p := l.pod(fmt.Sprint("p", mtu))
		l.must(p.do(func() error {
			link, err := netlink.LinkByName(netns.Interface)
			if err == nil && link.Attrs().MTU != mtu {
				t.Errorf("the pod's MTU is %d, want %d", link.Attrs().MTU, mtu)
			}
			return err
		}))
	}
}

// Where the way is narrower further on, both ends find out, through the translation of
// addresses: packets of TCP get smaller, and a large transfer comes through both ways,
// out of a pod and in by a published port.
func TestPathMTU(t *testing.T) {
	for _, narrow := range []int{1400, 1280} {
		t.Run(fmt.Sprint(narrow), func(t *testing.T) {
			l := newLab(t)
			far := l.machine("far")
			a := l.pod("a", "22080:80")
			l.setMTU(l.router, far, narrow)
			// The far end says that it takes what it has room for, so that nobody finds out
			// by what it says.
			l.must(far.do(func() error {
				link, err := netlink.LinkByName(toward(l.router))
				if err != nil {
					return err
				}
				return netlink.LinkSetMTU(link, 1500)
			}))
			l.serve(a.node, "tcp", ":80")
			l.serve(far, "tcp", ":99")
			for _, w := range []struct {
				from *node
				to   string
			}{
				{a.node, far.at("99")}, {a.node, far.at6("99")}, {far, hostIP + ":22080"}, {far, "[" + hostIP6 + "]:22080"},
			} {
				c := l.dial(w.from, "tcp", w.to)
				if err := transfer(c, 1<<20); err != nil {
					t.Errorf("%s to %s: %v", w.from.name, w.to, err)
				}
				// Who has sent by the way of the narrow link knows of it.
				if got, err := pathMTU(c); w.from == a.node && (err != nil || got != narrow) {
					t.Errorf("%s to %s: the path's MTU is taken for %d, %v, want %d", w.from.name, w.to, got, err, narrow)
				}
			}
			// UDP that must not be fragmented is refused with the size that would do.
			for _, network := range []string{"udp4", "udp6"} {
				to := far.at("99")
				if network == "udp6" {
					to = far.at6("99")
				}
				c := l.dial(a.node, network, to)
				l.must(dontFragment(c))
				deadline := time.Now().Add(patience)
				for {
					_, err := c.Write(make([]byte, 1420))
					if errors.Is(err, unix.EMSGSIZE) {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("%s of 1420 bytes that must not be fragmented: %v", network, err)
					}
					time.Sleep(10 * time.Millisecond)
				}
				if got, err := pathMTU(c); err != nil || got != narrow {
					t.Errorf("%s: the path's MTU is taken for %d, %v, want %d", network, got, err, narrow)
				}
			}
		})
	}
}

// The host's uplink gets narrower when pods are there already: they find out as from any
// router.
func TestUplinkGetsNarrower(t *testing.T) {
	l := newLab(t)
	far := l.machine("far")
	a := l.pod("a", "22080:80", "22080:80/udp")
	l.serve(a.node, "tcp", ":80")
	l.serve(a.node, "udp", a.at("80"))
	l.serve(far, "tcp", ":99")
	before := []net.Conn{l.dial(a.node, "tcp", far.at("99")), l.dial(a.node, "tcp", far.at6("99"))}
	l.setMTU(l.host, l.router, 1300)
	for _, c := range append(before,
		l.dial(a.node, "tcp", far.at("99")), l.dial(a.node, "tcp", far.at6("99")),
		l.dial(far, "tcp", hostIP+":22080"), l.dial(far, "tcp", "["+hostIP6+"]:22080")) {
		if err := transfer(c, 1<<20); err != nil {
			t.Errorf("%s to %s: %v", c.LocalAddr(), c.RemoteAddr(), err)
		}
	}
	if got, err := datagram(l.dial(far, "udp", hostIP+":22080"), 8000); err != nil || got != "a sees "+far.ip.String() {
		t.Errorf("8000 bytes of UDP: %q, %v", got, err)
	}
}

// transfer has an echo return that many bytes, and compares them.
func transfer(c net.Conn, size int) error {
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	sent := make([]byte, size)
	_, _ = rand.Read(sent)
	failed := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		failed <- err
	}()
	// The greeting comes first.
	b := make([]byte, 1)
	for b[0] != '\n' {
		if _, err := io.ReadFull(c, b); err != nil {
			return fmt.Errorf("greeting: %w", err)
		}
	}
	got := make([]byte, size)
	if n, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("%d of %d bytes came back: %w", n, size, err)
	}
	if !bytes.Equal(sent, got) {
		return errors.New("other bytes came back")
	}
	return <-failed
}

// Datagrams of 8 kB, which are in fragments, come through whole, both ways, out and in.
func TestFragments(t *testing.T) {
	for _, mtu := range []int{1500, 1280} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			l := newLab(t)
			far := l.machine("far")
			l.setMTU(l.router, far, mtu)
			a, b := l.pod("a", "22080:80/udp"), l.pod("b")
			for _, n := range []*node{a.node, far} {
				l.serve(n, "udp", n.at("80"))
				l.serve(n, "udp", n.at6("80"))
			}
			for _, w := range []struct {
				from     *node
				to, want string
			}{
				{a.node, far.at("80"), "far sees " + hostIP},
				{a.node, far.at6("80"), "far sees " + hostIP6},
				{far, hostIP + ":22080", "a sees " + far.ip.String()},
				{far, "[" + hostIP6 + "]:22080", "a sees " + far.ip6.String()},
				{l.host, "127.0.0.1:22080", "a sees 169.254.1.1"},
				{b.node, hostIP + ":22080", "a sees " + b.ip.String()},
				{a.node, hostIP + ":22080", "a sees 169.254.1.1"},
			} {
				got, err := datagram(l.dial(w.from, "udp", w.to), 8000)
				if err != nil || got != w.want {
					t.Errorf("%s to %s: %q, %v, want %q", w.from.name, w.to, got, err, w.want)
				}
			}
		})
	}
}

// datagram sends one of a size until one comes back, and returns what the server says.
// The first one may be what tells the sender how narrow the way is.
func datagram(c net.Conn, size int) (string, error) {
	sent := make([]byte, size)
	_, _ = rand.Read(sent)
	b := make([]byte, 1<<16)
	var err error
	for range 5 {
		if _, err = c.Write(sent); err != nil {
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(patience / 5))
		var n int
		if n, err = c.Read(b); err != nil {
			continue
		}
		line, rest, _ := bytes.Cut(b[:n], []byte("\n"))
		if !bytes.Equal(rest, sent) {
			return "", errors.New("another datagram came back")
		}
		return withoutPort(string(line)), nil
	}
	return "", err
}

// pathMTU is what the kernel takes for the MTU of the path of a connection.
func pathMTU(c net.Conn) (mtu int, err error) {
	level, option := unix.IPPROTO_IP, unix.IP_MTU
	if is6(c) {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	return mtu, onSocket(c, func(fd int) error {
		mtu, err = unix.GetsockoptInt(fd, level, option)
		return err
	})
}

func dontFragment(c net.Conn) error {
	return onSocket(c, func(fd int) error {
		if is6(c) {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	})
}

func is6(c net.Conn) bool { return strings.HasPrefix(c.RemoteAddr().String(), "[") }

func onSocket(c net.Conn, f func(fd int) error) error {
	var raw interface{ Control(func(uintptr)) error }
	var err error
	switch c := c.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UDPConn:
		raw, err = c.SyscallConn()
	}
	if err != nil {
		return err
	}
	return errors.Join(raw.Control(func(fd uintptr) { err = f(int(fd)) }), err)
}
