package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// HTTPGet is a check that succeeds if a GET request is answered with a status from
// 200 to 399.
type HTTPGet struct {
	// Scheme is HTTP or HTTPS, in either case. Empty: HTTP.
	Scheme string `json:"scheme,omitempty"`
	// Host is a name or an address. Empty: the pod's.
	Host string `json:"host,omitempty"`
	// Path may have a query. Empty: /.
	Path string `json:"path,omitempty"`
	Port uint16 `json:"port"`
	// Headers are sent in place of our own of the same names, User-Agent and
	// Accept. An empty Accept sends none; Host names another host than the one
	// that is asked.
	Headers []Header `json:"headers,omitempty"`
}

// A Header is one header of a request. Names may occur more than once.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Validate reports what cannot be asked. A header that HTTP does not allow is not
// an error, but fails each check, as with the kubelet.
func (h HTTPGet) Validate() error {
	if s := h.scheme(); s != "http" && s != "https" {
		return fmt.Errorf("scheme %q: %w: want HTTP or HTTPS", h.Scheme, ErrInvalid)
	}
	return validatePort(h.Port)
}

func (h HTTPGet) scheme() string {
	if h.Scheme == "" {
		return "http"
	}
	return strings.ToLower(h.Scheme)
}

// Do asks h.Host, or else defaultHost. The text is the body of a success, of which
// it has at most 10 KiB, and what was wrong otherwise. A redirect to another host is
// a Warning, the eleventh redirect to the same a Failure. If the body could not be
// read, or the question not be put, the error is not nil; the kubelet then tries up
// to three times, and lets it count for nothing.
func (h HTTPGet) Do(ctx context.Context, defaultHost string) (Outcome, string, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	req, err := h.request(ctx, defaultHost, "kube-probe/"+version)
	if err != nil {
		return Failure, "", err
	}
	res, err := client(ctx, life).Do(req)
	if err != nil {
		return Failure, bounded(err.Error()), nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxOutput))
	switch {
	case err != nil:
		return Failure, "", fmt.Errorf("read the answer of %s: %w", req.URL.Host, err)
	case res.StatusCode < 200 || res.StatusCode >= 400:
		// The body is not shown: a failure is seen by more people than the
		// program's own output is.
		return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", res.StatusCode), nil
	case res.StatusCode >= 300:
		return Warning, bounded("Probe terminated redirects, Response body: " + string(body)), nil
	}
	return Success, string(body), nil
}

// Hook makes the request of a lifecycle hook. As with the kubelet, any answer will
// do, whatever its status; only if there is none the error is not nil. If HTTPS is
// asked for and the answer is HTTP it asks again by HTTP, without the header
// Authorization, and says so by the text.
func (h HTTPGet) Hook(ctx context.Context, defaultHost string) (warning string, err error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	req, err := h.request(ctx, defaultHost, "kube-lifecycle/"+version)
	if err != nil {
		return "", err
	}
	c := client(ctx, life)
	res, err := c.Do(req)
	if isHTTPAnswer(err) {
		req.URL.Scheme = "http"
		req.Header.Del("Authorization")
		plain, again := c.Do(req)
		if again != nil {
			return "", bound(err)
		}
		res, err = plain, nil
		warning = fmt.Sprintf("request to HTTPS lifecycle hook %s got HTTP response, retry with HTTP succeeded", req.URL.Host)
	}
	if err != nil {
		return "", bound(err)
	}
	// Some programs would rather not have their answer cut off.
	io.Copy(io.Discard, io.LimitReader(res.Body, maxOutput))
	res.Body.Close()
	return warning, nil
}

// isHTTPAnswer reports whether a request by HTTPS was answered by HTTP. The package
// net/http has no error for it, and TLS only says that there was no TLS.
func isHTTPAnswer(err error) bool {
	return err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// bound limits the text of an error that has a stranger's words in it.
func bound(err error) error {
	if len(err.Error()) > maxOutput {
		return errors.New(bounded(err.Error()))
	}
	return err
}

func (h HTTPGet) request(ctx context.Context, defaultHost, agent string) (*http.Request, error) {
	if err := h.Validate(); err != nil {
		return nil, err
	}
	// The path may have a query, or be what no URL can have. The kubelet then
	// asks for it all the same.
	u, err := url.Parse(h.Path)
	if err != nil {
		u = &url.URL{Path: h.Path}
	}
	u.Scheme = h.scheme()
	u.Host = hostPort(h.Host, defaultHost, h.Port)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("path %q: %w: %w", h.Path, ErrInvalid, err)
	}
	for _, header := range h.Headers {
		req.Header.Add(header.Name, header.Value)
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", agent)
	}
	if _, ok := req.Header["Accept"]; !ok {
		req.Header.Set("Accept", "*/*")
	} else if req.Header.Get("Accept") == "" {
		req.Header.Del("Accept")
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	return req, nil
}

// client returns a client that is good for one check. Its connections end with life.
func client(ctx, life context.Context) *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Client{
		Transport:     transport(protocols, func(addr string) (net.Conn, error) { return dial(ctx, life, addr) }),
		CheckRedirect: checkRedirect,
	}
}

func transport(protocols http.Protocols, dial func(addr string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		// The context that net/http gives is not always the request's.
		DialContext:            func(_ context.Context, _, addr string) (net.Conn, error) { return dial(addr) },
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
		Protocols:              &protocols,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 256 << 10,
		// There is one of each a check, and most checks move some hundred bytes.
		ReadBufferSize:  1 << 10,
		WriteBufferSize: 1 << 10,
		HTTP2: &http.HTTP2Config{
			// What is on its way before we have read anything.
			MaxReceiveBufferPerConnection: 64 << 10,
			MaxReceiveBufferPerStream:     32 << 10,
			MaxReadFrameSize:              16 << 10,
		},
	}
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}
