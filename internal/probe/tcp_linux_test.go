package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTCP(t *testing.T) {
	ends := make(chan error, 1)
	port := serve(t, func(c net.Conn) {
		_, err := c.Read(make([]byte, 1))
		ends <- err
	})
	o, text, err := TCPSocket{Port: port}.Do(within(t, 10*time.Second), "127.0.0.1")
	if o != Success || text != "" || err != nil {
		t.Errorf("%v, %q, %v", o, text, err)
	}
	// An end, not a reset, which the program might complain of.
	if err := <-ends; err != io.EOF {
		t.Errorf("the program saw %v, want EOF", err)
	}
	if o, _, err := (TCPSocket{Host: "127.0.0.1", Port: port}).Do(within(t, 10*time.Second), "192.0.2.1"); o != Success || err != nil {
		t.Errorf("a host of its own: %v, %v", o, err)
	}
	<-ends
	o, text, err = TCPSocket{Port: closedPort(t)}.Do(within(t, 10*time.Second), "127.0.0.1")
	if o != Failure || !strings.Contains(text, "connection refused") || err != nil {
		t.Errorf("nobody listens: %v, %q, %v", o, text, err)
	}
	if o, _, err := (TCPSocket{}).Do(context.Background(), "127.0.0.1"); o != Failure || !errors.Is(err, ErrInvalid) {
		t.Errorf("port 0: %v, %v", o, err)
	}
}

// TestTCPTimeout connects to a listener whose queue is full: the kernel answers
// nothing.
func TestTCPTimeout(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	check := TCPSocket{Port: uint16(sa.(*unix.SockaddrInet4).Port)}
	var text string
	for range 4 {
		var o Outcome
		began := time.Now()
		if o, text, err = check.Do(within(t, 200*time.Millisecond), "127.0.0.1"); o == Failure {
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
			break
		}
	}
	if !strings.Contains(text, "i/o timeout") || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

func TestLinger(t *testing.T) {
	port := serve(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	c, err := dial(t.Context(), t.Context(), hostPort("127.0.0.1", "", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*conn).Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var on int
	raw.Control(func(fd uintptr) {
		// The first word of struct linger: whether it is set.
		on, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_LINGER)
	})
	if on != 1 || err != nil {
		t.Errorf("linger %d, %v", on, err)
	}
}
