package netns

import (
	"errors"
	"net"
	"os"
	"testing"
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
