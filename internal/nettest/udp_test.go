package nettest

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/podbox/podbox/netns"
)

// A sender of UDP goes on with the same socket, every few milliseconds, as those do that
// know of no connection. Whoever publishes the port now hears it: after a removal, live
// changes, a stop and a start. The kernel by itself would go on to send where the first
// datagram went.
func TestUDPMovesOn(t *testing.T) {
	l := newLab(t)
	client := l.machine("client")
	for _, at := range []string{hostIP + ":22053", "[" + hostIP6 + "]:22053"} {
		s := l.keepSending(client, at)
		s.hears(nothing, "before there is a pod")
		a := l.pod("a", "22053:53/udp")
		stopA := l.serveUDP(a, "53")
		s.hears("a", "published by create")
		b := l.pod("b")
		l.serveUDP(b, "53")

		l.must(a.Unpublish(l.Context(), a.port(t)))
		s.hears(nothing, "unpublished")
		l.must(b.Publish(l.Context(), l.ports("22053:53/udp")...))
		s.hears("b", "published by another, live")
		l.must(b.Unpublish(l.Context(), b.port(t)))
		l.must(a.Publish(l.Context(), l.ports("22053:53/udp")...))
		s.hears("a", "back, with nothing in between")

		stopA()
		a.leave()
		l.must(a.Remove(l.Context()))
		l.must(b.Publish(l.Context(), l.ports("22053:53/udp")...))
		s.hears("b", "after the other one was removed")
		b.leave()
		l.must(b.Remove(l.Context()))
		s.hears(nothing, "all removed")
		c := l.pod("c", "22053:53/udp")
		l.serveUDP(c, "53")
		s.hears("c", "published by create after a removal")
		c.leave()
		l.must(c.Remove(l.Context()))
		s.end()
	}
}

// The same of what reaches a process of the host: it has the port again when no pod has
// it any more.
func TestUDPGoesBackToHost(t *testing.T) {
	l := newLab(t)
	client := l.machine("client")
	s := l.keepSending(client, hostIP+":22054")
	a := l.pod("a", "22054:53/udp")
	l.serveUDP(a, "53")
	s.hears("a", "published")
	l.must(a.Unpublish(l.Context(), a.port(t)))
	l.serve(l.host, "udp", ":22054")
	s.hears("host", "unpublished, and a process of the host listens")
	s.end()
}

func (p *pod) port(t *testing.T) netns.Port {
	t.Helper()
	i, err := p.Info()
	if err != nil || len(i.Ports) != 1 {
		t.Fatalf("ports of %s: %v, %v, want one", p.name, i.Ports, err)
	}
	return i.Ports[0]
}

// serveUDP answers at both of the pod's addresses.
func (l *lab) serveUDP(p *pod, port string) (stop func()) {
	l.Helper()
	stop4, stop6 := l.serve(p.node, "udp", p.at(port)), l.serve(p.node, "udp", p.at6(port))
	return func() {
		stop4()
		stop6()
	}
}

// A sender sends from one port, and does not stop.
type sender struct {
	l     *lab
	conn  net.Conn
	ended chan struct{}
	heard chan string // who answered
}

func (l *lab) keepSending(n *node, address string) *sender {
	l.Helper()
	s := &sender{l: l, conn: l.dial(n, "udp", address), ended: make(chan struct{}), heard: make(chan string, 1000)}
	go func() {
		defer close(s.ended)
		for {
			// That nobody listens is told once for each datagram.
			if _, err := s.conn.Write([]byte("?")); errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(3 * time.Millisecond)
		}
	}()
	go func() {
		b := make([]byte, 200)
		for {
			n, err := s.conn.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				name, _, _ := strings.Cut(string(b[:n]), " ")
				s.heard <- name
			}
		}
	}()
	return s
}

func (s *sender) end() {
	s.conn.Close()
	<-s.ended
}

// hears checks who answers from now on. What is on its way may still come.
func (s *sender) hears(want, when string) {
	s.l.Helper()
	time.Sleep(20 * time.Millisecond)
	for len(s.heard) > 0 {
		<-s.heard
	}
	wait := patience
	if want == nothing {
		wait = 60 * time.Millisecond
	}
	got := nothing
	select {
	case got = <-s.heard:
	case <-time.After(wait):
	}
	if got != want {
		s.l.Errorf("%s, %s: %s answers, want %s", s.conn.RemoteAddr(), when, got, want)
	}
}
