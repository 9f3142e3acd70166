package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/internal/testenv"
)

// some returns an image of n layers with a few files each.
func some(t testing.TB, n int) v1.Image {
	t.Helper()
	var layers [][]byte
	for i := range n {
		entries := []entry{dir("d")}
		for f := range 20 {
			entries = append(entries, file(fmt.Sprintf("d/%d-%d", i, f), strings.Repeat(fmt.Sprint(i), 5000)))
		}
		layers = append(layers, tarOf(t, entries...))
	}
	return imageOf(t, layers...)
}

// whole fails the test unless all images of a store are whole.
func whole(t testing.TB, s *image.Store, layers int) (images int) {
	t.Helper()
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range list {
		if len(img.Layers) != layers || len(img.Names) == 0 {
			t.Fatalf("image %+v, want %d layers and a name", img, layers)
		}
		for i, d := range s.Dirs(img) {
			for f := range 20 {
				b, err := os.ReadFile(fmt.Sprintf("%s/d/%d-%d", d, i, f))
				if err != nil || string(b) != strings.Repeat(fmt.Sprint(i), 5000) {
					t.Fatalf("layer %d, file %d: %d bytes, %v", i, f, len(b), err)
				}
			}
		}
	}
	return len(list)
}

// Whoever adds an image is killed at any moment: what is there is whole, the next one
// can add it, and nothing is left of the first.
func TestKilled(t *testing.T) {
	s := newStore(t)
	const layers = 4
	archive := dockerArchive(t, "killed", some(t, layers))
	began := time.Now()
	run := func() *exec.Cmd {
		cmd := exec.Command("/proc/self/exe", "load", s.Dir(), archive)
		cmd.Stderr = os.Stderr
		return cmd
	}
	if err := run().Run(); err != nil {
		t.Fatal(err)
	}
	long := time.Since(began)
	rounds := 25
	if n, err := fmt.Sscan(os.Getenv("PODBOX_TEST_ROUNDS"), &rounds); n == 0 {
		_ = err // unset
	}
	made := 0
	for deadline := time.Now().Add(4 * time.Second); rounds > 0 && time.Now().Before(deadline); rounds-- {
		if _, err := s.Remove(bg, "killed", image.RemoveOptions{}); err != nil && !errors.Is(err, image.ErrNotFound) {
			t.Fatal(err)
		}
		cmd := run()
		cmd.Stderr = nil
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(long))
		_ = cmd.Process.Signal(unix.SIGKILL)
		_ = cmd.Wait()
		made += whole(t, s, layers)
	}
	if _, err := s.Prune(bg, false); err != nil {
		t.Error(err)
	}
	if left := temporaries(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := run().Run(); err != nil {
		t.Fatal(err)
	}
	if whole(t, s, layers) != 1 {
		t.Error("no image afterwards")
	}
	t.Logf("%d times it was done before it was killed", made)
}

// Of many who add an image at once, goroutines and processes, one reads each layer, and
// all have the image.
func TestAtOnce(t *testing.T) {
	s := newStore(t)
	img := some(t, 3)
	src, err := sourceOf(img)
	if err != nil {
		t.Fatal(err)
	}
	var opened atomic.Int64
	for i := range src.blobs {
		open := src.blobs[i].open
		src.blobs[i].open = func() (io.ReadCloser, error) {
			opened.Add(1)
			return open()
		}
	}
	archive := dockerArchive(t, "killed", img)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			if n%4 == 3 {
				out, err := exec.Command("/proc/self/exe", "load", s.Dir(), archive).CombinedOutput()
				if err != nil {
					t.Errorf("%v: %s", err, out)
				}
				return
			}
			own := *src
			own.blobs = append([]blob(nil), src.blobs...)
			opts := Options{Names: []string{fmt.Sprintf("app:%d", n)}}
			if _, err := own.add(bg, s, opts.withDefaults()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := opened.Load(); got > 3 {
		t.Errorf("layers were read %d times, want 3 at most", got)
	}
	if whole(t, s, 3) != 1 {
		t.Error("want one image")
	}
	if left := temporaries(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// A full disk is an error. What was there stays, and all goes on when there is room.
func TestDiskFull(t *testing.T) {
	testenv.NeedRoot(t)
	disk := t.TempDir()
	if err := unix.Mount("full", disk, "tmpfs", 0, "size=1m,nr_inodes=400"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH) //nolint
	s, err := image.Open(filepath.Join(disk, "images"))
	if err != nil {
		t.Fatal(err)
	}
	add(t, s, "small", tarOf(t, file("a", "a")))
	var names []entry
	for i := range 500 {
		names = append(names, file(fmt.Sprint(i), ""))
	}
	for name, img := range map[string]v1.Image{
		"bytes":  imageOf(t, tarOf(t, file("b", "b")), tarOf(t, file("big", strings.Repeat("x", 2<<20)))),
		"inodes": imageOf(t, tarOf(t, names...)),
	} {
		if _, err := Add(bg, s, img, Options{Names: []string{"large"}}); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v, want ENOSPC", name, err)
		}
		if _, err := s.Find("large"); !errors.Is(err, image.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
		if left := temporaries(t, s); len(left) > 0 {
			t.Errorf("%s: left behind: %q", name, left)
		}
	}
	// As from a pipe, which is kept on the disk meanwhile.
	big := tarOf(t, file("manifest.json", strings.Repeat(" ", 2<<20)))
	if _, err := Load(bg, s, io.MultiReader(bytes.NewReader(big)), Options{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v, want ENOSPC", err)
	}
	if left := temporaries(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := s.Prune(bg, false); err != nil {
		t.Error(err)
	}
	if img, err := s.Find("small"); err != nil {
		t.Error(err)
	} else if b, err := os.ReadFile(s.Dirs(img)[0] + "/a"); err != nil || string(b) != "a" {
		t.Errorf("%q, %v", b, err)
	}
	add(t, s, "other", tarOf(t, file("c", "c")))
}

// A context that ends, ends it, whatever a registry does.
func TestCancel(t *testing.T) {
	s := newStore(t)
	src, err := sourceOf(some(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	defer w.Close()
	src.blobs[1].open = func() (io.ReadCloser, error) { return r, nil }
	ctx, cancel := cancelAfter(20 * time.Millisecond)
	defer cancel()
	go func() {
		<-ctx.Done()
		w.CloseWithError(ctx.Err()) // as what reads from a registry would
	}()
	if _, err := src.add(ctx, s, Options{}.withDefaults()); err == nil {
		t.Error("no error")
	}
	if list, err := s.List(); len(list) > 0 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
	if left := temporaries(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// What happens is told in order.
func TestProgress(t *testing.T) {
	s := newStore(t)
	img := some(t, 3)
	var mu sync.Mutex
	told := map[int][]Stage{}
	opts := Options{Names: []string{"a"}, Progress: func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		if list := told[p.Index]; len(list) == 0 || list[len(list)-1] != p.Stage {
			told[p.Index] = append(list, p.Stage)
		}
		if p.Count != 3 || p.Done > p.Total || !strings.HasPrefix(p.Layer, "sha256:") {
			t.Errorf("%+v", p)
		}
	}}
	for _, want := range []string{"[waiting unpacking syncing done]", "[waiting present]"} {
		clear(told)
		if _, err := Add(bg, s, img, opts); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if got := fmt.Sprint(told[i]); got != want {
				t.Errorf("layer %d: %s, want %s", i, got, want)
			}
		}
	}
}
