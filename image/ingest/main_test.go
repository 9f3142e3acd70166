package ingest

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/internal/testenv"
)

// The test program adds an archive to a store too, and ends: tests kill it meanwhile.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "load" {
		os.Exit(load(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

var bg = context.Background()

// newStore makes an empty store.
func newStore(t testing.TB) *image.Store {
	t.Helper()
	testenv.NeedRoot(t)
	s, err := image.Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An entry is one of a layer: a header, of which the type may be left out, and what is
// in the file.
type entry struct {
	tar.Header
	content string
}

func dir(name string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}

func file(name, content string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content: content}
}

func link(name, to string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}}
}

func hardLink(name, to string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o644}}
}

// tarOf returns a layer, uncompressed.
func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.content))
		if e.ModTime.IsZero() {
			e.ModTime = time.Unix(1e9, 0)
		}
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// imageOf returns an image of these layers.
func imageOf(t testing.TB, layers ...[]byte) v1.Image {
	t.Helper()
	img, err := mutate.Config(empty.Image, v1.Config{Cmd: []string{"/bin/sh"}, Labels: map[string]string{"of": t.Name()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range layers {
		l, err := tarball.LayerFromOpener(opener(b))
		if err == nil {
			img, err = mutate.AppendLayers(img, l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = HostPlatform().OS, HostPlatform().Architecture
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	return img
}

// add adds an image of these layers, and returns the directories of its layers.
func add(t testing.TB, s *image.Store, name string, layers ...[]byte) (*image.Image, []string) {
	t.Helper()
	img, err := Add(bg, s, imageOf(t, layers...), Options{Names: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	return img, s.Dirs(img)
}

// attribute returns an extended attribute of a file; nothing if it has none.
func attribute(t testing.TB, path, name string) string {
	t.Helper()
	buf := make([]byte, 1000)
	n, err := unix.Lgetxattr(path, name, buf)
	if err != nil && err != unix.ENODATA {
		t.Fatal(err)
	}
	return string(buf[:max(n, 0)])
}

func readAll(t testing.TB, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func opener(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

func load(dir, archive string) int {
	s, err := image.Open(dir)
	if err != nil {
		return 1
	}
	f, err := os.Open(archive)
	if err != nil {
		return 1
	}
	if _, err := Load(bg, s, f, Options{Names: []string{"killed"}}); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return 0
}
