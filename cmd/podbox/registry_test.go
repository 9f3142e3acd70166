package main

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// runRegistry is the program registry of the scripts:
//
//	registry serve [-auth USER:PASSWORD] [-tls CA] [-hang] ADDR
//	                               a registry in memory; -tls writes its authority's certificate to a file
//	registry push REF DIR...       put an image into one, each directory a layer
//	registry save FILE NAME DIR... write an archive as docker save does
//	registry layout OUT NAME DIR... write an OCI image layout
func runRegistry(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: registry serve|push|save|layout ...")
	}
	switch verb, args := args[0], args[1:]; verb {
	case "serve":
		return serveRegistry(args)
	case "push":
		ref, err := name.ParseReference(args[0], name.Insecure)
		if err != nil {
			return err
		}
		img, err := imageOf(args[1:])
		if err != nil {
			return err
		}
		return remote.Write(ref, img)
	case "save":
		ref, err := name.NewTag(args[1])
		if err != nil {
			return err
		}
		img, err := imageOf(args[2:])
		if err != nil {
			return err
		}
		return tarball.WriteToFile(args[0], ref, img)
	case "layout":
		img, err := imageOf(args[2:])
		if err != nil {
			return err
		}
		out, err := layout.Write(args[0], empty.Index)
		if err != nil {
			return err
		}
		return out.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": args[1]}))
	}
	return fmt.Errorf("registry: no verb %q", args[0])
}

// imageOf makes an image for this host, of which each directory is a layer.
func imageOf(dirs []string) (v1.Image, error) {
	img := empty.Image
	for _, dir := range dirs {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.AddFS(os.DirFS(dir)); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			return nil, err
		}
	}
	c, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", runtime.GOARCH
	c.Config.Env, c.Config.Cmd = []string{"FROM=registry"}, []string{"/bin/sh"}
	c.Config.Labels = map[string]string{"made-by": "script"}
	return mutate.ConfigFile(img, c)
}

func serveRegistry(args []string) error {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	auth := fs.String("auth", "", "USER:PASSWORD")
	ca := fs.String("tls", "", "file for the certificate")
	hang := fs.Bool("hang", false, "never send a layer, once it is half sent")
	if err := fs.Parse(args); err != nil {
		return err
	}
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if *auth != "" && user+":"+password != *auth {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		if *hang && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			half := httptest.NewRecorder()
			store.ServeHTTP(half, r)
			if half.Body.Len() > 10_000 {
				w.Header().Set("Content-Length", fmt.Sprint(half.Body.Len()))
				_, _ = w.Write(half.Body.Bytes()[:half.Body.Len()/2])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return
			}
			_, _ = w.Write(half.Body.Bytes())
			return
		}
		store.ServeHTTP(w, r)
	})
	l, err := net.Listen("tcp", fs.Arg(0))
	if err != nil {
		return err
	}
	s := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	if *ca == "" {
		return s.Serve(l)
	}
	cert, key, err := selfSigned()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "registry")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "key"), key, 0o600), os.WriteFile(filepath.Join(dir, "cert"), cert, 0o600), os.WriteFile(*ca, cert, 0o644)); err != nil {
		return err
	}
	return s.ServeTLS(l, filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
}

// selfSigned makes a certificate for loopback, which is its own authority.
func selfSigned() (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "script"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), nil
}

// registryMain is runRegistry as a program.
func registryMain() {
	if err := runRegistry(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", strings.TrimSpace(err.Error()))
		os.Exit(1)
	}
}
