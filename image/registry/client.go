package registry

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/tlsclientconfig"

	"github.com/podbox/podbox/image"
)

// maxManifest is how large anything but a layer or a configuration may be, in bytes.
const maxManifest = image.MaxManifest

// A client is how one registry is talked to. Above it is a library that knows what to
// ask; it has the patience, and says what is not to be done.
type client struct {
	base      *http.Transport
	insecure  bool
	userAgent string
	backoff   time.Duration
	tries     int
	patience  time.Duration

	mu     sync.Mutex
	failed error // what went wrong last
}

// errNotTried is in place of an answer by plain HTTP, which the library above would
// take from hosts that look local to it.
var errNotTried = errors.New("plain HTTP is not tried")

// client returns the one for a source's registry.
func (s *source) client(opts Options) (*client, error) {
	insecure := s.insecure
	if opts.Insecure != nil {
		insecure = *opts.Insecure
	}
	conf := &tls.Config{InsecureSkipVerify: insecure}
	dir, err := certDir(opts.CertDir, reference.Domain(s.ref), "/etc/containers/certs.d", "/etc/docker/certs.d")
	if err != nil {
		return nil, err
	}
	if dir != "" {
		if err := tlsclientconfig.SetupCertificates(dir, conf); err != nil {
			return nil, fmt.Errorf("certificates in %s: %w", dir, err)
		}
	}
	return &client{
		base: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: opts.Patience}).DialContext,
			TLSClientConfig:        conf,
			TLSHandshakeTimeout:    opts.Patience,
			ResponseHeaderTimeout:  opts.Patience,
			IdleConnTimeout:        opts.Patience,
			MaxResponseHeaderBytes: 1 << 20,
			MaxIdleConnsPerHost:    8,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // what is fetched has a digest, and may be resumed
		},
		insecure: insecure, userAgent: opts.UserAgent,
		backoff: opts.Backoff, tries: opts.Tries, patience: opts.Patience,
	}, nil
}

// certDir returns the directory with a registry's certificates: the one that is given,
// or the first below the others that is there, or "".
func certDir(given, host string, below ...string) (string, error) {
	if given != "" {
		_, err := os.Stat(given)
		return given, err
	}
	for _, dir := range below {
		dir = filepath.Join(dir, host)
		_, err := os.Stat(dir)
		switch {
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
	}
	return "", nil
}

// RoundTrip does what http.RoundTripper wants, but follows redirects itself and tries
// again what failed for a moment. The body of a layer resumes.
func (c *client) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !c.insecure {
		return nil, errNotTried
	}
	resp, err := c.persist(req)
	if err != nil {
		c.mu.Lock()
		c.failed = fmt.Errorf("%s: %w", place(req), err)
		c.mu.Unlock()
		return nil, err // http.Client says of what
	}
	switch {
	case req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") && resp.StatusCode == http.StatusOK:
		resp.Body = &resumed{client: c, req: req, body: resp.Body, length: resp.ContentLength}
	case req.Method == http.MethodGet && resp.ContentLength > maxManifest:
		resp.Body.Close()
		return nil, fmt.Errorf("%s %s: %w: %d bytes", req.Method, place(req), ErrTooLarge, resp.ContentLength)
	default:
		resp.Body = &bounded{body: resp.Body, left: maxManifest, what: place(req)}
	}
	return resp, nil
}

// place names what is asked for without its query, which may have a secret.
func place(req *http.Request) string { return req.URL.Host + req.URL.Path }

// A bounded body ends with an error, and not as if it were whole.
type bounded struct {
	body io.ReadCloser
	left int64
	what string
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, fmt.Errorf("%s: %w: more than %d bytes", b.what, ErrTooLarge, maxManifest)
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.body.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return n - 1, fmt.Errorf("%s: %w: more than %d bytes", b.what, ErrTooLarge, maxManifest)
	}
	return n, err
}

func (b *bounded) Close() error { return b.body.Close() }
