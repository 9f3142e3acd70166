package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A server is a registry in memory, to which things may be done.
type server struct {
	*httptest.Server
	store http.Handler

	mu sync.Mutex
	// do handles a request in place of the store, if it is set and returns true.
	do   func(w http.ResponseWriter, r *http.Request) bool
	asks []string // METHOD PATH
}

// host is HOST:PORT, where HOST is the name of the loopback address or the address.
func (s *server) host() string { return s.Listener.Addr().String() }

func (s *server) named() string {
	return "localhost" + strings.TrimPrefix(s.host(), "127.0.0.1")
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asks = append(s.asks, r.Method+" "+r.URL.Path)
	do := s.do
	s.mu.Unlock()
	if do != nil && do(w, r) {
		return
	}
	s.store.ServeHTTP(w, r)
}

func (s *server) set(do func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.do = do
}

// count returns how many requests there were whose path has s in it.
func (s *server) count(part string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asks {
		if strings.Contains(a, part) {
			n++
		}
	}
	return n
}

func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks = nil
}

// serve starts a registry: by TLS, or by plain HTTP.
func serve(t *testing.T, tls bool) *server {
	t.Helper()
	s := &server{store: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	if tls {
		s.Server = httptest.NewUnstartedServer(s)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
	} else {
		s.Server = httptest.NewServer(s)
	}
	t.Cleanup(s.Close)
	return s
}

// ca writes the authority of the server's certificate into a directory.
func (s *server) ca(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// push puts an image into the registry, past what is done to it.
func (s *server) push(t *testing.T, repo string, img remote.Taggable) {
	t.Helper()
	plain := httptest.NewServer(s.store)
	defer plain.Close()
	ref, err := name.ParseReference(plain.Listener.Addr().String()+"/"+repo, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	switch img := img.(type) {
	case v1.Image:
		err = remote.Write(ref, img)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// layer is one of n random bytes.
func layer(n int) v1.Layer {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return static.NewLayer(b, types.OCIUncompressedLayer)
}

// makeImage makes an image for a platform.
func makeImage(t *testing.T, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layers...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Author = "linux", arch, fmt.Sprint(time.Now().UnixNano())
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

func hostImage(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	return makeImage(t, runtime.GOARCH, layers...)
}

// quick are options for tests: what waits, does not wait long.
func quick(t *testing.T) Options {
	return Options{
		Backoff: time.Millisecond, Patience: 5 * time.Second, Tries: 4,
		Config: file(t, "registries.conf", ""), AuthFile: file(t, "auth.json", "{}"),
	}
}

func insecure(t *testing.T) Options {
	opts := quick(t)
	yes := true
	opts.Insecure = &yes
	return opts
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// fetch resolves a reference, reads the layers of the image, and compares.
func fetch(t *testing.T, ref string, opts Options, want v1.Image) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := Parse(ref, opts)
	if err != nil {
		return err
	}
	got, err := Resolve(ctx, r, opts)
	if err != nil {
		return err
	}
	defer got.Close()
	layers, err := got.Image.Layers()
	if err != nil {
		return err
	}
	for i, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			return err
		}
		b, err := io.ReadAll(rc)
		rc.Close()
		if err != nil {
			return err
		}
		if want != nil {
			if text := blobOf(t, want, i); !bytes.Equal(b, text) {
				t.Errorf("layer %d: %d bytes, other than those that were pushed", i, len(b))
			}
		}
	}
	if want != nil {
		if d := digest(t, want); got.Digest != d {
			t.Errorf("digest %s, want %s", got.Digest, d)
		}
	}
	return nil
}

func blobOf(t *testing.T, img v1.Image, i int) []byte {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	rc, err := layers[i].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func digest(t *testing.T, img interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func layerDigest(t *testing.T, img v1.Image, i int) string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return digest(t, layers[i])
}
