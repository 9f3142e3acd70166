package netns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Who listens is named; a connection that goes out, or a neighbour, is in nobody's way.
func TestUnheard(t *testing.T) {
	onHost(t, func() error {
		tcp, err := net.Listen("tcp", "127.0.0.1:8080")
		if err != nil {
			return err
		}
		defer tcp.Close()
		udp, err := net.ListenPacket("udp", ":5300")
		if err != nil {
			return err
		}
		defer udp.Close()
		six, err := net.Listen("tcp6", "[::1]:9090")
		if err != nil {
			return err
		}
		defer six.Close()
		both, err := net.Listen("tcp", ":7070")
		if err != nil {
			return err
		}
		defer both.Close()
		udp6, err := net.ListenPacket("udp6", "[::]:5400") // of IPv6 only
		if err != nil {
			return err
		}
		defer udp6.Close()
		mapped, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(mapped)
		at := netip.MustParseAddr("::ffff:127.0.0.1")
		if err := errors.Join(unix.Bind(mapped, &unix.SockaddrInet6{Addr: at.As16(), Port: 4040}), unix.Listen(mapped, 1)); err != nil {
			return err
		}
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 6060}}).Dial("tcp", "127.0.0.1:8080")
		if err != nil {
			return err
		}
		defer c.Close()
		for port, heard := range map[string]bool{
			"8080:80":               true,
			"127.0.0.1:8080:80":     true,
			"0.0.0.0:8080:80":       true,
			"8000-8100:100-200":     true,
			"127.0.0.2:8080:80":     false,
			"[::]:8080:80":          false,
			"8080:80/udp":           false,
			"5300:53/udp":           true,
			"127.0.0.1:5300:53/udp": true,
			"5300:53":               false,
			"9090:80":               true,
			"0.0.0.0:9090:80":       false,
			"127.0.0.1:7070:80":     true,
			"6060:80":               false,
			"8080:80/sctp":          false,
			"[::]:7070:80":          true,
			"[::]:5300:53/udp":      true,
			"5400:53/udp":           true,
			"[::]:5400:53/udp":      true,
			"0.0.0.0:5400:53/udp":   false,
			"127.0.0.1:5400:53/udp": false,
			"4040:80":               true,
			"127.0.0.1:4040:80":     true,
			"127.0.0.2:4040:80":     false,
		} {
			err := Unheard(mustParsePort(port))
			var le *ListenerError
			if heard != errors.As(err, &le) || !heard && err != nil {
				t.Errorf("%s: %v", port, err)
			}
			if le != nil && (le.PID != os.Getpid() || le.Name == "" || !errors.Is(err, ErrInUse)) {
				t.Errorf("%s: %+v, want process %d", port, le, os.Getpid())
			}
		}
		if err := Unheard(mustParsePort("198.51.100.1:80:80")); !errors.Is(err, ErrInvalid) {
			t.Errorf("an address of somebody else: %v", err)
		}
		return nil
	})
}
