// Package relay passes connections on to somewhere else, both ways, until both sides have
// said all that they have to say. What one side ends, the other sees end: whether it says
// that it has no more to say, or breaks off.
//
// The kernel moves the bytes from socket to socket (splice(2)) where both are TCP.
package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// A Relay passes connections on. Its fields are not changed once it is used; it may be
// used for several listeners at once.
type Relay struct {
	// Dial makes the connection to which one that has come is passed on. Its context
	// ends with that of Serve.
	Dial func(context.Context) (net.Conn, error)
	// Failed, if it is not nil, is told why a connection could not be accepted or
	// passed on. It may be called from several goroutines at once.
	Failed func(error)

	mu    sync.Mutex
	open  map[net.Conn]struct{}
	drops int // how often Drop was called
}

// Serve accepts connections and passes them on, until ctx ends or the listener is closed.
// It then closes the listener and all that came by it, and returns when that is done.
func (r *Relay) Serve(ctx context.Context, l net.Listener) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	for wait := time.Duration(0); ; {
		c, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			wg.Go(func() { r.pass(ctx, c) })
			continue
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			return
		}
		// Most likely there are too many open files; some will be closed.
		r.failed(err)
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Drop breaks off all connections that are passed on, and those that are being dialed as
// soon as they are there.
func (r *Relay) Drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drops++
	for c := range r.open {
		reset(c)
	}
}

func (r *Relay) failed(err error) {
	if r.Failed != nil {
		r.Failed(err)
	}
}

// pass passes one connection on. It returns when both sides have ended.
func (r *Relay) pass(ctx context.Context, from net.Conn) {
	defer from.Close()
	drops := r.dropped()
	to, err := r.Dial(ctx)
	if err != nil {
		// Whoever called sees that it was not answered, rather than an end.
		reset(from)
		if ctx.Err() == nil {
			r.failed(err)
		}
		return
	}
	defer to.Close()
	defer r.forget(from, to)
	if !r.keep(drops, from, to) {
		reset(from)
		reset(to)
		return
	}
	stop := context.AfterFunc(ctx, func() { reset(from); reset(to) })
	defer stop()

	var wg sync.WaitGroup
	wg.Go(func() { copyAll(to, from) })
	wg.Go(func() { copyAll(from, to) })
	wg.Wait()
}

func (r *Relay) dropped() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.drops
}

// keep reports false if connections have been dropped since.
func (r *Relay) keep(drops int, conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drops != drops {
		return false
	}
	if r.open == nil {
		r.open = make(map[net.Conn]struct{})
	}
	for _, c := range conns {
		r.open[c] = struct{}{}
	}
	return true
}

func (r *Relay) forget(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		delete(r.open, c)
	}
}

// copyAll copies one way until that ends. If it breaks, so does the other way: an
// answer that is cut short must not look like one that is complete.
func copyAll(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
	}
	if err != nil {
		reset(dst)
		reset(src)
	}
}

// reset closes a connection so that its other end finds it broken, not ended.
func reset(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = t.SetLinger(0)
	}
	c.Close()
}
