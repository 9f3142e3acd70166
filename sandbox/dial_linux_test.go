package sandbox

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/netns"
)

// say answers each TCP connection to an address in the pod with a text.
func say(t *testing.T, s *Sandbox, network, addr, text string) (stop func()) {
	t.Helper()
	inPod(t, s, func() error {
		l, err := net.Listen(network, addr)
		if err != nil {
			return err
		}
		stop = func() { l.Close() }
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, text)
				c.Close()
			}
		}()
		return nil
	})
	t.Cleanup(stop)
	return stop
}

func heard(t *testing.T, s *Sandbox, addr string) string {
	t.Helper()
	c, err := s.Dial(bg, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Dial reaches what listens on the pod's loopback only, whatever its network is.
func TestDial(t *testing.T) {
	for name, network := range map[string]netns.Network{"pod": {}, "none": netns.None()} {
		t.Run(name, func(t *testing.T) {
			rt, world := newRuntime(t, nil)
			s := create(t, rt, Spec{Name: "p", Network: network})
			stop := say(t, s, "tcp4", "127.0.0.1:80", "by IPv4")
			stop6 := say(t, s, "tcp6", "[::1]:81", "by IPv6")
			for addr, want := range map[string]string{
				"127.0.0.1:80": "by IPv4", "localhost:80": "by IPv4", "localhost:81": "by IPv6", "[::1]:81": "by IPv6",
			} {
				if got := heard(t, s, addr); got != want {
					t.Errorf("%s says %q, want %q", addr, got, want)
				}
			}
			// And not the host's.
			if c, err := net.Dial("tcp", "127.0.0.1:80"); err == nil {
				c.Close()
				t.Error("the host's 127.0.0.1 is the pod's")
			}
			if _, err := s.Dial(bg, "tcp", "localhost:82"); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("nobody listens: %v, want ECONNREFUSED", err)
			}
			stop()
			stop6()

			threads := testenv.Threads(t)
			for range 20 {
				_, _ = s.Dial(bg, "tcp", "localhost:82")
			}
			deadline := time.Now().Add(5 * time.Second)
			for testenv.Threads(t) > threads+5 {
				if time.Now().After(deadline) {
					t.Fatalf("%d threads, %d before", testenv.Threads(t), threads)
				}
				time.Sleep(10 * time.Millisecond)
			}
			if err := s.Remove(bg); err != nil {
				t.Fatal(err)
			}
			world.Same(t, rt.root, "after Dial")
		})
	}
}

func TestDialUDP(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	s := create(t, rt, Spec{Name: "p"})
	echo(t, s, "127.0.0.1:53", "pod")
	c, err := s.Dial(bg, "udp", "localhost:53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := who(t, c); got != "pod" {
		t.Errorf("%q answers, want pod", got)
	}
}

// A pod on the host's network has its localhost.
func TestDialHost(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = io.WriteString(c, "host")
			c.Close()
		}
	}()
	s := create(t, rt, Spec{Name: "p", Network: netns.Host(), Share: []Namespace{IPC, UTS}})
	if got := heard(t, s, l.Addr().String()); got != "host" {
		t.Errorf("%q answers, want host", got)
	}
}

// A pod that is started again has another network, healed it has the same.
func TestDialFollows(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	s := create(t, rt, Spec{Name: "p"})
	say(t, s, "tcp4", "127.0.0.1:80", "first")
	if got := heard(t, s, "localhost:80"); got != "first" {
		t.Errorf("%q answers, want first", got)
	}
	if err := s.Stop(bg, StopOptions{Grace: -1}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Dial(bg, "tcp", "localhost:80"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stopped: %v, want ErrNotRunning", err)
	}
	if err := s.Start(bg); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Dial(bg, "tcp", "localhost:80"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("started: %v, want ECONNREFUSED", err)
	}
	say(t, s, "tcp4", "127.0.0.1:80", "second")
	if got := heard(t, s, "localhost:80"); got != "second" {
		t.Errorf("%q answers, want second", got)
	}
	if err := s.Remove(bg); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Dial(bg, "tcp", "localhost:80"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed: %v, want ErrNotFound", err)
	}
}

// Dial ends with its context: here nobody answers.
func TestDialEnds(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	s := create(t, rt, Spec{Name: "p"})
	ctx, cancel := context.WithTimeout(bg, 50*time.Millisecond)
	defer cancel()
	// The host has no route to there, and drops what it would have to forward.
	_, err := s.Dial(ctx, "tcp", "10.88.255.254:80")
	if err == nil {
		t.Fatal("somebody answers")
	}
}

func TestDialRefuses(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	s := create(t, rt, Spec{Name: "p", Network: netns.None()})
	for _, c := range []struct{ network, addr, want string }{
		{"tcp", "80", "missing port"},
		{"tcp", "localhost:0", "want one from 1 to 65535"},
		{"tcp", "localhost:http", "want one from 1 to 65535"},
		{"tcp", "example.org:80", "want an IP address, or localhost"},
		{"tcp", ":80", "want an IP address, or localhost"},
		{"tcp", "[fe80::1%eth0]:80", "want an address without a zone"},
		{"unix", "/run/x", "want tcp or udp"},
	} {
		_, err := s.Dial(bg, c.network, c.addr)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want ErrInvalid with %q", c.network, c.addr, err, c.want)
		}
	}
}
