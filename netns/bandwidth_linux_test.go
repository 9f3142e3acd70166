package netns

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

// A pod receives and sends as fast as it may, by TCP and UDP, IPv4 and IPv6, and not by
// its loopback link; limits are changed and lifted while it does.
func TestBandwidth(t *testing.T) {
	inLab(t, func(l *lab) error {
		const link = linkPrefix + "0"
		rate := 40e6 / min(uint64(testenv.Patience(1)), 4) // bits a second, of which the machine has several times as many
		pod := l.pods[0]
		here, err := Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer here.Close()
		check := func(what, network string, b Bandwidth) error {
			podAddr, hostAddr := addrA.IP.String(), Gateway.String()
			if network[3] == '6' {
				podAddr, hostAddr = addrA.IP6.String(), hostOutside6
			}
			for _, way := range []struct {
				does     string
				from, to *NS
				addr     string
				most     float64
			}{{"receives", here, pod, podAddr, float64(b.Ingress)}, {"sends", pod, here, hostAddr, float64(b.Egress)}} {
				least, most := 0.6*way.most, 1.1*way.most
				if way.most == 0 {
					least, most = 3*float64(rate), 1e12
				}
				// A machine that is busy with other things makes it slower, and for a moment, after
				// it stood still, faster.
				var got float64
				for range 10 {
					if got, err = measure(way.from, way.to, network, net.JoinHostPort(way.addr, "90")); err != nil {
						return err
					}
					if least <= got && got <= most {
						break
					}
				}
				if got < least || got > most {
					t.Errorf("%s: by %s the pod %s %.1f Mbit/s, want %.1f", what, network, way.does, got/1e6, way.most/1e6)
				}
			}
			return nil
		}
		for _, tt := range []struct {
			what     string
			b        Bandwidth
			networks []string
		}{
			{"limited", Bandwidth{rate, rate / 2}, []string{"tcp4", "tcp6", "udp4", "udp6"}},
			{"changed", Bandwidth{rate / 2, rate}, []string{"tcp4"}},
			{"lifted", Bandwidth{}, []string{"tcp6"}},
		} {
			for range 2 { // to repeat it is no harm
				if err := SetBandwidth(link, tt.b); err != nil {
					return err
				}
			}
			for _, network := range tt.networks {
				if err := check(tt.what, network, tt.b); err != nil {
					return err
				}
			}
			if tt.what != "limited" {
				continue
			}
			if got, err := measure(pod, pod, "tcp4", "127.0.0.1:90"); err != nil || got < 10*float64(rate) {
				t.Errorf("loopback: %.1f Mbit/s, %v", got/1e6, err)
			}
			if ping, err := loaded(pod, here, net.JoinHostPort(Gateway.String(), "90"), net.JoinHostPort(Gateway.String(), "91")); err != nil || ping > testenv.Patience(200*time.Millisecond) {
				t.Errorf("under load an answer takes %v, %v", ping, err)
			}
		}
		if n := linkIndex(shaperOf(link)); n != 0 {
			t.Errorf("the link for what pods send is still there")
		}
		// It is no link of the host, and goes by itself.
		if err := SetBandwidth(link, Bandwidth{Egress: rate}); err != nil {
			return err
		}
		up, err := FindUplinks(Uplinks{})
		if err != nil {
			return err
		}
		for _, name := range append(up.V4, up.V6...) {
			if isPods(name) {
				t.Errorf("%s is taken for a link of the host", name)
			}
		}
		for range 2 {
			wait, err := RemoveShaper(link)
			if err != nil {
				return err
			}
			wait()
		}
		if _, err := netlink.LinkByName(shaperOf(link)); !errors.As(err, new(netlink.LinkNotFoundError)) {
			t.Errorf("the link for what pods send: %v", err)
		}
		// What was turned aside to it is again once there is one.
		if err := SetBandwidth(link, Bandwidth{Egress: rate}); err != nil {
			return err
		}
		if err := check("made again", "tcp4", Bandwidth{Egress: rate}); err != nil {
			return err
		}
		wait, err := RemoveShaper(link)
		if err != nil {
			return err
		}
		wait()
		if err := SetBandwidth("pbxnone", Bandwidth{}); err == nil {
			t.Error("a link that is not there is limited")
		}
		return nil
	})
}

// Buckets of the lowest and the highest rates are what the kernel takes.
func TestBandwidthBounds(t *testing.T) {
	onHost(t, func() error {
		ns, err := Create()
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := Connect(ns, linkPrefix+"0", addrA, 65535); err != nil {
			return err
		}
		for _, rate := range []uint64{minRate, 1e6, 1e9, 1e11, maxRate} {
			if err := SetBandwidth(linkPrefix+"0", Bandwidth{rate, rate}); err != nil {
				t.Errorf("%s: %v", FormatRate(rate), err)
				continue
			}
			qs, err := netlink.QdiscList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: linkIndex(linkPrefix + "0")}})
			if err != nil {
				return err
			}
			for _, q := range qs {
				if tbf, is := q.(*netlink.Tbf); is && (tbf.Rate != rate/8 || tbf.Limit < 65535) {
					t.Errorf("%s: %+v", FormatRate(rate), tbf)
				}
			}
		}
		wait, err := RemoveShaper(linkPrefix + "0")
		wait()
		return err
	})
}

// measure sends as much as it can from one namespace to a socket of another, for some
// time, and returns how many bits a second arrive.
func measure(from, to *NS, network, addr string) (float64, error) {
	var arrived atomic.Int64
	ready, err := sink(to, network, addr, &arrived)
	if err != nil {
		return 0, err
	}
	defer ready.Close()
	c, err := dialFrom(from, network, addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	go flood(c)
	time.Sleep(testenv.Patience(60 * time.Millisecond)) // until the first burst is through
	start, before := time.Now(), arrived.Load()
	time.Sleep(testenv.Patience(200 * time.Millisecond))
	return float64(arrived.Load()-before) * 8 / time.Since(start).Seconds(), nil
}

func dialFrom(ns *NS, network, addr string) (c net.Conn, err error) {
	dial := func() error {
		c, err = net.DialTimeout(network, addr, 3*time.Second)
		return err
	}
	return c, ns.Do(dial)
}

// flood writes until it cannot, which for UDP is a matter of the sender's queue.
func flood(c net.Conn) {
	size := 64 << 10
	if c.LocalAddr().Network() == "udp" {
		size = 1400
	}
	b := make([]byte, size)
	for {
		_, err := c.Write(b)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			time.Sleep(time.Millisecond)
		case err != nil && !errors.Is(err, unix.ECONNREFUSED):
			return
		}
	}
}

// sink counts what arrives at a socket.
func sink(ns *NS, network, addr string, n *atomic.Int64) (closer io.Closer, err error) {
	read := func(r io.Reader) {
		b := make([]byte, 64<<10)
		for {
			got, err := r.Read(b)
			if err != nil {
				return
			}
			n.Add(int64(got))
		}
	}
	listen := func() error {
		if network[:3] == "udp" {
			c, err := net.ListenPacket(network, addr)
			if err != nil {
				return err
			}
			closer = c
			go read(c.(*net.UDPConn))
			return nil
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			return err
		}
		closer = l
		go func() {
			c, err := l.Accept()
			if err == nil {
				defer c.Close()
				read(c)
			}
		}()
		return nil
	}
	return closer, ns.Do(listen)
}

// loaded returns how long an answer takes while the pod sends all that it may.
func loaded(pod, host *NS, busy, echo string) (time.Duration, error) {
	answers, err := serve(nil, "host", "udp", echo)
	if err != nil {
		return 0, err
	}
	defer answers.Close()
	s, err := sink(host, "tcp", busy, new(atomic.Int64))
	if err != nil {
		return 0, err
	}
	defer s.Close()
	c, err := dialFrom(pod, "tcp", busy)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	go flood(c)
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	_, _, err = ask(pod, "udp", echo)
	return time.Since(start), err
}
