package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/internal/testenv"
)

// TestMain makes the test program one that pulls an image, too: several processes are
// to want the same.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "pull" {
		os.Exit(pull(os.Args[2], os.Args[3], os.Args[4]))
	}
	os.Exit(m.Run())
}

func pull(dir, ref, config string) int {
	store, err := image.Open(dir)
	if err == nil {
		yes := true
		_, err = Ensure(context.Background(), store, ref, IfNotPresent, EnsureOptions{Options: Options{Insecure: &yes, Config: config}})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func newStore(t *testing.T) *image.Store {
	t.Helper()
	testenv.NeedRoot(t)
	s, err := image.Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tarLayer is a layer with one file.
func tarLayer(t *testing.T, name string, size int) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(size)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte(name[:1]), size)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return static.NewLayer(b.Bytes(), types.OCIUncompressedLayer)
}

// rootImage is one that can be unpacked.
func rootImage(t *testing.T, names ...string) v1.Image {
	t.Helper()
	var layers []v1.Layer
	for _, n := range names {
		layers = append(layers, tarLayer(t, n, 100_000))
	}
	return hostImage(t, layers...)
}

func TestPolicies(t *testing.T) {
	store, s := newStore(t), serve(t, false)
	old, fresh := rootImage(t, "a", "b"), rootImage(t, "a", "c")
	s.push(t, "app:v1", old)
	ref, ctx := s.host()+"/app:v1", t.Context()
	opts := EnsureOptions{Options: insecure(t)}
	var steps []string
	opts.Tell = func(s Step) { steps = append(steps, string(s.Kind)) }
	ensure := func(policy Policy, want v1.Image, wantSteps ...string) *image.Image {
		t.Helper()
		steps = nil
		img, err := Ensure(ctx, store, ref, policy, opts)
		if err != nil {
			t.Fatal(err)
		}
		if img.Digest != digest(t, want) {
			t.Errorf("%s: manifest %s, want %s", policy, img.Digest, digest(t, want))
		}
		if got := strings.Join(steps, ", "); got != strings.Join(wantSteps, ", ") {
			t.Errorf("%s: %s, want %s", policy, got, wantSteps)
		}
		return img
	}

	if _, err := Ensure(ctx, store, ref, Never, opts); !errors.Is(err, ErrNeverPull) || s.count("") > 0 {
		t.Errorf("Never: %v, %d requests", err, s.count(""))
	}
	img := ensure(IfNotPresent, old, "asking", "fetching")
	if len(img.Names) != 1 || img.Names[0] != ref {
		t.Errorf("names %q, want %s", img.Names, ref)
	}

	// What is here is asked for nowhere, whether there is a registry or not.
	s.forget()
	ensure(IfNotPresent, old)
	ensure(Never, old)
	for _, id := range []string{img.ID, strings.TrimPrefix(img.ID, "sha256:")} {
		if got, err := Ensure(ctx, store, id, Always, opts); err != nil || got.ID != img.ID {
			t.Errorf("by %s: %v, %v", id, got, err)
		}
	}
	if n := s.count(""); n > 0 {
		t.Errorf("%d requests", n)
	}

	// Always asks, and fetches what is new, which is one layer and the configuration.
	ensure(Always, old, "asking", "up to date")
	if n := s.count("/blobs/"); n > 0 {
		t.Errorf("%d blobs of what is here", n)
	}
	s.push(t, "app:v1", fresh)
	s.forget()
	ensure(Always, fresh, "asking", "fetching")
	if n := s.count("/blobs/"); n != 2 {
		t.Errorf("%d blobs, want 2", n)
	}
	ensure(IfNotPresent, fresh)
	s.Close()
	if _, err := Ensure(ctx, store, ref, Always, opts); err == nil {
		t.Error("Always, without a registry")
	}
	ensure(IfNotPresent, fresh)
	if left, _ := os.ReadDir(filepath.Join(store.Dir(), "pulling")); len(left) > 0 {
		t.Errorf("locks are left: %v", left)
	}
}

func TestEnsureByDigest(t *testing.T) {
	store, s := newStore(t), serve(t, false)
	img := rootImage(t, "a")
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	s.push(t, "app:v1", index)
	opts := EnsureOptions{Options: insecure(t)}
	opts.Platform = "linux/amd64"
	for _, d := range []string{digest(t, index), digest(t, img)} {
		ref := s.host() + "/app:v1@" + d
		for range 2 {
			if got, err := Ensure(t.Context(), store, ref, IfNotPresent, opts); err != nil || got.Digest != digest(t, img) {
				t.Errorf("%s: %+v, %v", ref, got, err)
			}
		}
	}
	if n := s.count("/blobs/"); n != 2 {
		t.Errorf("%d blobs, want a layer and a configuration, once", n)
	}
	// That another platform's is here does not help.
	opts.Platform = "linux/s390x"
	if _, err := Ensure(t.Context(), store, s.host()+"/app:v1", IfNotPresent, opts); !errors.Is(err, ErrPlatform) {
		t.Errorf("%v, want ErrPlatform", err)
	}
}

// TestOnce has many want one image at once, in processes and in goroutines: each blob is
// fetched once.
func TestOnce(t *testing.T) {
	store, s := newStore(t), serve(t, false)
	img := rootImage(t, "a", "b", "c")
	s.push(t, "app:v1", img)
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			time.Sleep(50 * time.Millisecond)
		}
		return false
	})
	ref, opts := s.host()+"/app:v1", EnsureOptions{Options: insecure(t)}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			out, err := exec.Command(os.Args[0], "pull", store.Dir(), ref, opts.Config).CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
		all.Go(func() {
			if _, err := Ensure(t.Context(), store, ref, Always, opts); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := s.count("/blobs/"); n != 4 {
		t.Errorf("%d blobs fetched, want 4", n)
	}
}

// TestKilled kills processes that pull, again and again; what they leave hinders nobody.
func TestKilled(t *testing.T) {
	store, s := newStore(t), serve(t, false)
	img := rootImage(t, "a", "b", "c")
	s.push(t, "app:v1", img)
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		time.Sleep(3 * time.Millisecond)
		return false
	})
	ref, opts := s.host()+"/app:v1", EnsureOptions{Options: insecure(t)}
	for n := range 15 {
		cmd := exec.Command(os.Args[0], "pull", store.Dir(), ref, opts.Config)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(n*4) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if got, err := store.Find(ref); err == nil && got.Digest != digest(t, img) {
			t.Fatalf("after %d: %+v", n, got)
		}
	}
	if _, err := Ensure(t.Context(), store, ref, Always, opts); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Sweep(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"pulling", "temporary", "building"} {
		if left, _ := os.ReadDir(filepath.Join(store.Dir(), dir)); len(left) > 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
}

// TestBrokenMirror has a mirror that has the image, but not all of it.
func TestBrokenMirror(t *testing.T) {
	origin, mirror := serve(t, false), serve(t, false)
	img := rootImage(t, "a", "b")
	origin.push(t, "app:v1", img)
	mirror.push(t, "app:v1", img)
	bad := layerDigest(t, img, 1)
	opts := EnsureOptions{Options: quick(t)}
	opts.Config = file(t, "registries.conf", fmt.Sprintf(`
[[registry]]
prefix = "registry.example"
location = %q
insecure = true
[[registry.mirror]]
location = %q
insecure = true
`, origin.host(), mirror.host()))
	for name, do := range map[string]func(http.ResponseWriter, *http.Request){
		"missing": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"broken":  func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) },
		"another": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", 101_888)) },
	} {
		store := newStore(t)
		mirror.set(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, bad) {
				return false
			}
			do(w, r)
			return true
		})
		origin.forget()
		got, err := Ensure(t.Context(), store, "registry.example/app:v1", IfNotPresent, opts)
		if err != nil || got.Digest != digest(t, img) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if n := origin.count(bad); n != 1 {
			t.Errorf("%s: the origin was asked for the layer %d times, want 1", name, n)
		}
		if err == nil && got.Names[0] != "registry.example/app:v1" {
			t.Errorf("%s: names %q", name, got.Names)
		}
	}
}

func TestParsePolicy(t *testing.T) {
	for s, want := range map[string]Policy{
		"always": Always, "Always": Always, "missing": IfNotPresent, "IfNotPresent": IfNotPresent, "ifnotpresent": IfNotPresent, "never": Never, "Never": Never,
		"": "", "newer": "", " never": "",
	} {
		if got, err := ParsePolicy(s); got != want || (err != nil) != (want == "") || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %q, %v, want %q", s, got, err, want)
		}
	}
	for s, want := range map[string]Policy{"nginx": Always, "nginx:latest": Always, "nginx:1": IfNotPresent, "nginx@sha256:" + strings.Repeat("0", 64): IfNotPresent} {
		ref, err := Parse(s, quick(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := DefaultPolicy(ref); got != want {
			t.Errorf("%s: %s, want %s", s, got, want)
		}
	}
}
