package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// persist asks until there is an answer that will not be another one in a moment.
func (c *client) persist(req *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		resp, err := c.follow(req)
		// A body is not sent twice: the library above has no way to begin it anew.
		if try >= c.tries || req.Body != nil && req.Body != http.NoBody || !passing(resp, err) {
			return resp, err
		}
		// Nobody waits patience often, with another source to ask perhaps.
		var late net.Error
		if try > 1 && errors.As(err, &late) && late.Timeout() {
			return nil, err
		}
		pause := c.pause(try)
		if resp != nil {
			pause = max(pause, retryAfter(resp))
			drop(resp)
		}
		if err := sleep(req.Context(), pause); err != nil {
			return nil, err
		}
	}
}

// pause returns how long to wait after the nth failure.
func (c *client) pause(n int) time.Duration {
	d := c.backoff << min(n-1, 6)
	return d + rand.N(d/4+1) // not all who failed together come back together
}

// longest is what a registry may make us wait before we ask again.
const longest = 30 * time.Second

func retryAfter(resp *http.Response) time.Duration {
	s, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || s < 0 {
		return 0
	}
	return min(time.Duration(s)*time.Second, longest)
}

// passing reports whether a failure may be over in a moment. A refused connection, a
// name that does not exist, a wrong certificate will not be.
func passing(resp *http.Response, err error) bool {
	if err == nil {
		switch resp.StatusCode {
		case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	return passes(err)
}

func passes(err error) bool {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, ErrStalled),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return true
	}
	return errors.As(err, &timeout) && timeout.Timeout()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// drop lets the connection be used again.
func drop(resp *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
}

// maxRedirects is what net/http follows, too.
const maxRedirects = 10

// follow asks once, and goes where it is sent. It does so in the place of http.Client,
// which takes credentials along to other ports of a host, and to plain HTTP.
func (c *client) follow(req *http.Request) (*http.Response, error) {
	at := req.Clone(req.Context())
	at.Header.Set("User-Agent", c.userAgent)
	for range maxRedirects {
		resp, err := c.once(at)
		if err != nil {
			return nil, err
		}
		to, err := resp.Location()
		redirect := resp.StatusCode == 301 || resp.StatusCode == 302 || resp.StatusCode == 303 || resp.StatusCode == 307 || resp.StatusCode == 308
		if !redirect || err != nil || req.Method != http.MethodGet && req.Method != http.MethodHead {
			resp.Request = req // errors must not show where we were sent: it may have a secret in it
			return resp, nil
		}
		drop(resp)
		if to.Scheme != "https" && !c.insecure {
			return nil, fmt.Errorf("%s: redirect to %s://%s: %w", place(req), to.Scheme, to.Host, ErrPlainHTTP)
		}
		next := at.Clone(at.Context())
		next.URL, next.Host = to, to.Host
		if to.Host != at.URL.Host || to.Scheme != at.URL.Scheme {
			next.Header.Del("Authorization")
			next.Header.Del("Cookie")
		}
		at = next
	}
	return nil, fmt.Errorf("%s: more than %d redirects", place(req), maxRedirects)
}

// once asks once. The body must come at a pace.
func (c *client) once(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	resp, err := c.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp.Body = &paced{body: resp.Body, cancel: cancel, window: c.patience}
	return resp, nil
}
