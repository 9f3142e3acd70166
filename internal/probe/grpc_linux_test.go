package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// h2c serves HTTP/2 without TLS.
func h2c(t testing.TB, handler http.HandlerFunc) uint16 {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	_, port := at(t, s.URL)
	return port
}

// framed returns a message as gRPC sends it.
func framed(message string) string {
	b := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return string(b) + message
}

// reply answers as gRPC does: a body, and trailers.
func reply(w http.ResponseWriter, body, status, message string) {
	w.Header().Set("Content-Type", "application/grpc")
	io.WriteString(w, body)
	w.(http.Flusher).Flush()
	if status != "" {
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
	}
	if message != "" {
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", message)
	}
}

func TestGRPC(t *testing.T) {
	const down = "error: health rpc probe failed: rpc error: code = "
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"serving":        {func(w http.ResponseWriter, _ *http.Request) { reply(w, framed("\x08\x01"), "0", "") }, "success: service healthy"},
		"not serving":    {func(w http.ResponseWriter, _ *http.Request) { reply(w, framed("\x08\x02"), "0", "") }, `failure: service unhealthy (responded with "NOT_SERVING")`},
		"empty":          {func(w http.ResponseWriter, _ *http.Request) { reply(w, framed(""), "0", "") }, `failure: service unhealthy (responded with "UNKNOWN")`},
		"unknown status": {func(w http.ResponseWriter, _ *http.Request) { reply(w, framed("\x08\x63"), "0", "") }, `failure: service unhealthy (responded with "99")`},
		"unknown fields": {func(w http.ResponseWriter, _ *http.Request) {
			reply(w, framed("\x12\x02ab\x1d1234\x21\x31\x32\x33\x34\x35\x36\x37\x38\x08\x01"), "0", "")
		}, "success: service healthy"},
		"last one counts": {func(w http.ResponseWriter, _ *http.Request) { reply(w, framed("\x08\x02\x08\x01"), "0", "") }, "success: service healthy"},
		"not found": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "5")
			w.Header().Set("Grpc-Message", "unknown service %22x%22")
		}, `failure: ` + down + `NotFound desc = unknown service "x"`},
		"unimplemented": {func(w http.ResponseWriter, _ *http.Request) { reply(w, "", "12", "no such method") }, "failure: error: this server does not implement the grpc health protocol (grpc.health.v1.Health): no such method"},
		"not gRPC":      {func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, `failure: error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unexpected HTTP status code received from server: 404 (Not Found); transport: received unexpected content-type "text/plain; charset=utf-8"`},
		"a web page":    {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, `failure: ` + down + `Unknown desc = unexpected HTTP status code received from server: 200 (OK); transport: received unexpected content-type "text/html; charset=utf-8"`},
		"unavailable":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, `failure: ` + down + `Unavailable desc = unexpected HTTP status code received from server: 503 (Service Unavailable); transport: received unexpected content-type ""`},
		"redirect":      {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, `failure: ` + down + `Unknown desc = unexpected HTTP status code received from server: 302 (Found); transport: received unexpected content-type ""`},
		"its own time":  {func(w http.ResponseWriter, _ *http.Request) { reply(w, "", "4", "") }, "failure: timeout: health rpc did not complete within 10s"},
		"error after":   {func(w http.ResponseWriter, _ *http.Request) { reply(w, framed("\x08\x01"), "13", "oh") }, "failure: " + down + "Internal desc = oh"},
		"odd code":      {func(w http.ResponseWriter, _ *http.Request) { reply(w, "", "77", "%zz") }, "failure: " + down + "Code(77) desc = %zz"},

		"no trailers":    {func(w http.ResponseWriter, _ *http.Request) { reply(w, framed("\x08\x01"), "", "") }, "failure: " + down + "Internal desc = server closed the stream without sending trailers"},
		"no message":     {func(w http.ResponseWriter, _ *http.Request) { reply(w, "", "0", "") }, "failure: " + down + "Internal desc = the call succeeded without a message"},
		"bad code":       {func(w http.ResponseWriter, _ *http.Request) { reply(w, "", "abc", "") }, "failure: " + down + `Internal desc = malformed grpc-status: "abc"`},
		"short header":   {func(w http.ResponseWriter, _ *http.Request) { reply(w, "\x00\x00", "0", "") }, "failure: " + down + "Internal desc = the message ends too early"},
		"short message":  {func(w http.ResponseWriter, _ *http.Request) { reply(w, "\x00\x00\x00\x00\x05\x08", "0", "") }, "failure: " + down + "Internal desc = the message ends too early"},
		"no message yet": {func(w http.ResponseWriter, _ *http.Request) { reply(w, "\x00\x00\x00\x00\x05", "0", "") }, "failure: " + down + "Internal desc = the message ends too early"},
		"4 GiB":          {func(w http.ResponseWriter, _ *http.Request) { reply(w, "\x00\xff\xff\xff\xff", "0", "") }, "failure: " + down + "Internal desc = a message of 4294967295 bytes, larger than the 10240 that a status may have"},
		"compressed":     {func(w http.ResponseWriter, _ *http.Request) { reply(w, "\x01\x00\x00\x00\x00", "0", "") }, "failure: " + down + "Internal desc = the message is compressed, and nobody asked for that"},
		"two":            {func(w http.ResponseWriter, _ *http.Request) { reply(w, framed("\x08\x01")+framed("\x08\x01"), "0", "") }, "failure: " + down + "Internal desc = more than one message"},
		"malformed":      {func(w http.ResponseWriter, _ *http.Request) { reply(w, framed("\x12\x7f"), "0", "") }, "failure: " + down + "Internal desc = the message is not a HealthCheckResponse"},
	} {
		t.Run(name, func(t *testing.T) {
			port := h2c(t, tt.handler)
			o, text, err := GRPC{Port: port}.Do(within(t, 10*time.Second), "127.0.0.1")
			if got := o.String() + ": " + text; got != tt.want || err != nil {
				t.Errorf("got  %q, %v\nwant %q", got, err, tt.want)
			}
		})
	}
}

func TestGRPCRequest(t *testing.T) {
	var got *http.Request
	var body []byte
	port := h2c(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		reply(w, framed("\x08\x01"), "0", "")
	})
	for service, want := range map[string]string{
		"":                       framed(""),
		"web":                    framed("\x0a\x03web"),
		strings.Repeat("s", 300): framed("\x0a\xac\x02" + strings.Repeat("s", 300)),
	} {
		o, text, err := GRPC{Port: port, Service: service}.Do(within(t, 10*time.Second), "127.0.0.1")
		if o != Success || err != nil {
			t.Fatalf("%q: %v, %q, %v", service, o, text, err)
		}
		if string(body) != want {
			t.Errorf("%q: sent %q, want %q", service, body, want)
		}
	}
	h := got.Header
	if got.Method != "POST" || got.RequestURI != "/grpc.health.v1.Health/Check" || got.ProtoMajor != 2 || got.ContentLength != -1 ||
		h.Get("Content-Type") != "application/grpc" || h.Get("Te") != "trailers" || h.Get("User-Agent") != "kube-probe/1.37" ||
		!strings.HasSuffix(h.Get("Grpc-Timeout"), "u") || h.Get("Accept-Encoding") != "" {
		t.Errorf("%s %s %s, %d bytes, %v", got.Method, got.RequestURI, got.Proto, got.ContentLength, h)
	}
}

func TestGRPCTimeoutHeader(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0u", time.Second: "1000000u", 99 * time.Second: "99000000u", 100 * time.Second: "100000m", 1 << 62: "99999999m",
	} {
		if got := grpcTimeout(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestGRPCConnection(t *testing.T) {
	if o, _, err := (GRPC{}).Do(context.Background(), "127.0.0.1"); o != Failure || !errors.Is(err, ErrInvalid) {
		t.Errorf("port 0: %v, %v", o, err)
	}
	o, text, err := GRPC{Port: closedPort(t)}.Do(within(t, 10*time.Second), "127.0.0.1")
	if o != Failure || !strings.HasPrefix(text, "error: failed to connect service at") || !strings.HasSuffix(text, "connection refused") || err != nil {
		t.Errorf("nobody listens: %v, %q, %v", o, text, err)
	}
	for name, tt := range map[string]struct {
		answer func(net.Conn)
		text   string
	}{
		"HTTP/1":  {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, "error: health rpc probe failed: rpc error: code = Unavailable desc = connection error: "},
		"nothing": {func(net.Conn) {}, "error: health rpc probe failed: rpc error: code = Unavailable desc = connection error: "},
		"silence": {func(c net.Conn) { io.Copy(io.Discard, c) }, "timeout: health rpc did not complete within 200ms"},
		// SETTINGS without end, none of which carries anything.
		"settings": {func(c net.Conn) {
			for err := error(nil); err == nil; {
				_, err = io.WriteString(c, strings.Repeat("\x00\x00\x00\x04\x00\x00\x00\x00\x00", 1000))
			}
		}, "error: health rpc probe failed: rpc error: code = Unavailable desc = connection error: "},
		"lies about length": {func(c net.Conn) {
			io.WriteString(c, "\x00\x00\x00\x04\x00\x00\x00\x00\x00"+"\xff\xff\xff\x00\x00\x00\x00\x00\x01")
		}, "error: health rpc probe failed: rpc error: code = Unavailable desc = connection error: "},
	} {
		t.Run(name, func(t *testing.T) {
			port := serve(t, func(c net.Conn) {
				go io.Copy(io.Discard, c)
				tt.answer(c)
			})
			timeout := 5 * time.Second
			if name == "silence" {
				timeout = 200 * time.Millisecond
			}
			began := time.Now()
			o, text, err := GRPC{Port: port}.Do(within(t, timeout), "127.0.0.1")
			if o != Failure || !strings.HasPrefix(text, tt.text) || err != nil {
				t.Errorf("%v, %q, %v", o, text, err)
			}
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func FuzzHealth(f *testing.F) {
	for _, s := range []string{"", framed(""), framed("\x08\x01"), framed("\x12\x02ab\x08\x02"), "\x00\xff\xff\xff\xff", framed("\x0b\x08\x01\x0c"), framed("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := strings.NewReader(string(b))
		s, err := readHealth(r)
		if err == nil && (len(b) < frameHeader || int(binary.BigEndian.Uint32(b[1:])) != len(b)-frameHeader) {
			t.Errorf("%q: %v from a frame that is not whole", b, s)
		}
		_ = s.String()
	})
}

func BenchmarkGRPC(b *testing.B) {
	port := h2c(b, func(w http.ResponseWriter, _ *http.Request) { reply(w, framed("\x08\x01"), "0", "") })
	b.ReportAllocs()
	for b.Loop() {
		if o, text, err := (GRPC{Port: port}).Do(context.Background(), "127.0.0.1"); o != Success {
			b.Fatal(text, err)
		}
	}
}

func BenchmarkHTTP(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	_, port := at(b, s.URL)
	b.ReportAllocs()
	for b.Loop() {
		if o, text, err := (HTTPGet{Port: port}).Do(context.Background(), "127.0.0.1"); o != Success {
			b.Fatal(text, err)
		}
	}
}

func BenchmarkTCP(b *testing.B) {
	port := serve(b, func(net.Conn) {})
	b.ReportAllocs()
	for b.Loop() {
		if o, text, err := (TCPSocket{Port: port}).Do(context.Background(), "127.0.0.1"); o != Success {
			b.Fatal(text, err)
		}
	}
}
