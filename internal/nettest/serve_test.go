package nettest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var background = context.Background()

// patience is how long a test waits for what must come.
const patience = 5 * time.Second

// serve has a node tell whoever asks its name, and the address that it sees; a
// connection of TCP is then an echo. It ends with the test, or by the function that it
// returns.
func (l *lab) serve(n *node, network, address string) (stop func()) {
	l.Helper()
	var c io.Closer
	l.must(n.do(func() (err error) {
		c, err = serve(n.name, network, address)
		return err
	}))
	l.Cleanup(func() { c.Close() })
	return func() { c.Close() }
}

// serve is lab.serve in the namespace of the calling thread.
func serve(name, network, address string) (io.Closer, error) {
	if strings.HasPrefix(network, "udp") {
		c, err := net.ListenPacket(network, address)
		if err != nil {
			return nil, err
		}
		go answerPackets(c, name)
		return c, nil
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := fmt.Fprintln(c, greeting(name, c.RemoteAddr())); err == nil {
					// Without splice, whose pipes would stay for the next connection.
					_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
				}
			}()
		}
	}()
	return ln, nil
}

func answerPackets(c net.PacketConn, name string) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		// What is large is answered by as much.
		_, _ = c.WriteTo(append([]byte(greeting(name, from)+"\n"), b[:n]...), from)
	}
}

func greeting(name string, from net.Addr) string { return name + " sees " + from.String() }

// What becomes of a question that nobody answers.
const (
	refused     = "refused"
	nothing     = "nothing"
	unreachable = "unreachable"
	ended       = "ended" // before there was an answer
)

// reaches checks who answers a node at an address, and which address it sees: "web sees
// 192.0.2.1", or one of the words above.
func (l *lab) reaches(n *node, network, address, want string) {
	l.Helper()
	if got := l.ask(n, network, address, want); got != want {
		l.Errorf("%s to %s %s: %s, want %s", n.name, network, address, got, want)
	}
}

// ask is who answers, without the port that is seen. Where nothing is expected it has
// little patience.
func (l *lab) ask(n *node, network, address, want string) string {
	l.Helper()
	wait := patience
	if want == nothing {
		wait = 300 * time.Millisecond
	}
	answer, err := askFrom(n, network, address, "", wait)
	if err != nil {
		return outcome(err)
	}
	return withoutPort(answer)
}

// withoutPort takes the port and the zone from what a server says.
func withoutPort(answer string) string {
	name, seen, ok := strings.Cut(answer, " sees ")
	host, _, err := net.SplitHostPort(seen)
	if !ok || err != nil {
		return answer
	}
	host, _, _ = strings.Cut(host, "%")
	return name + " sees " + host
}

// outcome is the word for an error of a socket.
func outcome(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return refused
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return ended
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		return unreachable
	case errors.As(err, &timeout) && timeout.Timeout():
		return nothing
	}
	return err.Error()
}

// askFrom asks once, from an address with a port if that is not empty, and returns the
// whole answer.
func askFrom(n *node, network, address, from string, patience time.Duration) (answer string, err error) {
	c, err := dialFrom(n, network, address, from, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return question(c, patience)
}

// question asks on a connection and returns the first line of the answer.
func question(c net.Conn, patience time.Duration) (string, error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, udp := c.(*net.UDPConn); udp {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

func dialFrom(n *node, network, address, from string, patience time.Duration) (c net.Conn, err error) {
	d := net.Dialer{Timeout: patience}
	if from != "" {
		local, err := netip.ParseAddrPort(from)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(network, "udp") {
			d.LocalAddr = net.UDPAddrFromAddrPort(local)
		} else {
			d.LocalAddr = net.TCPAddrFromAddrPort(local)
		}
	}
	err = n.do(func() error {
		c, err = d.Dial(network, address)
		return err
	})
	return c, err
}

// dial opens a connection for the life of the test.
func (l *lab) dial(n *node, network, address string) net.Conn {
	l.Helper()
	c, err := dialFrom(n, network, address, "", patience)
	l.must(err)
	l.Cleanup(func() { c.Close() })
	return c
}

// A conversation is a connection of TCP that stays.
type conversation struct {
	net.Conn
	r *bufio.Reader
	n int
}

// converse opens one, and checks who answers.
func (l *lab) converse(n *node, address, want string) *conversation {
	l.Helper()
	c := l.dial(n, "tcp", address)
	_ = c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if got := withoutPort(strings.TrimSuffix(line, "\n")); err != nil || got != want {
		l.Fatalf("%s to %s: %q, %v, want %q", n.name, address, got, err, want)
	}
	return &conversation{Conn: c, r: r}
}

// goesOn says a word and waits for its echo.
func (c *conversation) goesOn(patience time.Duration) error {
	c.n++
	word := fmt.Sprintf("word %d\n", c.n)
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, word); err != nil {
		return err
	}
	got, err := c.r.ReadString('\n')
	if err == nil && got != word {
		err = fmt.Errorf("said %q, heard %q", word, got)
	}
	return err
}

// acknowledge has the kernel say at once that all has come, which it would do a little
// later: then nothing is on its way any more.
func (c *conversation) acknowledge() error {
	return onSocket(c.Conn, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
}
