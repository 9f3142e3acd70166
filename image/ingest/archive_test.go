package ingest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/podbox/podbox/image"
)

// dockerArchive writes an image as docker save does.
func dockerArchive(t testing.TB, ref string, img v1.Image) string {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "docker.tar")
	if err := tarball.WriteToFile(path, tag, img); err != nil {
		t.Fatal(err)
	}
	return path
}

// layoutOf writes an OCI image layout of images for several platforms.
func layoutOf(t testing.TB, ref string, imgs map[string]v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	idx := mutate.IndexMediaType(empty.Index, "application/vnd.oci.image.index.v1+json")
	for arch, img := range imgs {
		cfg, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		cfg = cfg.DeepCopy()
		cfg.Architecture = arch
		if img, err = mutate.ConfigFile(img, cfg); err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	if err := p.AppendIndex(idx, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": ref})); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tarDir makes a tar of a directory.
func tarDir(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestLoad(t *testing.T) {
	img := imageOf(t, tarOf(t, file("a", "a")), tarOf(t, file("b", "b")))
	docker, err := os.ReadFile(dockerArchive(t, "example.com/x/app:1", img))
	if err != nil {
		t.Fatal(err)
	}
	oci := layoutOf(t, "example.com/x/app:1", map[string]v1.Image{HostPlatform().Architecture: img, "s390x": imageOf(t, tarOf(t, file("a", "other")))})
	gz, zs := new(bytes.Buffer), new(bytes.Buffer)
	w := gzip.NewWriter(gz)
	if _, err := w.Write(docker); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(zs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(docker); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	onDisk, err := os.Open(dockerArchive(t, "example.com/x/app:1", img))
	if err != nil {
		t.Fatal(err)
	}
	defer onDisk.Close()
	for name, load := range map[string]func(*image.Store) ([]*image.Image, error){
		"docker save":       func(s *image.Store) ([]*image.Image, error) { return Load(bg, s, bytes.NewReader(docker), Options{}) },
		"docker save, file": func(s *image.Store) ([]*image.Image, error) { return Load(bg, s, onDisk, Options{}) },
		"docker save, gzip": func(s *image.Store) ([]*image.Image, error) { return Load(bg, s, gz, Options{}) },
		"docker save, zstd": func(s *image.Store) ([]*image.Image, error) { return Load(bg, s, zs, Options{}) },
		"OCI archive": func(s *image.Store) ([]*image.Image, error) {
			return Load(bg, s, bytes.NewReader(tarDir(t, oci)), Options{})
		},
		"OCI directory": func(s *image.Store) ([]*image.Image, error) { return LoadDir(bg, s, oci, Options{}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			imgs, err := load(s)
			if err != nil {
				t.Fatal(err)
			}
			if len(imgs) != 1 || len(imgs[0].Names) != 1 || imgs[0].Names[0] != "example.com/x/app:1" || imgs[0].Platform != HostPlatform() {
				t.Fatalf("loaded %+v", imgs)
			}
			for i, want := range []string{"a", "b"} {
				if b, err := os.ReadFile(filepath.Join(s.Dirs(imgs[0])[i], want)); err != nil || string(b) != want {
					t.Errorf("layer %d: %q, %v", i, b, err)
				}
			}
			if left := temporaries(t, s); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// A platform that is not there is an error that says which are.
func TestLoadPlatform(t *testing.T) {
	s := newStore(t)
	dir := layoutOf(t, "app:1", map[string]v1.Image{"s390x": imageOf(t, tarOf(t, file("a", "a"))), "riscv64": imageOf(t, tarOf(t, file("a", "b")))})
	_, err := LoadDir(bg, s, dir, Options{})
	if !errors.Is(err, ErrPlatform) || !strings.Contains(err.Error(), "linux/s390x") || !strings.Contains(err.Error(), "linux/riscv64") {
		t.Errorf("got %v, want ErrPlatform that lists linux/s390x and linux/riscv64", err)
	}
	imgs, err := LoadDir(bg, s, dir, Options{Platform: image.Platform{OS: "linux", Architecture: "s390x"}})
	if err != nil || len(imgs) != 1 || imgs[0].Platform.Architecture != "s390x" {
		t.Errorf("got %v, %v", imgs, err)
	}
}

func TestLoadWrong(t *testing.T) {
	member := func(name, content string) []byte { return tarOf(t, file(name, content)) }
	for name, test := range map[string]struct {
		archive []byte
		want    error
		text    string
	}{
		"empty":            {nil, image.ErrInvalid, "neither index.json nor manifest.json"},
		"no tar":           {bytes.Repeat([]byte("no"), 1000), image.ErrCorrupt, ""},
		"a root directory": {member("etc/passwd", "root"), image.ErrInvalid, "is it a root directory?"},
		"no JSON":          {member("manifest.json", "{"), image.ErrInvalid, "manifest.json"},
		"no images":        {member("manifest.json", "[]"), image.ErrInvalid, "no images in it"},
		"no images, OCI":   {member("index.json", "{}"), image.ErrInvalid, "no images in it"},
		"config missing":   {member("manifest.json", `[{"Config":"c.json","Layers":[]}]`), os.ErrNotExist, "c.json"},
		"config outside":   {member("manifest.json", `[{"Config":"../../../../etc/passwd","Layers":[]}]`), os.ErrNotExist, "etc/passwd"},
		"blob missing":     {member("index.json", `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":"sha256:`+strings.Repeat("a", 64)+`"}]}`), os.ErrNotExist, "blobs/sha256/aaa"},
		"digest no digest": {member("index.json", `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":"sha512:`+strings.Repeat("a", 128)+`"}]}`), image.ErrInvalid, "want sha256:"},
		"index too large":  {member("index.json", strings.Repeat(" ", maxIndex+1)), image.ErrInvalid, "larger than"},
		"links in circles": {tarOf(t, link("manifest.json", "a"), link("a", "manifest.json")), image.ErrInvalid, "neither"},
		"truncated":        {member("manifest.json", strings.Repeat("x", 4000))[:2048], image.ErrCorrupt, ""},
		"xz":               {[]byte("\xfd7zXZ and so on"), image.ErrNotSupported, "want gzip, zstd or none"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			_, err := Load(bg, s, bytes.NewReader(test.archive), Options{})
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.text)
			}
			if left := temporaries(t, s); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestImport(t *testing.T) {
	s := newStore(t)
	root := t.TempDir()
	if err := os.WriteFile(root+"/hello", []byte("hello"), 0o640); err != nil {
		t.Fatal(err)
	}
	img, err := ImportDir(bg, s, root, image.Config{Cmd: []string{"/hello"}}, Options{Names: []string{"dir"}})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(s.Dirs(img)[0] + "/hello"); err != nil || string(b) != "hello" || img.Config.Cmd[0] != "/hello" {
		t.Errorf("%q, %v, %+v", b, err, img)
	}
	img, err = Import(bg, s, io.MultiReader(bytes.NewReader(tarOf(t, file("x", "x")))), image.Config{}, Options{Names: []string{"tar"}})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(s.Dirs(img)[0] + "/x"); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := Import(bg, s, strings.NewReader("no tar"), image.Config{}, Options{}); err == nil {
		t.Error("imported what is no tar")
	}
	if left := temporaries(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
