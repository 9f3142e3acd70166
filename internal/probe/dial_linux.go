package probe

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxConn limits, in bytes, what is read of one connection, whatever it means: all
// that lies above is then limited too, such as frames of HTTP/2 that carry nothing.
const maxConn = 1 << 20

var errTooMuch = errors.New("the answer is larger than 1 MiB")

// dial connects to addr. The connection does not live longer than life.
func dial(ctx, life context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{
		KeepAlive: -1,
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			// As the kubelet's (kubernetes#89898). It is to have fewer sockets
			// in TIME-WAIT, of which a check of TCP leaves one for a minute; on
			// Linux 6.18 it does not shorten that, measured, but bounds what
			// waits for a peer that has stopped. A time of 0 would leave none,
			// and the program that is checked would see a reset.
			return errors.Join(c.Control(func(fd uintptr) {
				err = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 1})
			}), err)
		},
	}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	// A deadline, not Close: who reads or writes finds out, and closes.
	stop := context.AfterFunc(life, func() { c.SetDeadline(time.Unix(1, 0)) })
	return &conn{Conn: c, left: maxConn, stop: stop}, nil
}

// A conn is a connection of which only so much can be read. Only one goroutine
// reads it.
type conn struct {
	net.Conn
	left int
	stop func() bool
}

func (c *conn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

func (c *conn) Close() error {
	c.stop()
	return c.Conn.Close()
}
