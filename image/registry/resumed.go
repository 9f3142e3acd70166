package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// A resumed body goes on from where it broke off, by a request for the rest. Who reads
// it checks its digest: a server that has something else by now is found out.
type resumed struct {
	client *client
	req    *http.Request
	body   io.ReadCloser
	length int64 // -1 if it is not known

	at     int64 // what has been read
	failed int   // times in a row, with no more than a little read between them
	since  int64 // at when it last failed
	whole  bool  // the server knows no ranges
}

// A brokenError is about a layer that did not come, or not all of it.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// enough is how much must have been read for a failure to count as the first one again.
const enough = 256 << 10

func (r *resumed) Read(p []byte) (int, error) {
	for {
		n, err := r.body.Read(p)
		r.at += int64(n)
		if err == io.EOF && r.length >= 0 && r.at < r.length {
			err = io.ErrUnexpectedEOF
		}
		switch {
		case err == nil || err == io.EOF:
			return n, err
		case r.req.Context().Err() != nil:
			return n, context.Cause(r.req.Context())
		case !passes(err):
			return n, &brokenError{err}
		}
		if r.at-r.since >= enough {
			r.failed = 0
		}
		r.since = r.at
		if err := r.again(err); err != nil {
			return n, &brokenError{err}
		}
		if n > 0 {
			return n, nil
		}
	}
}

// again opens the rest of the body.
func (r *resumed) again(why error) error {
	if r.failed++; r.failed >= r.client.tries {
		return fmt.Errorf("%s: broke off at byte %d, %d times: %w", place(r.req), r.at, r.failed, why)
	}
	r.body.Close()
	r.body = http.NoBody
	if err := sleep(r.req.Context(), r.client.pause(r.failed)); err != nil {
		return err
	}
	resp, err := r.ask()
	if err != nil {
		return fmt.Errorf("%w, then: %w", why, err)
	}
	skip, err := r.skip(resp)
	if err != nil {
		resp.Body.Close()
		return fmt.Errorf("%w, then: %w", why, err)
	}
	r.body = resp.Body
	if _, err := io.CopyN(io.Discard, resp.Body, skip); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if passes(err) {
			return r.again(err)
		}
		return err
	}
	return nil
}

// ask asks for the rest, or for all of it if there is no asking for less.
func (r *resumed) ask() (*http.Response, error) {
	req := r.req.Clone(r.req.Context())
	if !r.whole && r.at > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(r.at, 10)+"-")
	}
	resp, err := r.client.persist(req)
	if err == nil && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && !r.whole {
		drop(resp)
		r.whole = true
		return r.ask()
	}
	return resp, err
}

// skip returns how much of an answer was read before. A server may send all of it.
func (r *resumed) skip(resp *http.Response) (int64, error) {
	switch resp.StatusCode {
	case http.StatusOK:
		return r.at, nil
	case http.StatusPartialContent:
		first, _, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Content-Range"), "bytes "), "-")
		if n, err := strconv.ParseInt(first, 10, 64); err != nil || n != r.at {
			return 0, fmt.Errorf("%s: asked for byte %d and on, got %q", place(r.req), r.at, resp.Header.Get("Content-Range"))
		}
		return 0, nil
	}
	return 0, fmt.Errorf("%s: from byte %d on: %s", place(r.req), r.at, resp.Status)
}

func (r *resumed) Close() error { return r.body.Close() }
