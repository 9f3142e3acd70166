package registry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// TestPlainHTTP holds that it is spoken only where somebody said so, also on loopback.
func TestPlainHTTP(t *testing.T) {
	s := serve(t, false)
	img := hostImage(t, layer(1000))
	s.push(t, "app:v1", img)
	for _, host := range []string{s.host(), s.named()} {
		err := fetch(t, host+"/app:v1", quick(t), nil)
		if !errors.Is(err, ErrPlainHTTP) || strings.Contains(err.Error(), "not tried") {
			t.Errorf("%s: %v, want ErrPlainHTTP", host, err)
		}
	}
	if n := s.count(""); n != 0 {
		t.Errorf("%d requests by plain HTTP", n)
	}
	if err := fetch(t, s.host()+"/app:v1", insecure(t), img); err != nil {
		t.Error(err)
	}
	opts := quick(t)
	opts.Config = file(t, "registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", s.named()))
	if err := fetch(t, s.named()+"/app:v1", opts, img); err != nil {
		t.Error("insecure by configuration:", err)
	}
	no := false
	opts.Insecure = &no
	if err := fetch(t, s.named()+"/app:v1", opts, nil); !errors.Is(err, ErrPlainHTTP) {
		t.Errorf("insecure by configuration, but not by option: %v", err)
	}
}

// TestPrivateAddress holds that an address that looks local is no reason for plain HTTP:
// nobody is there, and the error says so.
func TestPrivateAddress(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	err := fetch(t, strings.TrimPrefix(gone.URL, "http://")+"/app", quick(t), nil)
	if err == nil || errors.Is(err, ErrPlainHTTP) || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "http://") {
		t.Errorf("%v, want connection refused", err)
	}
}

func TestCertificates(t *testing.T) {
	s := serve(t, true)
	img := hostImage(t, layer(1000))
	s.push(t, "app:v1", img)
	if err := fetch(t, s.host()+"/app:v1", quick(t), nil); !errors.Is(err, ErrUntrusted) {
		t.Errorf("unknown authority: %v, want ErrUntrusted", err)
	}
	opts := quick(t)
	opts.CertDir = s.ca(t)
	if err := fetch(t, s.host()+"/app:v1", opts, img); err != nil {
		t.Error("private authority:", err)
	}
	// Its certificate is not for this name.
	if err := fetch(t, s.named()+"/app:v1", opts, nil); !errors.Is(err, ErrUntrusted) {
		t.Errorf("another name: %v, want ErrUntrusted", err)
	}
	if err := fetch(t, s.named()+"/app:v1", insecure(t), img); err != nil {
		t.Error("insecure:", err)
	}
	opts.CertDir = t.TempDir() + "/none"
	if err := fetch(t, s.host()+"/app:v1", opts, nil); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("no such directory: %v", err)
	}
}

func TestCertDir(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	if err := os.Mkdir(b+"/registry.example:5000", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ given, host, want string }{
		{"", "registry.example:5000", b + "/registry.example:5000"},
		{"", "registry.example", ""},
		{a, "registry.example:5000", a},
	} {
		if got, err := certDir(test.given, test.host, a, b); got != test.want || err != nil {
			t.Errorf("%q, %s: %q, %v, want %q", test.given, test.host, got, err, test.want)
		}
	}
	if err := os.Mkdir(a+"/registry.example:5000", 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := certDir("", "registry.example:5000", a, b); got != a+"/registry.example:5000" || err != nil {
		t.Errorf("in both: %q, %v", got, err)
	}
	if err := os.WriteFile(a+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := certDir("", "registry.example", a+"/file"); err == nil {
		t.Errorf("below a file: %q", got)
	}
}

// TestCredentialHelper has the password in a helper, such as those of Docker.
func TestCredentialHelper(t *testing.T) {
	s := serve(t, false)
	img := hostImage(t, layer(1000))
	s.push(t, "app:v1", img)
	guard(s, "ann", "secret")
	dir := t.TempDir()
	helper := "#!/bin/sh\nread host\n[ \"$1 $host\" = \"get " + s.host() + "\" ] && echo '{\"Username\":\"ann\",\"Secret\":\"secret\"}'\n"
	if err := os.WriteFile(dir+"/docker-credential-podbox-test", []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	opts := insecure(t)
	opts.AuthFile = file(t, "auth.json", fmt.Sprintf(`{"credHelpers": {%q: "podbox-test"}}`, s.host()))
	if err := fetch(t, s.host()+"/app:v1", opts, img); err != nil {
		t.Error(err)
	}
	opts.AuthFile = file(t, "auth.json", fmt.Sprintf(`{"credHelpers": {%q: "podbox-none"}}`, s.host()))
	if err := fetch(t, s.host()+"/app:v1", opts, nil); err == nil || !strings.Contains(err.Error(), "podbox-none") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a helper that is not there: %v", err)
	}
}

// guard wants a password of every request, or a token of a token server.
func guard(s *server, user, password string) {
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		if u, p, ok := r.BasicAuth(); ok && u == user && p == password {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
		return true
	})
}

func authFile(t *testing.T, host, user, password string) string {
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	return file(t, "auth.json", fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, auth))
}

func TestBasicAuth(t *testing.T) {
	s := serve(t, false)
	img := hostImage(t, layer(1000))
	s.push(t, "team/app:v1", img)
	guard(s, "ann", "secret:word")
	ref := s.host() + "/team/app:v1"

	opts := insecure(t)
	if err := fetch(t, ref, opts, nil); !errors.Is(err, ErrDenied) {
		t.Errorf("nobody: %v, want ErrDenied", err)
	}
	for _, key := range []string{s.host(), s.host() + "/team", s.host() + "/team/app"} {
		opts.AuthFile = authFile(t, key, "ann", "secret:word")
		if err := fetch(t, ref, opts, img); err != nil {
			t.Errorf("auth file for %s: %v", key, err)
		}
	}
	opts.AuthFile = authFile(t, s.host()+"/other", "ann", "secret:word")
	if err := fetch(t, ref, opts, nil); !errors.Is(err, ErrDenied) {
		t.Errorf("auth file for another repository: %v, want ErrDenied", err)
	}
	opts.AuthFile = authFile(t, s.host(), "ann", "wrong")
	err := fetch(t, ref, opts, nil)
	if !errors.Is(err, ErrDenied) || strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), "\n") {
		t.Errorf("wrong password: %v, want ErrDenied", err)
	}

	// Those of a pull secret go first, and if they are refused, those of the host follow.
	opts.Credentials = []Credentials{{Registry: s.host(), Username: "ann", Password: "old"}, {Registry: s.host(), Username: "ann", Password: "secret:word"}}
	if err := fetch(t, ref, opts, img); err != nil {
		t.Error("the second of two:", err)
	}
	opts.Credentials = []Credentials{{Registry: "elsewhere.example", Username: "ann", Password: "secret:word"}}
	if err := fetch(t, ref, opts, nil); !errors.Is(err, ErrDenied) {
		t.Errorf("credentials for another registry: %v, want ErrDenied", err)
	}
	opts.Credentials = []Credentials{{Username: "ann", Password: "secret:word"}}
	if err := fetch(t, ref, opts, img); err != nil {
		t.Error("given:", err)
	}
	opts.AuthFile = authFile(t, s.host(), "ann", "secret:word")
	opts.Credentials[0].Password = "wrong"
	if err := fetch(t, ref, opts, nil); !errors.Is(err, ErrDenied) {
		t.Errorf("given and wrong: %v, want ErrDenied", err)
	}
	opts.Credentials, opts.AuthFile = nil, t.TempDir()+"/none"
	if err := fetch(t, ref, opts, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an auth file that is not there: %v", err)
	}
}

// TestToken has a token server, which gives a token for a repository to who knows the
// password.
func TestToken(t *testing.T) {
	s := serve(t, false)
	img := hostImage(t, layer(1000), layer(2000))
	s.push(t, "team/app:v1", img)
	var passwords []string
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		passwords = append(passwords, password)
		if user != "ann" || password != "secret" || r.FormValue("scope") != "repository:team/app:pull" || r.FormValue("service") != "test" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"token": "good", "expires_in": 60})
	}))
	t.Cleanup(tokens.Close)
	realm := strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1)
	var leaked bool
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		if _, _, ok := r.BasicAuth(); ok {
			leaked = true
		}
		if r.Header.Get("Authorization") == "Bearer good" {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, realm))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	opts := insecure(t)
	opts.AuthFile = authFile(t, s.host(), "ann", "secret")
	if err := fetch(t, s.host()+"/team/app:v1", opts, img); err != nil {
		t.Error(err)
	}
	if len(passwords) != 1 || leaked {
		t.Errorf("%d requests for a token, want 1; the password went to the registry: %v", len(passwords), leaked)
	}
	opts.AuthFile = authFile(t, s.host(), "ann", "wrong")
	if err := fetch(t, s.host()+"/team/app:v1", opts, nil); !errors.Is(err, ErrDenied) {
		t.Errorf("wrong password: %v, want ErrDenied", err)
	}

	// A registry that speaks TLS cannot have the password sent in the clear.
	secure := serve(t, true)
	secure.set(s.do)
	opts = quick(t)
	opts.CertDir = secure.ca(t)
	opts.AuthFile = authFile(t, secure.host(), "ann", "secret")
	passwords = nil
	if err := fetch(t, secure.host()+"/team/app:v1", opts, nil); err == nil || len(passwords) > 0 {
		t.Errorf("token server by plain HTTP: %v, %d passwords", err, len(passwords))
	}
}

func TestMirrors(t *testing.T) {
	origin, mirror := serve(t, false), serve(t, false)
	down := httptest.NewServer(nil)
	down.Close()
	img, fresh := hostImage(t, layer(1000)), hostImage(t, layer(2000))
	mirror.push(t, "cache/app:v1", img)
	origin.push(t, "app:v1", img)
	origin.push(t, "app:v2", fresh)

	opts := quick(t)
	opts.Config = file(t, "registries.conf", fmt.Sprintf(`
[[registry]]
prefix = "registry.example"
location = %q
insecure = true
[[registry.mirror]]
location = %q
insecure = true
[[registry.mirror]]
location = "%s/cache"
insecure = true
[[registry]]
location = "bad.example"
blocked = true
`, origin.host(), strings.TrimPrefix(down.URL, "http://"), mirror.host()))
	if err := fetch(t, "registry.example/app:v1", opts, img); err != nil {
		t.Error("one mirror is down, one has it:", err)
	}
	if n := origin.count(""); n > 0 {
		t.Errorf("%d requests to the origin", n)
	}
	if err := fetch(t, "registry.example/app:v2", opts, fresh); err != nil {
		t.Error("only the origin has it:", err)
	}
	err := fetch(t, "registry.example/app:v3", opts, nil)
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "mirror "+mirror.host()+"/cache/app:v3") || strings.Contains(err.Error(), "\n") {
		t.Errorf("nobody has it: %v, want ErrNotFound that names all", err)
	}
	if err := fetch(t, "bad.example/app", opts, nil); !errors.Is(err, ErrBlocked) {
		t.Errorf("blocked: %v, want ErrBlocked", err)
	}

	// What is given for the registry is not told to its mirrors.
	var heard []string
	mirror.set(func(_ http.ResponseWriter, r *http.Request) bool {
		heard = append(heard, r.Header.Get("Authorization"))
		return false
	})
	opts.Credentials = []Credentials{{Username: "ann", Password: "secret"}}
	if err := fetch(t, "registry.example/app:v1", opts, img); err != nil || len(heard) == 0 || strings.Join(heard, "") != "" {
		t.Errorf("%v, the mirror heard %q", err, heard)
	}

	opts.Config = file(t, "registries.conf", "[[registry]]\nlocation = 5\n")
	if err := fetch(t, "registry.example/app:v1", opts, nil); err == nil || !strings.Contains(err.Error(), "registries.conf") {
		t.Errorf("broken configuration: %v", err)
	}
}

func TestPlatforms(t *testing.T) {
	s := serve(t, false)
	amd, arm := makeImage(t, "amd64", layer(100)), makeImage(t, "arm64", layer(200))
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: makeImage(t, "unknown"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}},
		mutate.IndexAddendum{Add: makeImage(t, "386"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "386"}}},
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}},
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
	)
	s.push(t, "app:many", index)
	s.push(t, "app:arm", arm)
	opts := insecure(t)
	for platform, want := range map[string]v1.Image{"linux/amd64": amd, "linux/arm64": arm, "linux/arm64/v8": arm} {
		opts.Platform = platform
		for _, ref := range []string{":many", "@" + digest(t, index)} {
			if err := fetch(t, s.host()+"/app"+ref, opts, want); err != nil {
				t.Errorf("%s: %v", platform, err)
			}
		}
	}
	opts.Platform = "linux/s390x"
	err := fetch(t, s.host()+"/app:many", opts, nil)
	if !errors.Is(err, ErrPlatform) || !strings.HasSuffix(err.Error(), "linux/s390x is wanted, there is linux/386, linux/arm64/v8, linux/amd64") {
		t.Errorf("%v, want ErrPlatform and those there are", err)
	}
	opts.Platform = "linux/amd64"
	if err := fetch(t, s.host()+"/app:arm", opts, nil); !errors.Is(err, ErrPlatform) {
		t.Errorf("one image, for another platform: %v, want ErrPlatform", err)
	}
	for _, p := range []string{"amd64", "linux/", "linux/a b", "/", "linux/amd64/x/y"} {
		opts.Platform = p
		if err := fetch(t, s.host()+"/app:many", opts, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("platform %q: %v, want ErrInvalid", p, err)
		}
	}
}

func TestNotFound(t *testing.T) {
	s := serve(t, false)
	s.push(t, "app:v1", hostImage(t))
	for _, ref := range []string{"/app:v2", "/other", "/app@sha256:" + strings.Repeat("0", 64)} {
		if err := fetch(t, s.host()+ref, insecure(t), nil); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), s.host()+ref) {
			t.Errorf("%s: %v, want ErrNotFound", ref, err)
		}
	}
}

func TestParse(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("ab", 32)
	opts := quick(t)
	opts.Config = file(t, "registries.conf", "unqualified-search-registries = [\"search.example\"]\n[aliases]\n\"short\" = \"registry.example/long/short\"\n\"team/short\" = \"registry.example/other\"\n")
	for s, want := range map[string]string{
		"nginx":                               "docker.io/library/nginx:latest",
		"nginx:1.25":                          "docker.io/library/nginx:1.25",
		"team/nginx":                          "docker.io/team/nginx:latest",
		"docker.io/nginx":                     "docker.io/library/nginx:latest",
		"index.docker.io/nginx":               "docker.io/library/nginx:latest",
		"localhost/app":                       "localhost/app:latest",
		"localhost:5000/app":                  "localhost:5000/app:latest",
		"nginx" + digest:                      "docker.io/library/nginx" + digest,
		"nginx:1.25" + digest:                 "docker.io/library/nginx" + digest,
		"short":                               "registry.example/long/short:latest",
		"short:v2":                            "registry.example/long/short:v2",
		"short:v2" + digest:                   "registry.example/long/short" + digest,
		"team/short":                          "registry.example/other:latest",
		"docker.io/short":                     "docker.io/library/short:latest",
		"docker.io/library/short":             "docker.io/library/short:latest",
		"library/short":                       "docker.io/library/short:latest",
		"":                                    "",
		"UPPER":                               "",
		"a b":                                 "",
		"nginx:":                              "",
		"nginx@sha256:1":                      "",
		"http://example.com/app":              "",
		"registry.example/../x":               "",
		strings.Repeat("0123456789abcdef", 4): "",
	} {
		r, err := Parse(s, opts)
		switch {
		case want == "" && !errors.Is(err, ErrInvalid):
			t.Errorf("%q: %v, want ErrInvalid", s, err)
		case want != "" && (err != nil || r.String() != want):
			t.Errorf("%q: %v, %v, want %s", s, r, err, want)
		}
	}
}
