package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestDigests has registries that lie.
func TestDigests(t *testing.T) {
	s := serve(t, false)
	img, other := hostImage(t, layer(1000)), hostImage(t, layer(1000))
	s.push(t, "app:v1", img)
	s.push(t, "app:other", other)
	opts := insecure(t)

	// Another manifest than the one asked for.
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		r.URL.Path = strings.Replace(r.URL.Path, digest(t, img), digest(t, other), 1)
		return false
	})
	if err := fetch(t, s.host()+"/app@"+digest(t, img), opts, nil); err == nil || !strings.Contains(err.Error(), "does not match") {
		t.Errorf("another manifest: %v", err)
	}
	// Another layer, of the same size.
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		r.URL.Path = strings.Replace(r.URL.Path, layerDigest(t, img, 0), layerDigest(t, other, 0), 1)
		return false
	})
	if err := fetch(t, s.host()+"/app:v1", opts, nil); err == nil || !strings.Contains(err.Error(), layerDigest(t, img, 0)) {
		t.Errorf("another layer: %v", err)
	}
	// What comes after the layer is not read.
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layerDigest(t, img, 0)) {
			return false
		}
		_, _ = w.Write(blobOf(t, img, 0))
		w.(http.Flusher).Flush()
		_, _ = w.Write([]byte("more"))
		return true
	})
	if err := fetch(t, s.host()+"/app:v1", opts, img); err != nil {
		t.Error("a layer with more at its end:", err)
	}
	// Another configuration.
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		c, o := configOf(t, img), configOf(t, other)
		r.URL.Path = strings.Replace(r.URL.Path, c, o, 1)
		return false
	})
	if err := fetch(t, s.host()+"/app:v1", opts, nil); err == nil {
		t.Error("another configuration")
	}
}

func configOf(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// breaking serves a layer, of which the first tries break off after some bytes, by a
// reset or by an end that comes too early.
func breaking(t *testing.T, s *server, img v1.Image, tries int, every int64, ranges, reset bool) {
	blob, path := blobOf(t, img, 0), layerDigest(t, img, 0)
	var n atomic.Int64
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, path) {
			return false
		}
		rest := blob
		from, has := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
		if has && !ranges {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}
		at, _ := strconv.Atoi(strings.TrimSuffix(from, "-"))
		rest = rest[at:]
		w.Header().Set("Content-Length", strconv.Itoa(len(rest)))
		if at > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, len(blob)-1, len(blob)))
			w.WriteHeader(http.StatusPartialContent)
		}
		if n.Add(1) <= int64(tries) && int64(len(rest)) > every {
			_, _ = w.Write(rest[:every])
			w.(http.Flusher).Flush()
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return true
			}
			if reset {
				_ = conn.(*net.TCPConn).SetLinger(0)
			}
			conn.Close()
			return true
		}
		_, _ = w.Write(rest)
		return true
	})
}

// TestResume breaks layers off in the middle.
func TestResume(t *testing.T) {
	s := serve(t, false)
	img := hostImage(t, layer(100_000))
	s.push(t, "app:v1", img)
	for _, test := range []struct {
		name          string
		tries         int
		ranges, reset bool
		ok            bool
	}{
		{"cut short", 3, true, false, true},
		{"reset", 3, true, true, true},
		{"no ranges", 2, false, false, true},
		{"for ever", 100, true, true, false},
		{"for ever, no ranges", 100, false, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.forget()
			breaking(t, s, img, test.tries, 20_000, test.ranges, test.reset)
			err := fetch(t, s.host()+"/app:v1", insecure(t), img)
			if (err == nil) != test.ok {
				t.Error(err)
			}
			if err != nil && (!strings.Contains(err.Error(), "broke off at byte") || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%v, want where it broke off", err)
			}
			if n := s.count(layerDigest(t, img, 0)); n > 10 {
				t.Errorf("%d requests", n)
			}
		})
	}
	// As long as there is progress it goes on.
	img = hostImage(t, layer(12<<20))
	s.push(t, "app:v2", img)
	breaking(t, s, img, 100, 2<<20, true, false)
	if err := fetch(t, s.host()+"/app:v2", insecure(t), img); err != nil {
		t.Error("six times, with 2 MiB between: ", err)
	}
	// The rest of something else.
	blob := layerDigest(t, img, 0)
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, blob) {
			return false
		}
		if r.Header.Get("Range") == "" {
			w.Header().Set("Content-Length", strconv.Itoa(12<<20))
			_, _ = w.Write(make([]byte, 1000))
		} else {
			w.Header().Set("Content-Range", "bytes 7-12/13")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("nonsense"))
		}
		return true
	})
	if err := fetch(t, s.host()+"/app:v2", insecure(t), nil); err == nil || !strings.Contains(err.Error(), "bytes 7-12/13") {
		t.Errorf("another range than asked for: %v", err)
	}
}

// TestTryAgain answers that the registry is busy, for a while or for ever.
func TestTryAgain(t *testing.T) {
	s := serve(t, false)
	img := hostImage(t, layer(1000))
	s.push(t, "app:v1", img)
	for _, what := range []string{"/v2/", "/manifests/", "/blobs/"} {
		for _, status := range []int{429, 500, 502, 503, 504} {
			var n atomic.Int64
			fail := int64(2)
			s.set(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, what) || n.Add(1) > fail {
					return false
				}
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(status)
				return true
			})
			if err := fetch(t, s.host()+"/app:v1", insecure(t), img); err != nil {
				t.Errorf("%d of %s, twice: %v", status, what, err)
			}
			n.Store(0)
			fail = 1 << 40
			err := fetch(t, s.host()+"/app:v1", insecure(t), nil)
			if err == nil || !strings.Contains(err.Error(), http.StatusText(status)) || n.Load() > 4 {
				t.Errorf("%d of %s, for ever: %v after %d tries", status, what, err, n.Load())
			}
		}
	}
	// What is no answer for a moment is not tried again.
	var n atomic.Int64
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		n.Add(1)
		w.WriteHeader(http.StatusNotImplemented)
		return true
	})
	if err := fetch(t, s.host()+"/app:v1", insecure(t), nil); err == nil || n.Load() > 2 {
		t.Errorf("501: %v after %d tries", err, n.Load())
	}
	// Retry-After is heeded, and a context ends the wait.
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	opts := insecure(t)
	ref, err := Parse(s.host()+"/app:v1", opts)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := Resolve(ctx, ref, opts); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v, want the context's error", err, time.Since(began))
	}
	// Nobody waits longer than half a minute.
	if d := retryAfter(&http.Response{Header: http.Header{"Retry-After": {"99999"}}}); d != longest {
		t.Errorf("Retry-After 99999: %v", d)
	}
}

// TestSlow has registries that keep us waiting.
func TestSlow(t *testing.T) {
	s := serve(t, false)
	img := hostImage(t, layer(100_000))
	s.push(t, "app:v1", img)
	opts := insecure(t)
	opts.Patience, opts.Tries = 150*time.Millisecond, 2
	done := make(chan struct{})
	defer close(done)
	wait := func(r *http.Request, d time.Duration) bool {
		select {
		case <-time.After(d):
			return true
		case <-r.Context().Done():
		case <-done:
		}
		return false
	}
	for name, what := range map[string]string{"no answer": "/v2/", "no manifest": "/manifests/", "no layer": layerDigest(t, img, 0)} {
		s.set(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, what) {
				return false
			}
			wait(r, time.Minute)
			return true
		})
		began := time.Now()
		if err := fetch(t, s.host()+"/app:v1", opts, nil); err == nil || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(began))
		}
	}
	// A byte now and then, which would never end.
	for _, what := range []string{"/manifests/", layerDigest(t, img, 0)} {
		s.set(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, what) {
				return false
			}
			if !strings.Contains(what, "manifests") {
				w.Header().Set("Content-Length", "100000")
			}
			for wait(r, 10*time.Millisecond) {
				if _, err := io.WriteString(w, "x"); err != nil {
					break
				}
				w.(http.Flusher).Flush()
			}
			return true
		})
		began := time.Now()
		if err := fetch(t, s.host()+"/app:v1", opts, nil); !errors.Is(err, ErrStalled) || time.Since(began) > 5*time.Second {
			t.Errorf("a byte now and then of %.12s: %v after %v", what, err, time.Since(began))
		}
	}
}

// TestSlowReader holds that who reads may take its time.
func TestSlowReader(t *testing.T) {
	s := serve(t, false)
	img := hostImage(t, layer(3<<20))
	s.push(t, "app:v1", img)
	opts := insecure(t)
	opts.Patience = 100 * time.Millisecond
	ref, err := Parse(s.host()+"/app:v1", opts)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Resolve(t.Context(), ref, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	layers, err := got.Image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	rc, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	buf := make([]byte, 1000)
	for range 2 {
		if _, err := io.ReadFull(rc, buf); err != nil {
			t.Fatal(err)
		}
		time.Sleep(250 * time.Millisecond)
	}
	if n, err := io.Copy(io.Discard, rc); err != nil || n != 3<<20-2000 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestRedirects has layers elsewhere, as registries have that keep them in a store of
// objects: the password does not go there.
func TestRedirects(t *testing.T) {
	s, store := serve(t, false), serve(t, false)
	img := hostImage(t, layer(1000))
	s.push(t, "app:v1", img)
	store.push(t, "app:v1", img)
	var heard []string
	store.set(func(_ http.ResponseWriter, r *http.Request) bool {
		heard = append(heard, r.Header.Get("Authorization"))
		return false
	})
	opts := insecure(t)
	opts.AuthFile = authFile(t, s.host(), "ann", "secret")
	for _, host := range []string{store.named(), store.host()} { // another name; another port
		guard(s, "ann", "secret")
		denied := s.do
		s.set(func(w http.ResponseWriter, r *http.Request) bool {
			if denied(w, r) {
				return true
			}
			if strings.Contains(r.URL.Path, "/blobs/") {
				http.Redirect(w, r, "http://"+host+r.URL.Path+"?signature=secret", http.StatusTemporaryRedirect)
				return true
			}
			return false
		})
		heard = nil
		if err := fetch(t, s.host()+"/app:v1", opts, img); err != nil || len(heard) == 0 || strings.Join(heard, "") != "" {
			t.Errorf("%s: %v, it heard %q", host, err, heard)
		}
	}
	// Its errors do not tell the signature.
	store.set(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	if err := fetch(t, s.host()+"/app:v1", opts, nil); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, r.URL.Path, http.StatusFound)
		return true
	})
	if err := fetch(t, s.host()+"/app:v1", insecure(t), nil); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("in a circle: %v", err)
	}

	// From TLS to plain HTTP.
	secure := serve(t, true)
	secure.push(t, "app:v1", img)
	secure.set(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, store.URL+r.URL.Path, http.StatusFound)
			return true
		}
		return false
	})
	opts = quick(t)
	opts.CertDir = secure.ca(t)
	heard = nil
	if err := fetch(t, secure.host()+"/app:v1", opts, nil); !errors.Is(err, ErrPlainHTTP) || len(heard) > 0 {
		t.Errorf("to plain HTTP: %v", err)
	}
}

// TestTooLarge has answers without an end.
func TestTooLarge(t *testing.T) {
	s := serve(t, false)
	for name, length := range map[string]string{"told": strconv.Itoa(5 << 20), "not told": ""} {
		for _, what := range []string{"/v2/app/manifests/", "/v2/"} {
			s.set(func(w http.ResponseWriter, r *http.Request) bool {
				if what != r.URL.Path && !(len(what) > 4 && strings.HasPrefix(r.URL.Path, what)) {
					return false
				}
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				spaces := []byte(strings.Repeat(" ", 64<<10))
				for range 5 << 4 {
					if _, err := w.Write(spaces); err != nil {
						break
					}
				}
				return true
			})
			err := fetch(t, s.host()+"/app:v1", insecure(t), nil)
			if err == nil || what != "/v2/" && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s, %s: %v, want ErrTooLarge", what, name, err)
			}
		}
	}
	// A configuration that the manifest says is large is not fetched.
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		zero := "sha256:" + strings.Repeat("0", 64)
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":%q,"size":100000000},"layers":[]}`, zero)
		return true
	})
	s.forget()
	if err := fetch(t, s.host()+"/app:v1", insecure(t), nil); !errors.Is(err, ErrTooLarge) || s.count("/blobs/") > 0 {
		t.Errorf("large configuration: %v, %d requests for it", err, s.count("/blobs/"))
	}
}

// TestHostileText has answers that are written for a terminal.
func TestHostileText(t *testing.T) {
	s := serve(t, false)
	for _, text := range []string{"\x1b[2J\x1b]0;gotcha\a", `{"errors":[{"code":"DENIED","message":"\u001b[2J\u202e\r\nforged: line"}]}`, strings.Repeat("long ", 10_000), "\xff\xfe"} {
		s.set(func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, text)
			return true
		})
		err := fetch(t, s.host()+"/app:v1", insecure(t), nil)
		if err == nil || len(err.Error()) > 2000 || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%.50q: %.2000q", text, err)
		}
	}
}

// TestNonsense has answers that are none.
func TestNonsense(t *testing.T) {
	s := serve(t, false)
	for _, text := range []string{
		"", "null", "[]", "{", `{"schemaVersion":1}`, `{"schemaVersion":2,"layers":null}`, `{"manifests":[{}]}`, `{"manifests":null}`,
		`{"config":{"digest":"../../etc"}}`, `{"config":{"digest":"sha256:1","size":-1}}`, `{"layers":[{"digest":"sha256:x"}]}`,
	} {
		for _, kind := range []string{"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.v1+json", "text/html"} {
			s.set(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				w.Header().Set("Content-Type", kind)
				_, _ = io.WriteString(w, text)
				return true
			})
			if err := fetch(t, s.host()+"/app:v1", insecure(t), nil); err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s %s: %v, want an error of one line", kind, text, err)
			}
		}
	}
}
