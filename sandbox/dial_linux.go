package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
)

// Dial connects to an address as a program in the pod does, whatever the pod's network
// is: with 127.0.0.1 the pod itself is meant. The network is tcp or udp; the address is
// an IP address and a port, or localhost and a port: that is 127.0.0.1, or ::1 if nobody
// listens there. Nothing is started in the pod, but it takes a thread while it waits.
// ErrNotRunning if its pause does not live.
//
// The connection may be used from any goroutine. It does not keep the pod from being
// stopped or removed; but the kernel keeps the pod's network namespace, without its link,
// until the connection is closed.
func (s *Sandbox) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := s.dial(ctx, network, address)
	if err != nil {
		return nil, s.wrap("dial "+address+" in", err)
	}
	return c, nil
}

func (s *Sandbox) dial(ctx context.Context, network, address string) (net.Conn, error) {
	addrs, err := podAddrs(network, address)
	if err != nil {
		return nil, err
	}
	rec, err := readRecord(s.rt.podDir(s.id))
	if err != nil {
		return nil, notFound(err)
	}
	if rec.State != Running {
		return nil, fmt.Errorf("%w: its state is %s", ErrNotRunning, rec.State)
	}
	pause, err := openPause(rec)
	if errors.Is(err, proc.ErrGone) {
		return nil, fmt.Errorf("%w: its pause is gone", ErrNotRunning)
	}
	if err != nil {
		return nil, err
	}
	defer pause.Close()
	var c net.Conn
	err = nsthread.Do(func() (err error) {
		if rec.Spec.shares(Net) {
			err = nsthread.Join(pause, unix.CLONE_NEWNET)
			if errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("%w: its pause is gone", ErrNotRunning)
			}
			if err != nil {
				return err
			}
		}
		// A Dialer makes its socket on the goroutine that calls it, unless there is
		// a name to be looked up.
		var d net.Dialer
		for _, addr := range addrs {
			c, err = d.DialContext(ctx, network, addr.String())
			if !errors.Is(err, unix.ECONNREFUSED) {
				break
			}
		}
		return err
	})
	return c, err
}

// podAddrs returns what an address in a pod stands for, in the order to try it.
func podAddrs(network, address string) ([]netip.AddrPort, error) {
	if network != "tcp" && network != "udp" {
		return nil, fmt.Errorf("network %q: %w: want tcp or udp", network, ErrInvalid)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("port %q: %w: want one from 1 to 65535", port, ErrInvalid)
	}
	if host == "localhost" {
		return []netip.AddrPort{
			netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(n)),
			netip.AddrPortFrom(netip.IPv6Loopback(), uint16(n)),
		}, nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return nil, fmt.Errorf("host %q: %w: want an IP address, or localhost", host, ErrInvalid)
	}
	if ip.Zone() != "" {
		// Package net looks links up for the whole program, whose namespace is another.
		return nil, fmt.Errorf("host %q: %w: want an address without a zone", host, ErrInvalid)
	}
	return []netip.AddrPort{netip.AddrPortFrom(ip, uint16(n))}, nil
}
