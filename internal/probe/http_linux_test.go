package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// get makes one check of a server, by the address that it has.
func get(t testing.TB, url string, h HTTPGet) (Outcome, string, error) {
	t.Helper()
	host, port := at(t, url)
	h.Port = port
	return h.Do(within(t, 10*time.Second), host)
}

func TestHTTPStatus(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n int
		fmt.Sscanf(r.URL.Path, "/%d", &n)
		w.WriteHeader(n)
		if n != 204 && n != 304 {
			io.WriteString(w, "the body")
		}
	}))
	defer s.Close()
	for n, want := range map[int]string{
		200: "success: the body",
		204: "success: ",
		299: "success: the body",
		300: "warning: Probe terminated redirects, Response body: the body",
		304: "warning: Probe terminated redirects, Response body: ",
		399: "warning: Probe terminated redirects, Response body: the body",
		// A redirect that leads nowhere is what it is, not an error.
		302: "warning: Probe terminated redirects, Response body: the body",
		400: "failure: HTTP probe failed with statuscode: 400",
		404: "failure: HTTP probe failed with statuscode: 404",
		500: "failure: HTTP probe failed with statuscode: 500",
		599: "failure: HTTP probe failed with statuscode: 599",
	} {
		o, text, err := get(t, s.URL, HTTPGet{Path: fmt.Sprintf("/%d", n)})
		if got := o.String() + ": " + text; got != want || err != nil {
			t.Errorf("%d: got %q, %v, want %q", n, got, err, want)
		}
	}
}

func TestHTTPRequest(t *testing.T) {
	var got *http.Request
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
	defer s.Close()
	_, port := at(t, s.URL)
	own := fmt.Sprintf("127.0.0.1:%d", port)
	for _, tt := range []struct {
		check HTTPGet
		uri   string
		host  string
		want  http.Header
	}{
		{HTTPGet{}, "/", own, http.Header{"User-Agent": {"kube-probe/1.37"}, "Accept": {"*/*"}}},
		{HTTPGet{Path: "healthz"}, "/healthz", own, nil},
		{HTTPGet{Path: "/a%20b?x=1&y=%2F"}, "/a%20b?x=1&y=%2F", own, nil},
		{HTTPGet{Path: "/a b#c"}, "/a%20b", own, nil},
		{HTTPGet{Path: "/%zz?a"}, "/%25zz%3Fa", own, nil},
		{HTTPGet{Path: "//other:1/x"}, "/x", own, nil},
		{HTTPGet{Scheme: "http", Host: "127.0.0.1"}, "/", own, nil},
		{
			HTTPGet{Headers: []Header{{"user-agent", "me"}, {"Accept", ""}, {"Host", "web.example"}, {"X-A", "1"}, {"x-a", "2"}}},
			"/", "web.example",
			http.Header{"User-Agent": {"me"}, "X-A": {"1", "2"}},
		},
		{HTTPGet{Headers: []Header{{"Accept", "text/plain"}}}, "/", own, http.Header{"User-Agent": {"kube-probe/1.37"}, "Accept": {"text/plain"}}},
		{HTTPGet{Headers: []Header{{"User-Agent", ""}}}, "/", own, http.Header{"Accept": {"*/*"}}},
	} {
		got = nil
		if o, text, err := get(t, s.URL, tt.check); o != Success || err != nil {
			t.Errorf("%+v: %v, %q, %v", tt.check, o, text, err)
			continue
		}
		if got.Method != "GET" || got.RequestURI != tt.uri || got.Host != tt.host || !got.Close {
			t.Errorf("%+v: asked %s %s of %s, close %v; want %s of %s and close", tt.check, got.Method, got.RequestURI, got.Host, got.Close, tt.uri, tt.host)
		}
		got.Header.Del("Connection")
		if tt.want != nil && !maps.EqualFunc(got.Header, tt.want, slices.Equal) {
			t.Errorf("%+v: headers %v, want %v", tt.check, got.Header, tt.want)
		}
	}
}

func TestHTTPInvalid(t *testing.T) {
	for _, h := range []HTTPGet{{}, {Scheme: "ftp", Port: 1}} {
		if o, _, err := h.Do(context.Background(), "127.0.0.1"); o != Failure || !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v, %v", h, o, err)
		}
		if _, err := h.Hook(context.Background(), "127.0.0.1"); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", h, err)
		}
	}
	h := HTTPGet{Port: closedPort(t), Headers: []Header{{"a b", "c"}}}
	if o, text, err := h.Do(within(t, time.Second), "127.0.0.1"); o != Failure || err != nil || !strings.Contains(text, "invalid header field name") {
		t.Errorf("a header that there cannot be: %v, %q, %v", o, text, err)
	}
}

func TestHTTPRedirect(t *testing.T) {
	visits := 0
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	defer s.Close()
	_, port := at(t, s.URL)
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.UserAgent()) })
	mux.Handle("/here", http.RedirectHandler("/ok", http.StatusFound))
	mux.HandleFunc("/away", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", fmt.Sprintf("http://localhost:%d/ok", port))
		w.WriteHeader(http.StatusMovedPermanently)
		io.WriteString(w, "gone")
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) {
		visits++
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		if len(r.Cookies()) > 0 {
			t.Error("a cookie was kept")
		}
		http.Redirect(w, r, "/loop", http.StatusFound)
	})
	mux.HandleFunc("/nine/{n}", func(w http.ResponseWriter, r *http.Request) {
		n := r.PathValue("n")
		if len(n) == 9 {
			n = "../ok"
		}
		http.Redirect(w, r, n+"x", http.StatusFound)
	})
	mux.HandleFunc("/okx", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/bad", http.RedirectHandler("/missing", http.StatusFound))
	for path, want := range map[string]string{
		"/here":   "success: kube-probe/1.37",
		"/away":   "warning: Probe terminated redirects, Response body: gone",
		"/loop":   `failure: Get "/loop": stopped after 10 redirects`,
		"/nine/x": "success: ",
		"/bad":    "failure: HTTP probe failed with statuscode: 404",
	} {
		o, text, err := get(t, s.URL, HTTPGet{Path: path})
		if got := o.String() + ": " + text; got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
		}
	}
	if visits != 10 {
		t.Errorf("a loop was followed %d times, want 10", visits)
	}
}

func TestHTTPS(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
			s.EnableHTTP2 = h2
			s.StartTLS()
			defer s.Close()
			o, text, err := get(t, s.URL, HTTPGet{Scheme: "HTTPS"})
			if o != Success || text != name || err != nil {
				t.Errorf("%v, %q, %v", o, text, err)
			}
		})
	}
	// By HTTP, a server of HTTPS answers 400, and the other way round there is
	// no answer.
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	if o, text, err := get(t, s.URL, HTTPGet{}); o != Failure || text != "HTTP probe failed with statuscode: 400" || err != nil {
		t.Errorf("HTTP to HTTPS: %v, %q, %v", o, text, err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	if o, text, err := get(t, plain.URL, HTTPGet{Scheme: "HTTPS"}); o != Failure || !strings.Contains(text, "server gave HTTP response to HTTPS client") || err != nil {
		t.Errorf("HTTPS to HTTP: %v, %q, %v", o, text, err)
	}
}

func TestHTTPNoProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	defer proxy.Close()
	t.Setenv("http_proxy", proxy.URL)
	t.Setenv("HTTP_PROXY", proxy.URL)
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	_, port := at(t, s.URL)
	// Go uses no proxy for addresses of loopback, whatever the environment says,
	// but for names that only we know to be one.
	if client(t.Context(), t.Context()).Transport.(*http.Transport).Proxy != nil {
		t.Error("the transport has a proxy")
	}
	if o, text, err := (HTTPGet{Port: port}).Do(within(t, 10*time.Second), "127.0.0.1"); o != Success || err != nil {
		t.Error(o, text, err)
	}
}

func TestHTTPBody(t *testing.T) {
	const line = "0123456789abcdef"
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/short" { // shorter than announced
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, line)
			return
		}
		for {
			k, err := io.WriteString(w, line)
			if n += k; err != nil || r.URL.Path == "/exact" && n >= maxOutput {
				return
			}
		}
	}))
	defer s.Close()
	for _, path := range []string{"/exact", "/endless"} {
		n = 0
		o, text, err := get(t, s.URL, HTTPGet{Path: path})
		if o != Success || err != nil || text != strings.Repeat(line, maxOutput/len(line)) {
			t.Errorf("%s: %v, %d bytes, %v", path, o, len(text), err)
		}
	}
	if o, text, err := get(t, s.URL, HTTPGet{Path: "/short"}); o != Failure || text != "" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that is cut off: %v, %q, %v", o, text, err)
	}
}

// TestHTTPHostile sees to it that no answer takes more than its time, or memory.
func TestHTTPHostile(t *testing.T) {
	forever := func(c net.Conn, s string) int {
		n := 0
		for {
			k, err := io.WriteString(c, s)
			if n += k; err != nil {
				return n
			}
		}
	}
	sent := 0
	for name, tt := range map[string]struct {
		answer func(c net.Conn)
		text   string
	}{
		"headers": {func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			sent = forever(c, "X-A: "+strings.Repeat("b", 1000)+"\r\n")
		}, "server response headers exceeded 262144 bytes"},
		"one header": {func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A: ")
			sent = forever(c, strings.Repeat("b", 1000))
		}, "server response headers exceeded 262144 bytes"},
		"status line":  {func(c net.Conn) { sent = forever(c, strings.Repeat("b", 1000)) }, "server response headers exceeded 262144 bytes"},
		"long garbage": {func(c net.Conn) { io.WriteString(c, strings.Repeat("b\x00", 100000)+"\r\n\r\n") }, "malformed HTTP response"},
		"1xx":          {func(c net.Conn) { sent = forever(c, "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n") }, "exceeded"},
		"garbage":      {func(c net.Conn) { io.WriteString(c, "\x00\xff\r\n\r\n") }, "malformed HTTP response"},
		"nothing":      {func(net.Conn) {}, "EOF"},
		"status":       {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 20x OK\r\n\r\n") }, "malformed HTTP status code"},
		"location": {func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 302 Found\r\nLocation: "+strings.Repeat("%", 100000)+"\r\n\r\n")
		}, "failed to parse Location header"},
	} {
		t.Run(name, func(t *testing.T) {
			sent = 0
			port := serve(t, func(c net.Conn) {
				c.Read(make([]byte, 1000))
				tt.answer(c)
			})
			o, text, err := HTTPGet{Port: port}.Do(within(t, 10*time.Second), "127.0.0.1")
			if o != Failure || !strings.Contains(text, tt.text) || len(text) > maxOutput || err != nil {
				t.Errorf("%v, %d bytes: %.200q, %v", o, len(text), text, err)
			}
		})
		if sent > 16<<20 {
			t.Errorf("%s: %d bytes were taken", name, sent)
		}
	}
}

func TestHTTPTimeout(t *testing.T) {
	for name, answer := range map[string]string{
		"no answer":    "",
		"slow headers": "HTTP/1.1 200 OK\r\nA: b\r\n",
		"slow body":    "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			port := serve(t, func(c net.Conn) {
				c.Read(make([]byte, 1000))
				io.WriteString(c, answer)
				io.Copy(io.Discard, c) // until the other end has had enough
			})
			began := time.Now()
			o, text, err := HTTPGet{Port: port}.Do(within(t, 100*time.Millisecond), "127.0.0.1")
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
			if name == "slow body" {
				if o != Failure || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v, %q, %v", o, text, err)
				}
			} else if o != Failure || err != nil || !strings.Contains(text, "context deadline exceeded") {
				t.Errorf("%v, %q, %v", o, text, err)
			}
		})
	}
	t.Run("TLS", func(t *testing.T) {
		port := serve(t, func(c net.Conn) { io.Copy(io.Discard, c) })
		o, text, err := HTTPGet{Scheme: "HTTPS", Port: port}.Do(within(t, 100*time.Millisecond), "127.0.0.1")
		if o != Failure || err != nil || !strings.Contains(text, "context deadline exceeded") {
			t.Errorf("%v, %q, %v", o, text, err)
		}
	})
}

func TestHook(t *testing.T) {
	var got []string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, fmt.Sprintf("%s %s %q %q", r.Method, r.RequestURI, r.UserAgent(), r.Header.Get("Authorization")))
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, strings.Repeat("x", 100000))
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	headers := []Header{{"Authorization", "Basic xyz"}}
	for _, tt := range []struct {
		url, scheme, request, warning string
	}{
		{plain.URL, "HTTP", `GET /stop "kube-lifecycle/1.37" "Basic xyz"`, ""},
		{secure.URL, "HTTPS", `GET /stop "kube-lifecycle/1.37" "Basic xyz"`, ""},
		{plain.URL, "HTTPS", `GET /stop "kube-lifecycle/1.37" ""`, "request to HTTPS lifecycle hook " + plain.URL[7:] + " got HTTP response, retry with HTTP succeeded"},
	} {
		host, port := at(t, tt.url)
		got = nil
		warning, err := HTTPGet{Scheme: tt.scheme, Path: "/stop", Port: port, Headers: headers}.Hook(within(t, 10*time.Second), host)
		if err != nil || warning != tt.warning {
			t.Errorf("%s to %s: %q, %v", tt.scheme, tt.url, warning, err)
		}
		if !slices.Equal(got, []string{tt.request}) {
			t.Errorf("%s to %s: got %q, want %q", tt.scheme, tt.url, got, tt.request)
		}
	}
	if _, err := (HTTPGet{Port: closedPort(t)}).Hook(within(t, 10*time.Second), "127.0.0.1"); err == nil {
		t.Error("nobody listens, and there is no error")
	}
	garbage := serve(t, func(c net.Conn) {
		c.Read(make([]byte, 1000))
		io.WriteString(c, strings.Repeat("b\x00", 100000)+"\r\n\r\n")
	})
	if _, err := (HTTPGet{Port: garbage}).Hook(within(t, 10*time.Second), "127.0.0.1"); err == nil || len(err.Error()) > maxOutput {
		t.Errorf("garbage: %.100v", err)
	}
}
