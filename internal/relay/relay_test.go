package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serve runs a relay from a listener to whoever answers at to. It returns the address of
// the listener.
func serve(t *testing.T, r *Relay) string {
	t.Helper()
	l := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { r.Serve(ctx, l); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return l.Addr().String()
}

func to(l net.Listener) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
}

// pair returns both ends of a connection that goes through a relay.
func pair(t *testing.T, r *Relay) (near, far *net.TCPConn) {
	t.Helper()
	l := listen(t)
	r.Dial = to(l)
	c, err := net.Dial("tcp", serve(t, r))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	f, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for _, c := range []net.Conn{c, f} {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	return c.(*net.TCPConn), f.(*net.TCPConn)
}

// Each side is told of the other's end, and goes on to speak: as in a request that ends
// with the end of what is sent.
func TestHalfClose(t *testing.T) {
	near, far := pair(t, new(Relay))
	for _, c := range []struct {
		name     string
		from, to *net.TCPConn
	}{{"there", near, far}, {"back", far, near}} {
		text := bytes.Repeat([]byte(c.name), 1<<18) // does not fit into the buffers
		go func() {
			_, _ = c.from.Write(text)
			_ = c.from.CloseWrite()
		}()
		got, err := io.ReadAll(c.to)
		if err != nil || !bytes.Equal(got, text) {
			t.Fatalf("%s: %d bytes and %v, want %d", c.name, len(got), err, len(text))
		}
	}
}

// What breaks off on one side breaks off on the other.
func TestReset(t *testing.T) {
	for name, far := range map[string]bool{"near": false, "far": true} {
		t.Run(name, func(t *testing.T) {
			one, other := pair(t, new(Relay))
			if far {
				one, other = other, one
			}
			if _, err := one.Write([]byte("half a")); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 6)
			if _, err := io.ReadFull(other, b); err != nil {
				t.Fatal(err)
			}
			_ = one.SetLinger(0)
			one.Close()
			if _, err := other.Read(b); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the other side reads %v, want ECONNRESET", err)
			}
		})
	}
}

func TestDrop(t *testing.T) {
	r := new(Relay)
	near, far := pair(t, r)
	if _, err := near.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	r.Drop()
	for _, c := range []net.Conn{near, far} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("after Drop: %v, want ECONNRESET", err)
		}
	}
}

// A connection that is being dialed when others are dropped may have been made to what they
// were dropped for.
func TestDropWhileDialing(t *testing.T) {
	l, dropped := listen(t), make(chan struct{})
	r := new(Relay)
	r.Dial = func(ctx context.Context) (net.Conn, error) {
		c, err := to(l)(ctx)
		<-dropped
		return c, err
	}
	near, err := net.Dial("tcp", serve(t, r))
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	r.Drop()
	close(dropped)
	for _, c := range []net.Conn{near, far} {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("after Drop: %v, want ECONNRESET", err)
		}
	}
}

// Serve ends with its context, and so do the connections.
func TestEnd(t *testing.T) {
	l := listen(t)
	r := &Relay{Dial: to(listen(t))}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { r.Serve(ctx, l); close(done) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("Serve goes on")
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, unix.EAGAIN) {
		t.Errorf("the connection goes on: %v", err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the listener goes on: %v", err)
	}
}

// Nobody answers: the caller sees a reset, the reason is told, and the next one may be
// answered.
func TestDialFails(t *testing.T) {
	why := errors.New("no such port")
	var told atomic.Value
	var up atomic.Bool
	back := listen(t)
	r := &Relay{
		Dial: func(ctx context.Context) (net.Conn, error) {
			if up.Load() {
				return to(back)(ctx)
			}
			return nil, why
		},
		Failed: func(err error) { told.Store(err) },
	}
	addr := serve(t, r)
	c, err := net.Dial("tcp", addr)
	if err == nil { // it may be reset before Dial returns
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("read: %v, want ECONNRESET", err)
	}
	// It is told after the reset.
	for range 1000 {
		if told.Load() != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if told.Load() != why {
		t.Errorf("told %v, want %v", told.Load(), why)
	}
	up.Store(true)
	c2, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	f, err := back.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// Serve goes on after an error of accept.
func TestAcceptFails(t *testing.T) {
	var told atomic.Int32
	l := listen(t)
	flaky := &flaky{Listener: l, left: 3}
	back := listen(t)
	r := &Relay{Dial: to(back), Failed: func(error) { told.Add(1) }}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Serve(ctx, flaky) })
	defer wg.Wait()
	defer cancel()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := back.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if told.Load() != 3 {
		t.Errorf("told of %d errors, want 3", told.Load())
	}
}

// A flaky listener fails some times.
type flaky struct {
	net.Listener
	left int
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.left > 0 {
		f.left--
		return nil, unix.EMFILE
	}
	return f.Listener.Accept()
}

func TestMany(t *testing.T) {
	back := listen(t)
	go func() {
		for {
			c, err := back.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	addr := serve(t, &Relay{Dial: to(back), Failed: func(err error) { t.Error(err) }})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			want := bytes.Repeat([]byte{byte(i)}, 10000)
			_, _ = c.Write(want)
			_ = c.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
				t.Errorf("connection %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
}
