//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// The ports that are served in each pod, by TCP and UDP: one, and some that ranges lead to.
const (
	servedPort  = 80
	firstServed = 26500
	lastServed  = 26509
)

// answer is what runs in pods: whoever connects, or sends, is told the host's name, which is
// the pod's.
func answer() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	ports := []int{servedPort}
	for p := firstServed; p <= lastServed; p++ {
		ports = append(ports, p)
	}
	for _, p := range ports {
		at := fmt.Sprintf("[::]:%d", p)
		l, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					continue
				}
				_, _ = io.WriteString(c, name)
				c.Close()
			}
		}()
		u, err := net.ListenPacket("udp", at)
		if err != nil {
			return err
		}
		go func() {
			b := make([]byte, 64)
			for {
				if _, from, err := u.ReadFrom(b); err == nil {
					_, _ = u.WriteTo([]byte(name), from)
				}
			}
		}()
	}
	select {}
}

// errSilent says that nobody answered.
var errSilent = errors.New("no answer")

// ask asks who is at a port. It opens its socket on the calling thread, in whose namespace
// that is.
func ask(protocol string, at netip.AddrPort, patience time.Duration) (name string, err error) {
	d := net.Dialer{Timeout: patience}
	c, err := d.Dial(protocol, at.String())
	if err != nil {
		return "", fmt.Errorf("%w: %w", errSilent, err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if strings.HasPrefix(protocol, "udp") {
		if _, err := io.WriteString(c, "who"); err != nil {
			return "", fmt.Errorf("%w: %w", errSilent, err)
		}
		b := make([]byte, 256)
		n, err := c.Read(b)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errSilent, err)
		}
		return string(b[:n]), nil
	}
	b, err := io.ReadAll(io.LimitReader(c, 256))
	if err == nil && len(b) == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", errSilent, err)
	}
	return string(b), nil
}
