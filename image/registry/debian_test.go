package registry

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"
)

// A pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// certify makes a certificate that ca signs, or an authority if ca is nil.
func certify(t *testing.T, ca *pair) *pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	parent, signer := template, key
	if ca == nil {
		template.IsCA, template.KeyUsage = true, template.KeyUsage|x509.KeyUsageCertSign
	} else {
		parent, signer = ca.cert, ca.key
		template.DNSNames, template.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &pair{cert, key}
}

func (p *pair) write(t *testing.T, cert, key string) {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: p.cert.Raw}, key: {Type: "EC PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// debian starts docker-registry with a piece of configuration, and returns HOST:PORT.
func debian(t *testing.T, config string) string {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: %s/data\n%s", dir, config)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", path)
	cmd.Env = []string{"OTEL_TRACES_EXPORTER=none"}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	listening := regexp.MustCompile(`listening on (127\.0\.0\.1:[0-9]+)`)
	lines, all := bufio.NewScanner(out), ""
	for lines.Scan() {
		all += lines.Text() + "\n"
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			go func() {
				for lines.Scan() { // or it would wait for us
				}
			}()
			return m[1]
		}
	}
	t.Fatalf("docker-registry does not listen:\n%s", all)
	return ""
}

// upload puts an image into a registry.
func upload(t *testing.T, ref string, img v1.Image, opts ...remote.Option) {
	t.Helper()
	n, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(n, img, opts...); err != nil {
		t.Fatal(err)
	}
}

const plainHTTP = "http:\n  addr: 127.0.0.1:0\n"

// TestDebian has the registry that Debian has, by plain HTTP, as a mirror too.
func TestDebian(t *testing.T) {
	host, store := debian(t, plainHTTP), newStore(t)
	img := rootImage(t, "a", "b", "c")
	upload(t, host+"/team/app:v1", img)
	if err := fetch(t, host+"/team/app:v1", quick(t), nil); !errors.Is(err, ErrPlainHTTP) {
		t.Errorf("%v, want ErrPlainHTTP", err)
	}
	opts := EnsureOptions{Options: insecure(t)}
	got, err := Ensure(t.Context(), store, host+"/team/app:v1", IfNotPresent, opts)
	if err != nil || got.Digest != digest(t, img) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := fetch(t, host+"/team/app:v2", opts.Options, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such tag: %v, want ErrNotFound", err)
	}
	if err := fetch(t, host+"/nobody/app", opts.Options, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such repository: %v, want ErrNotFound", err)
	}

	gone := httptest.NewServer(nil)
	gone.Close()
	opts = EnsureOptions{Options: quick(t)}
	opts.Config = file(t, "registries.conf", fmt.Sprintf(`
[[registry]]
prefix = "registry.example/team"
location = %q
[[registry.mirror]]
location = %q
[[registry.mirror]]
location = "%s/team"
insecure = true
`, gone.Listener.Addr(), gone.Listener.Addr(), host))
	got, err = Ensure(t.Context(), store, "registry.example/team/app:v1", IfNotPresent, opts)
	if err != nil || got.Digest != digest(t, img) || len(got.Names) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestDebianResumes breaks the connections to a real registry off, again and again.
func TestDebianResumes(t *testing.T) {
	host := debian(t, plainHTTP)
	img := hostImage(t, layer(4<<20))
	upload(t, host+"/app:v1", img)
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	var cuts atomic.Int64
	go func() {
		for {
			in, err := proxy.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", host)
			if err != nil {
				in.Close()
				continue
			}
			go func() {
				buf := make([]byte, 32<<10)
				for {
					n, err := in.Read(buf)
					if err != nil {
						out.Close()
						return
					}
					_, _ = out.Write(buf[:n])
				}
			}()
			// 1.2 MiB of each connection come through.
			buf, left := make([]byte, 32<<10), 1200<<10
			for left > 0 {
				n, err := out.Read(buf)
				if err != nil {
					break
				}
				_, _ = in.Write(buf[:n])
				left -= n
			}
			cuts.Add(1)
			in.Close()
			out.Close()
		}
	}()
	opts := insecure(t)
	if err := fetch(t, proxy.Addr().String()+"/app:v1", opts, img); err != nil {
		t.Error(err)
	}
	if n := cuts.Load(); n < 3 {
		t.Errorf("%d connections were broken off", n)
	}
}

// TestDebianSecure has it by TLS, with a private authority, and passwords.
func TestDebianSecure(t *testing.T) {
	dir := t.TempDir()
	ca := certify(t, nil)
	ca.write(t, dir+"/ca.crt", dir+"/ca.pem")
	certify(t, ca).write(t, dir+"/server.pem", dir+"/server-key.pem")
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/htpasswd", []byte("ann:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	host := debian(t, fmt.Sprintf("%s  tls:\n    certificate: %s/server.pem\n    key: %s/server-key.pem\nauth:\n  htpasswd:\n    realm: test\n    path: %s/htpasswd\n", plainHTTP, dir, dir, dir))
	img := rootImage(t, "a")
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	upload(t, host+"/app:v1", img, remote.WithTransport(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}),
		remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: "ann", Password: "secret"})))

	opts := quick(t)
	opts.AuthFile = authFile(t, host, "ann", "secret")
	if err := fetch(t, host+"/app:v1", opts, nil); !errors.Is(err, ErrUntrusted) {
		t.Errorf("without the authority: %v, want ErrUntrusted", err)
	}
	opts.CertDir = t.TempDir()
	if err := os.Link(dir+"/ca.crt", opts.CertDir+"/ca.crt"); err != nil {
		t.Fatal(err)
	}
	if err := fetch(t, host+"/app:v1", opts, img); err != nil {
		t.Error(err)
	}
	for _, password := range []string{"", "wrong"} {
		opts.AuthFile = authFile(t, host, "ann", password)
		if err := fetch(t, host+"/app:v1", opts, nil); !errors.Is(err, ErrDenied) {
			t.Errorf("password %q: %v, want ErrDenied", password, err)
		}
	}
	secret, err := ParsePullSecret([]byte(fmt.Sprintf(`{"auths":{"https://%s":{"username":"ann","password":"secret"}}}`, host)))
	if err != nil {
		t.Fatal(err)
	}
	opts.Credentials = secret
	if err := fetch(t, host+"/app:v1", opts, img); err != nil {
		t.Error("by a pull secret:", err)
	}
}

// TestDebianToken has it want a token, which a server signs that it trusts.
func TestDebianToken(t *testing.T) {
	dir := t.TempDir()
	ca := certify(t, nil)
	ca.write(t, dir+"/ca.crt", dir+"/ca.pem")
	signer := certify(t, ca)
	asked := 0
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		user, password, _ := r.BasicAuth()
		if user != "ann" || password != "secret" {
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}`, http.StatusUnauthorized)
			return
		}
		kind, rest, _ := strings.Cut(r.FormValue("scope"), ":")
		repo, actions, _ := strings.Cut(rest, ":")
		token := signer.token(t, map[string]any{
			"iss": "test", "sub": user, "aud": r.FormValue("service"), "jti": "1",
			"exp": time.Now().Add(time.Hour).Unix(), "nbf": time.Now().Add(-time.Minute).Unix(), "iat": time.Now().Unix(),
			"access": []map[string]any{{"type": kind, "name": repo, "actions": strings.Split(actions, ",")}},
		})
		_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 3600})
	}))
	defer tokens.Close()
	realm := strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1) + "/auth"
	host := debian(t, fmt.Sprintf("%sauth:\n  token:\n    realm: %s\n    service: registry\n    issuer: test\n    rootcertbundle: %s/ca.crt\n", plainHTTP, realm, dir))
	img := rootImage(t, "a", "b")
	upload(t, host+"/team/app:v1", img, remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: "ann", Password: "secret"})))

	opts, store := insecure(t), newStore(t)
	opts.AuthFile = authFile(t, host, "ann", "secret")
	asked = 0
	got, err := Ensure(t.Context(), store, host+"/team/app:v1", Always, EnsureOptions{Options: opts})
	if err != nil || got.Digest != digest(t, img) || asked != 1 {
		t.Errorf("%+v, %v, %d tokens, want 1", got, err, asked)
	}
	opts.AuthFile = authFile(t, host, "bob", "secret")
	if err := fetch(t, host+"/team/app:v1", opts, nil); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "who are you?") {
		t.Errorf("another user: %v, want ErrDenied", err)
	}
}

// token signs claims as docker-registry wants it.
func (p *pair) token(t *testing.T, claims map[string]any) string {
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(p.cert.Raw)}}) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, sum[:])
	if err != nil {
		t.Error(err)
		return ""
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}
