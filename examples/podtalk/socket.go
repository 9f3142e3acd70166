//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// answer is what a server says to a message.
func answer(pid int, message string) string {
	return fmt.Sprintf("pid %d heard %q", pid, message)
}

// checkAnswer reports whether reply is what some server says to message.
func checkAnswer(reply, message string) error {
	var pid int
	if _, err := fmt.Sscanf(reply, "pid %d heard ", &pid); err != nil || reply != answer(pid, message) {
		return fmt.Errorf("said %q, was answered %q", message, reply)
	}
	return nil
}

// serveStream answers on a stream socket. A message is all that the client
// writes until it shuts down its side.
func (s *session) serveStream(ctx context.Context, network, addr string) error {
	l, err := new(net.ListenConfig).Listen(ctx, network, addr)
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()

	fmt.Fprintf(s.out, "listening on %v\n", l.Addr())
	for heard := 0; s.count == 0 || heard < s.count; {
		conn, err := l.Accept()
		if err != nil {
			return s.ended(ctx, heard, err)
		}
		message, err := hear(ctx, conn)
		switch {
		case err != nil: // this client's bad luck, not the next one's
			fmt.Fprintln(s.out, err)
		case message != "": // an empty one is a port scan or a probe
			s.report(message, conn.RemoteAddr())
			heard++
		}
	}
	return nil
}

// hear reads a message from conn, answers it and hangs up.
func hear(ctx context.Context, conn net.Conn) (message string, err error) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	b, err := io.ReadAll(io.LimitReader(conn, maxMessage))
	if err != nil || len(b) == 0 {
		return "", err
	}
	_, err = io.WriteString(conn, answer(os.Getpid(), string(b)))
	return string(b), err
}

// servePacket answers on a datagram socket. A message is a datagram.
func (s *session) servePacket(ctx context.Context, network, addr string) error {
	c, err := new(net.ListenConfig).ListenPacket(ctx, network, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()

	fmt.Fprintf(s.out, "listening on %v\n", c.LocalAddr())
	b := make([]byte, maxMessage)
	for heard := 0; s.count == 0 || heard < s.count; heard++ {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return s.ended(ctx, heard, err)
		}
		if _, err := c.WriteTo([]byte(answer(os.Getpid(), string(b[:n]))), from); err != nil {
			return err
		}
		s.report(string(b[:n]), from)
	}
	return nil
}

// report prints what was heard, and from where unless the sender has no name.
func (s *session) report(message string, from net.Addr) {
	if name := from.String(); name != "" && name != "@" {
		fmt.Fprintf(s.out, "heard %q from %s\n", message, name)
		return
	}
	fmt.Fprintf(s.out, "heard %q\n", message)
}

// ended makes the end of ctx an error only to a server that was to hear more.
func (s *session) ended(ctx context.Context, heard int, err error) error {
	switch {
	case ctx.Err() == nil:
		return err
	case s.count == 0:
		return nil
	}
	return fmt.Errorf("heard %d of %d messages (%w)", heard, s.count, context.Cause(ctx))
}

// resendAfter is how long the client waits for the answer to a datagram. It is
// long enough that on one machine only a datagram nobody heard is sent again.
const resendAfter = time.Second

// dial says message to the server at addr and prints the answer. It tries again
// for as long as there is no server.
func (s *session) dial(ctx context.Context, network, addr, message string) error {
	if err := checkMessage(message); err != nil {
		return err
	}
	var reply string
	err := retry(ctx, func() (err error) {
		reply, err = ask(ctx, network, addr, message)
		return err
	}, unix.ECONNREFUSED, unix.ENOENT, unix.EHOSTUNREACH, unix.ENETUNREACH, os.ErrDeadlineExceeded)
	if err != nil {
		return err
	}
	if err := checkAnswer(reply, message); err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, reply)
	return err
}

// ask makes one attempt to say message to the server at addr.
func ask(ctx context.Context, network, addr, message string) (reply string, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })()
	if _, err := io.WriteString(conn, message); err != nil {
		return "", err
	}

	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return "", err
		}
		b, err := io.ReadAll(conn)
		if len(b) == 0 && err == nil {
			err = errors.New("the server hung up without an answer")
		}
		return string(b), err
	}

	if err := conn.SetReadDeadline(time.Now().Add(resendAfter)); err != nil {
		return "", err
	}
	b := make([]byte, 1<<16) // as large as a datagram can be
	n, err := conn.Read(b)
	return string(b[:n]), err
}

// addresses prints who and where the program is.
func (s *session) addresses() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, name)
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Flags&net.FlagLoopback != 0 {
			continue
		}
		fmt.Fprintln(s.out, l.HardwareAddr)
		addrs, err := l.Addrs()
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok {
				fmt.Fprintln(s.out, ip.IP)
			}
		}
	}
	return nil
}
