//go:build linux

// Packetcost tells what a way through the kernel costs: from one network namespace to an
// address in another and back, on one CPU, by one thread that has a socket at either end. Nobody is
// woken and nothing waits, so it is the same on a busy machine if that thread has the CPU
// for itself.
//
// usage: chrt -f 10 taskset -c 1 packetcost udp|tcp FROM TO ADDRESS:PORT LISTEN-PORT
//
// FROM and TO are paths of network namespaces; LISTEN-PORT is that of TO. It prints, of UDP,
// nanoseconds for a datagram of 64 bytes each way, and of TCP, Gbit/s of one connection: the
// best tenth of a second of two.
package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lasts  = 2 * time.Second
	window = 100 * time.Millisecond
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "packetcost:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 5 {
		return errors.New("want udp or tcp, two namespaces, an address and a port")
	}
	to, err := netip.ParseAddrPort(args[3])
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(args[4], 10, 16)
	if err != nil {
		return err
	}
	kind := map[string]int{"udp": unix.SOCK_DGRAM, "tcp": unix.SOCK_STREAM}[args[0]]
	if kind == 0 {
		return fmt.Errorf("%q: want udp or tcp", args[0])
	}
	runtime.LockOSThread() // for good
	server, err := socket(args[2], to.Addr().Is6(), kind)
	if err != nil {
		return err
	}
	anywhere := netip.IPv4Unspecified()
	if to.Addr().Is6() {
		anywhere = netip.IPv6Unspecified()
	}
	if err := unix.Bind(server, sockaddr(netip.AddrPortFrom(anywhere, uint16(port)))); err != nil {
		return fmt.Errorf("bind port %d: %w", port, err)
	}
	client, err := socket(args[1], to.Addr().Is6(), kind)
	if err != nil {
		return err
	}
	if kind == unix.SOCK_DGRAM {
		err = unix.Connect(client, sockaddr(to))
		if err == nil {
			err = datagrams(client, server)
		}
		return err
	}
	if err := unix.Listen(server, 1); err != nil {
		return err
	}
	if err := unix.Connect(client, sockaddr(to)); err != nil {
		return fmt.Errorf("connect to %s: %w", to, err)
	}
	accepted, _, err := unix.Accept(server)
	if err != nil {
		return err
	}
	return stream(client, accepted)
}

// socket opens a socket in a namespace, and leaves the thread there.
func socket(ns string, v6 bool, kind int) (int, error) {
	f, err := os.Open(ns)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return -1, fmt.Errorf("join %s: %w", ns, err)
	}
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	patience := unix.NsecToTimeval(time.Second.Nanoseconds())
	return fd, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// datagrams sends one, answers it, and so on.
func datagrams(client, server int) error {
	best := time.Duration(1 << 62)
	b := make([]byte, 64)
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		n := 0
		begin := time.Now()
		for ; n%100 != 0 || time.Since(begin) < window; n++ {
			if _, err := unix.Write(client, b); err != nil {
				return fmt.Errorf("send: %w", err)
			}
			_, from, err := unix.Recvfrom(server, b, 0)
			if err != nil {
				return fmt.Errorf("receive: %w", err)
			}
			if err := unix.Sendto(server, b, 0, from); err != nil {
				return fmt.Errorf("answer: %w", err)
			}
			if _, err := unix.Read(client, b); err != nil {
				return fmt.Errorf("receive the answer: %w", err)
			}
		}
		best = min(best, time.Since(begin)/time.Duration(2*n))
	}
	fmt.Println(best.Nanoseconds())
	return nil
}

// stream sends as much as goes, and takes it in at the other end.
func stream(client, server int) error {
	for _, fd := range []int{client, server} {
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
	}
	best := 0.0
	b := make([]byte, 128<<10)
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		received := 0
		begin := time.Now()
		for time.Since(begin) < window {
			if _, err := unix.Write(client, b); err != nil && !errors.Is(err, unix.EAGAIN) {
				return fmt.Errorf("send: %w", err)
			}
			for {
				n, err := unix.Read(server, b)
				if errors.Is(err, unix.EAGAIN) {
					break
				}
				if err != nil {
					return fmt.Errorf("receive: %w", err)
				}
				if n == 0 {
					return net.ErrClosed
				}
				received += n
			}
		}
		best = max(best, float64(received)*8/time.Since(begin).Seconds()/1e9)
	}
	fmt.Printf("%.1f\n", best)
	return nil
}
