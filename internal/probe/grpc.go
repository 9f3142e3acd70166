package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// GRPC is a check that succeeds if a service says that it is SERVING, by the
// protocol grpc.health.v1. It is not encrypted.
type GRPC struct {
	Port uint16 `json:"port"`
	// Service is a name that the program has for what is asked. Empty: all of it.
	Service string `json:"service,omitempty"`
}

// Validate reports what cannot be asked.
func (g GRPC) Validate() error { return validatePort(g.Port) }

// Do asks the program at host. If the check could not be made the error is not nil;
// it counts as a failure. A connection that is refused is a failure at once; the
// kubelet would try it again after a second, if it had so long.
func (g GRPC) Do(ctx context.Context, host string) (Outcome, string, error) {
	if err := g.Validate(); err != nil {
		return Failure, "", err
	}
	began := time.Now()
	addr := hostPort(host, "", g.Port)
	s, err := g.check(ctx, addr)
	var failed *rpcError
	switch {
	case err == nil && s != serving:
		return Failure, fmt.Sprintf("service unhealthy (responded with %q)", s), nil
	case err == nil:
		return Success, "service healthy", nil
	case errors.As(err, &failed) && failed.code == unimplemented:
		return Failure, bounded("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): " + failed.message), nil
	case errors.Is(err, errConnect) && ctx.Err() != nil:
		return Failure, bounded(fmt.Sprintf("timeout: failed to connect service %q within %v: %v", addr, allowed(ctx, began), ctx.Err())), nil
	case errors.Is(err, errConnect):
		return Failure, bounded(fmt.Sprintf("error: failed to connect service at %q: %v", addr, err)), nil
	case errors.As(err, &failed) && failed.code == deadlineExceeded, ctx.Err() != nil:
		return Failure, fmt.Sprintf("timeout: health rpc did not complete within %v", allowed(ctx, began)), nil
	}
	return Failure, bounded(fmt.Sprintf("error: health rpc probe failed: %v", err)), nil
}

// allowed returns the time that a check had, as somebody wrote it down.
func allowed(ctx context.Context, began time.Time) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now()
	}
	return deadline.Sub(began).Round(10 * time.Millisecond)
}

// errConnect is matched by errors that come before the question was put.
var errConnect = errors.New("no connection")

// check makes the call and returns what the service says. An error is a *rpcError,
// or matches errConnect.
func (g GRPC) check(ctx context.Context, addr string) (status, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	var connected atomic.Bool
	t := transport(protocols, func(addr string) (net.Conn, error) {
		c, err := dial(ctx, life, addr)
		connected.Store(err == nil)
		return c, err
	})
	body := io.NopCloser(bytes.NewReader(healthRequest(g.Service)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/grpc.health.v1.Health/Check", body)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errConnect, err)
	}
	req.ContentLength = -1 // as gRPC has it: a stream
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	req.Header.Set("User-Agent", "kube-probe/"+version)
	if deadline, ok := ctx.Deadline(); ok {
		req.Header.Set("Grpc-Timeout", grpcTimeout(time.Until(deadline)))
	}
	// Not by a client: gRPC knows no redirects.
	res, err := t.RoundTrip(req)
	switch {
	case err != nil && !connected.Load():
		return 0, fmt.Errorf("%w: %w", errConnect, err)
	case err != nil:
		return 0, &rpcError{unavailable, "connection error: " + err.Error()}
	}
	defer res.Body.Close()
	return answer(res)
}

// grpcTimeout returns d as gRPC writes it: at most eight digits and a unit.
func grpcTimeout(d time.Duration) string {
	const most = 99999999
	if d = max(d, 0); d.Microseconds() <= most {
		return strconv.FormatInt(d.Microseconds(), 10) + "u"
	}
	return strconv.FormatInt(min(d.Milliseconds(), most), 10) + "m"
}

// answer reads a response: one message, and after it, or in its stead, how the call
// ended.
func answer(res *http.Response) (status, error) {
	if end := res.Header.Get("Grpc-Status"); end != "" {
		return 0, ended(end, res.Header)
	}
	isGRPC := strings.HasPrefix(res.Header.Get("Content-Type"), "application/grpc")
	if res.StatusCode != http.StatusOK || !isGRPC {
		message := fmt.Sprintf("unexpected HTTP status code received from server: %d (%s)", res.StatusCode, http.StatusText(res.StatusCode))
		if !isGRPC {
			message += fmt.Sprintf("; transport: received unexpected content-type %q", res.Header.Get("Content-Type"))
		}
		return 0, &rpcError{codeOf(res.StatusCode), message}
	}
	s, err := readHealth(res.Body)
	if err != nil && err != io.EOF {
		return 0, &rpcError{internal, err.Error()}
	}
	end := res.Trailer.Get("Grpc-Status")
	if end == "" {
		return 0, &rpcError{internal, "server closed the stream without sending trailers"}
	}
	if end != "0" {
		return 0, ended(end, res.Trailer)
	}
	if err == io.EOF {
		return 0, &rpcError{internal, "the call succeeded without a message"}
	}
	return s, nil
}

// ended returns the error of a call that ended with the headers h and no message.
func ended(end string, h http.Header) error {
	n, err := strconv.ParseUint(end, 10, 32)
	if err != nil {
		return &rpcError{internal, fmt.Sprintf("malformed grpc-status: %q", end)}
	}
	if n == 0 {
		return &rpcError{internal, "the call succeeded without a message"}
	}
	message := h.Get("Grpc-Message")
	if plain, err := url.PathUnescape(message); err == nil {
		message = plain
	}
	return &rpcError{code(n), message}
}

// A rpcError is how a call ended, in gRPC's words.
type rpcError struct {
	code    code
	message string
}

func (e *rpcError) Error() string {
	return fmt.Sprintf("rpc error: code = %s desc = %s", e.code, e.message)
}

// A code is a status code of gRPC.
type code uint32

const (
	unknown          code = 2
	deadlineExceeded code = 4
	permissionDenied code = 7
	unimplemented    code = 12
	internal         code = 13
	unavailable      code = 14
	unauthenticated  code = 16
)

func (c code) String() string {
	names := [...]string{
		"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
		"PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
		"Internal", "Unavailable", "DataLoss", "Unauthenticated",
	}
	if c < code(len(names)) {
		return names[c]
	}
	return fmt.Sprintf("Code(%d)", uint32(c))
}

// codeOf returns what gRPC takes a status of HTTP for, if it is all that there is.
func codeOf(httpStatus int) code {
	switch httpStatus {
	case http.StatusBadRequest:
		return internal
	case http.StatusUnauthorized:
		return unauthenticated
	case http.StatusForbidden:
		return permissionDenied
	case http.StatusNotFound:
		return unimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return unavailable
	}
	return unknown
}
