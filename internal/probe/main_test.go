package probe

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within returns a context for one check.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// at returns host and port of a listener, or of a URL.
func at(t testing.TB, addr string) (string, uint16) {
	t.Helper()
	_, rest, found := strings.Cut(addr, "://")
	if !found {
		rest = addr
	}
	a, err := netip.ParseAddrPort(rest)
	if err != nil {
		t.Fatal(err)
	}
	return a.Addr().String(), a.Port()
}

// serve answers each connection to a port by a function, and returns the port.
func serve(t testing.TB, answer func(net.Conn)) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(10 * time.Second))
			answer(c)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	_, port := at(t, l.Addr().String())
	return port
}

// closedPort returns a port that nobody listens on.
func closedPort(t testing.TB) uint16 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port := at(t, l.Addr().String())
	return port
}
