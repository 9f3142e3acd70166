package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/testenv"
)

var bg = context.Background()

func newStore(t testing.TB) *Store {
	t.Helper()
	testenv.NeedRoot(t)
	s, err := Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// layer puts a layer with one file into a store, or finds it there.
func layer(t testing.TB, s *Store, diffIDs []string) *Layer {
	t.Helper()
	chain := ChainIDs(diffIDs)
	l, err := s.Layer(bg, chain[len(chain)-1])
	if err != nil {
		t.Fatal(err)
	}
	if !l.Missing() {
		return l
	}
	if err := os.WriteFile(filepath.Join(l.Dir(), "file"), []byte(chain[len(chain)-1]), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.Commit(bg, diffIDs[len(diffIDs)-1], 71); err != nil {
		t.Fatal(err)
	}
	return l
}

// config returns the configuration of an image of layers, which tells it from others by
// its author.
func config(t testing.TB, author string, diffIDs ...string) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": "amd64", "author": author,
		"rootfs": map[string]any{"type": "layers", "diff_ids": append([]string{}, diffIDs...)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// diff returns the digest of a layer, for tests: 1 is 1111….
func diff(n int) string { return "sha256:" + strings.Repeat(fmt.Sprintf("%x", n), 64) }

// put puts an image into a store: of layers 1, 2 … given as numbers.
func put(t testing.TB, s *Store, author string, names []string, layers ...int) *Image {
	t.Helper()
	var diffIDs []string
	a := Addition{Names: names}
	for _, n := range layers {
		diffIDs = append(diffIDs, diff(n))
		l := layer(t, s, diffIDs)
		defer l.Close()
		a.Layers = append(a.Layers, l)
	}
	a.Config = config(t, author, diffIDs...)
	img, err := s.Put(bg, a)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// has returns how many images, layers and other things a store has.
func has(t testing.TB, s *Store) (images, layers, others int) {
	t.Helper()
	count := func(dir string) int { return len(s.list(dir)) }
	return count(imagesDir), count(layersDir), count(temporaryDir) + count(buildingDir)
}

func wantHas(t testing.TB, s *Store, images, layers int) {
	t.Helper()
	if i, l, o := has(t, s); i != images || l != layers || o != 0 {
		t.Errorf("%d images, %d layers, %d other things; want %d, %d, 0", i, l, o, images, layers)
	}
}

func TestPutAndFind(t *testing.T) {
	s := newStore(t)
	if _, err := s.Find("nginx"); !errors.Is(err, ErrNotFound) {
		t.Errorf("in a store that is not there: %v", err)
	}
	if list, err := s.List(); len(list) > 0 || err != nil {
		t.Errorf("in a store that is not there: %v, %v", list, err)
	}
	a := put(t, s, "a", []string{"nginx", "example.com:5000/x/y:1"}, 1, 2)
	b := put(t, s, "b", nil, 1, 2, 3)
	if want := []string{"docker.io/library/nginx:latest", "example.com:5000/x/y:1"}; !reflect.DeepEqual(a.Names, want) {
		t.Errorf("names %q, want %q", a.Names, want)
	}
	if a.Size != 142 || len(a.Layers) != 2 || a.Platform.String() != "linux/amd64" || a.Added.IsZero() {
		t.Errorf("image %+v", a)
	}
	for ref, want := range map[string]*Image{
		"nginx": a, "docker.io/library/nginx:latest": a, "example.com:5000/x/y:1": a, "index.docker.io/nginx": a,
		a.ID: a, a.ID[7:]: a, a.ID[:19]: a, a.ID[7:15]: a, b.ID[7:19]: b,
	} {
		if got, err := s.Find(ref); err != nil || got.ID != want.ID {
			t.Errorf("%s: %v, %v; want %s", ref, got, err, want.ID)
		}
	}
	for ref, want := range map[string]error{
		"nginx:1": ErrNotFound, "example.com:5000/x/y": ErrNotFound, diff(7): ErrNotFound, "": ErrInvalid, "UPPER": ErrInvalid,
		"nginx@" + diff(1): ErrNotFound, "../../etc": ErrInvalid, "sha256:../..": ErrNotFound, "/": ErrInvalid,
	} {
		if got, err := s.Find(ref); !errors.Is(err, want) {
			t.Errorf("%q: %v, %v; want %v", ref, got, err, want)
		}
	}
	wantHas(t, s, 2, 3)
	if list, err := s.List(); err != nil || len(list) != 2 || list[0].ID != b.ID {
		t.Errorf("list %v, %v", list, err)
	}
	if raw, err := s.RawConfig(a); err != nil || digestOf(raw) != a.ID {
		t.Errorf("configuration %q, %v", raw, err)
	}
	if _, err := s.RawManifest(a); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("manifest: %v", err)
	}
}

// An image that came with a manifest is found by its digest, too.
func TestManifest(t *testing.T) {
	s := newStore(t)
	a := put(t, s, "a", []string{"app:1"}, 1)
	manifest := []byte(`{"schemaVersion":2}`)
	l := layer(t, s, []string{diff(1)})
	defer l.Close()
	raw, err := s.RawConfig(a)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Put(bg, Addition{Config: raw, Manifest: manifest, Layers: []*Layer{l}})
	if err != nil || b.ID != a.ID || b.Digest != digestOf(manifest) || len(b.Names) != 1 {
		t.Fatalf("%+v, %v", b, err)
	}
	for _, ref := range []string{b.Digest, "app@" + b.Digest, "app:1@" + b.Digest} {
		if got, err := s.Find(ref); err != nil || got.ID != a.ID {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
	if got, err := s.Find("other@" + b.Digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("by a digest of another repository: %v, %v", got, err)
	}
	if got, err := s.RawManifest(b); err != nil || string(got) != string(manifest) {
		t.Errorf("manifest %q, %v", got, err)
	}
	wantHas(t, s, 1, 1)
}

func TestPutWrong(t *testing.T) {
	s := newStore(t)
	one := layer(t, s, []string{diff(1)})
	defer one.Close()
	missing, err := s.Layer(bg, diff(2))
	if err != nil {
		t.Fatal(err)
	}
	defer missing.Close()
	big := make([]byte, MaxConfig+1)
	many := make([]string, MaxLayers+1)
	for i := range many {
		many[i] = diff(1)
	}
	for name, a := range map[string]Addition{
		"not JSON":          {Config: []byte("x")},
		"too large":         {Config: big},
		"no platform":       {Config: []byte(`{"rootfs":{"type":"layers"}}`)},
		"no layers said":    {Config: []byte(`{"os":"linux","architecture":"amd64"}`)},
		"too many layers":   {Config: config(t, "x", many...)},
		"no digests":        {Config: config(t, "x", "../../etc")},
		"too few layers":    {Config: config(t, "x", diff(1))},
		"too many given":    {Config: config(t, "x"), Layers: []*Layer{one}},
		"other layers":      {Config: config(t, "x", diff(3)), Layers: []*Layer{one}},
		"missing layer":     {Config: config(t, "x", diff(2)), Layers: []*Layer{missing}},
		"large manifest":    {Config: config(t, "x", diff(1)), Layers: []*Layer{one}, Manifest: big},
		"name that is none": {Config: config(t, "x", diff(1)), Layers: []*Layer{one}, Names: []string{"a b"}},
	} {
		if img, err := s.Put(bg, a); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, %v; want ErrInvalid", name, img, err)
		}
	}
	if list, err := s.List(); len(list) > 0 || err != nil {
		t.Errorf("images %v, %v", list, err)
	}
}

func TestTag(t *testing.T) {
	s := newStore(t)
	if err := s.Tag(bg, "a", "b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("in a store that is not there: %v", err)
	}
	a, b := put(t, s, "a", []string{"a"}, 1), put(t, s, "b", []string{"b"}, 2)
	if err := s.Tag(bg, "a", "other:1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(bg, "b", "a"); err != nil { // which a loses
		t.Fatal(err)
	}
	for ref, want := range map[string]string{"a": b.ID, "b": b.ID, "other:1": a.ID} {
		if got, err := s.Find(ref); err != nil || got.ID != want {
			t.Errorf("%s: %v, %v; want %s", ref, got, err, want)
		}
	}
	if err := s.Untag(bg, "other:1"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Find(a.ID); err != nil || len(got.Names) != 0 {
		t.Errorf("%v, %v; want no names", got, err)
	}
	for _, err := range []error{s.Untag(bg, "other:1"), s.Tag(bg, "nothing", "x")} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%v, want ErrNotFound", err)
		}
	}
	if err := s.Tag(bg, "a", "not a name"); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v, want ErrInvalid", err)
	}
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	if _, err := s.Remove(bg, "a", RemoveOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("in a store that is not there: %v", err)
	}
	a := put(t, s, "a", []string{"a:1", "a:2"}, 1, 2)
	put(t, s, "b", []string{"b"}, 1, 3)
	if _, err := s.Remove(bg, a.ID, RemoveOptions{}); !errors.Is(err, ErrInUse) {
		t.Errorf("by its ID, with two names: %v, want ErrInUse", err)
	}
	if got, err := s.Remove(bg, "a:1", RemoveOptions{}); err != nil || len(got.Untagged) != 1 || len(got.Images) > 0 {
		t.Errorf("by one of two names: %+v, %v", got, err)
	}
	wantHas(t, s, 2, 3)
	if got, err := s.Remove(bg, "a:2", RemoveOptions{}); err != nil || len(got.Images) != 1 || got.Layers != 1 || got.Size != 71 {
		t.Errorf("by its last name: %+v, %v", got, err)
	}
	wantHas(t, s, 1, 2)
	put(t, s, "c", []string{"c", "d"}, 1, 3) // the same layers
	if got, err := s.Remove(bg, "c", RemoveOptions{Force: true}); err != nil || len(got.Untagged) != 2 || len(got.Images) != 1 || got.Layers != 0 {
		t.Errorf("by force: %+v, %v", got, err)
	}
	if _, err := s.Find("b"); err != nil {
		t.Error(err)
	}
	wantHas(t, s, 1, 2)
}

// An image that is in use stays, and its layers; but not longer.
func TestUse(t *testing.T) {
	s := newStore(t)
	img := put(t, s, "a", []string{"a"}, 1)
	owner := filepath.Join(t.TempDir(), "owner")
	if err := os.Mkdir(owner, 0o700); err != nil {
		t.Fatal(err)
	}
	user := strings.Repeat("5", 64)
	for range 2 { // it may be started again
		if err := s.Use(bg, img, user, owner); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Use(bg, img, user, owner+"2"); err == nil {
		t.Error("one user with two owners")
	}
	if _, err := s.Remove(bg, "a", RemoveOptions{Force: true}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), owner) {
		t.Errorf("%v, want ErrInUse that names %s", err, owner)
	}
	if got, err := s.Prune(bg, true); err != nil || len(got.Images) > 0 || got.Layers > 0 {
		t.Errorf("pruned %+v, %v", got, err)
	}
	wantHas(t, s, 1, 1)
	if err := os.Remove(owner); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Prune(bg, true); err != nil || len(got.Images) != 1 || got.Layers != 1 {
		t.Errorf("pruned %+v, %v", got, err)
	}
	wantHas(t, s, 0, 0)
	if err := s.Use(bg, img, user, owner); !errors.Is(err, ErrNotFound) {
		t.Errorf("use of what is gone: %v", err)
	}
	if got := s.list(usesDir); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
	for _, err := range []error{s.Use(bg, img, "../x", owner), s.Use(bg, img, user, "relative")} {
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%v, want ErrInvalid", err)
		}
	}
}

// What is noted of uses does not grow with all containers that there ever were.
func TestUsesAreForgotten(t *testing.T) {
	s := newStore(t)
	if err := s.ForgetUses(bg); err != nil {
		t.Errorf("without a store: %v", err)
	}
	img := put(t, s, "a", []string{"a"}, 1)
	dir := t.TempDir()
	use := func(n int) string {
		user := fmt.Sprintf("%x", sha256.Sum256([]byte{byte(n), byte(n >> 8)}))
		owner := filepath.Join(dir, user)
		if err := os.Mkdir(owner, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := s.Use(bg, img, user, owner); err != nil {
			t.Fatal(err)
		}
		return owner
	}
	links := func() int {
		return len(s.list(filepath.Join(usesDir, strings.TrimPrefix(img.ID, "sha256:"))))
	}
	kept := use(0)
	most := 0
	for n := range 1000 {
		if err := os.Remove(use(n + 1)); err != nil {
			t.Fatal(err)
		}
		most = max(most, links())
	}
	if most > 200 {
		t.Errorf("%d uses are noted, of which one has not ended", most)
	}
	if err := s.ForgetUses(bg); err != nil {
		t.Fatal(err)
	}
	if n := links(); n != 1 {
		t.Errorf("%d uses are noted, want 1", n)
	}
	if _, err := s.Remove(bg, "a", RemoveOptions{}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), kept) {
		t.Errorf("%v, want ErrInUse that names %s", err, kept)
	}
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
	if err := s.ForgetUses(bg); err != nil {
		t.Fatal(err)
	}
	if got := s.list(usesDir); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

func TestPrune(t *testing.T) {
	s := newStore(t)
	if got, err := s.Prune(bg, false); err != nil || !reflect.DeepEqual(got, Removed{}) {
		t.Errorf("in a store that is not there: %+v, %v", got, err)
	}
	put(t, s, "a", []string{"a"}, 1, 2)
	put(t, s, "b", nil, 1, 3)
	held := layer(t, s, []string{diff(5)}) // by who is about to make an image of it
	layer(t, s, []string{diff(6)}).Close() // its maker was killed
	half, err := s.Layer(bg, diff(7))      // on its way in
	if err != nil {
		t.Fatal(err)
	}
	left := s.path(temporaryDir, "left")
	if err := os.MkdirAll(filepath.Join(left, filesDir, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := s.Prune(bg, false)
	if err != nil || len(got.Images) != 1 || got.Layers != 2 || got.Left != 1 {
		t.Errorf("pruned %+v, %v", got, err)
	}
	if err := half.Close(); err != nil {
		t.Error(err)
	}
	wantHas(t, s, 1, 3)
	if err := held.Close(); err != nil {
		t.Error(err)
	}
	if got, err := s.Prune(bg, true); err != nil || len(got.Images) != 1 || got.Layers != 3 {
		t.Errorf("pruned %+v, %v", got, err)
	}
	wantHas(t, s, 0, 0)
}

// Layers of images that cannot be read are not taken for nobody's.
func TestCorruptRecord(t *testing.T) {
	s := newStore(t)
	a := put(t, s, "a", []string{"a"}, 1)
	put(t, s, "b", []string{"b"}, 2)
	for name, content := range map[string]string{"empty": "", "garbage": "{", "another's": `{"id":"` + diff(9) + `"}`, "bad layers": `{"id":"` + a.ID + `","layers":["../../x"]}`} {
		if err := os.WriteFile(s.path(imagesDir, a.ID[7:], imageFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Find("a"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
		if list, err := s.List(); len(list) != 1 || !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, %v", name, list, err)
		}
		if _, err := s.Prune(bg, true); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
	wantHas(t, s, 2, 2)
	if got := put(t, s, "a", []string{"a"}, 1); got.ID != a.ID { // whoever adds it again mends it
		t.Errorf("%v", got)
	}
	if _, err := s.Find("a"); err != nil {
		t.Error(err)
	}
}

// Of many that want a layer one unpacks it; the others wait for that.
func TestLayerOnce(t *testing.T) {
	s := newStore(t)
	var unpacked int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			l, err := s.Layer(bg, diff(1))
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			if !l.Missing() {
				return
			}
			mu.Lock()
			unpacked++
			n := unpacked
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			if n < 3 {
				return // it fails: the next one has to
			}
			if err := l.Commit(bg, diff(1), 0); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if unpacked != 3 {
		t.Errorf("unpacked %d times, want 3", unpacked)
	}
	wantHas(t, s, 0, 1)
}

// A wait for another one ends with the context.
func TestLayerWait(t *testing.T) {
	s := newStore(t)
	l, err := s.Layer(bg, diff(1))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(bg, 20*time.Millisecond)
	defer cancel()
	if _, err := s.Layer(ctx, diff(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	wantHas(t, s, 0, 0)
	if _, err := s.Layer(bg, "sha256:../x"); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v, want ErrInvalid", err)
	}
}

// Those who add, tag, remove, prune and use images at once do not get in each other's
// way.
func TestAtOnce(t *testing.T) {
	s := newStore(t)
	put(t, s, "stays", []string{"stays"}, 1)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 10 {
				name := fmt.Sprintf("app:%d", i)
				img := put(t, s, name, []string{name}, 1, 2+n%3)
				for _, d := range s.Dirs(img) {
					// Until somebody removes it, it is whole.
					if b, err := os.ReadFile(d + "/file"); err == nil && !strings.HasPrefix(string(b), "sha256:") {
						t.Errorf("%s: %q", d, b)
					}
				}
				if _, err := s.Remove(bg, name, RemoveOptions{}); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
				if _, err := s.Prune(bg, false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if _, err := s.Prune(bg, false); err != nil {
		t.Error(err)
	}
	wantHas(t, s, 1, 1)
}

func TestOpen(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrInvalid) {
		t.Errorf("a directory that others may write to: %v, want ErrInvalid", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file); !errors.Is(err, ErrInvalid) {
		t.Errorf("a file: %v, want ErrInvalid", err)
	}
}

// What is in use is not swept, however it looks.
func TestSweep(t *testing.T) {
	s := newStore(t)
	live, err := s.Temporary()
	if err != nil {
		t.Fatal(err)
	}
	dead := s.path(temporaryDir, "dead")
	if err := os.MkdirAll(dead+"/deep/er", 0o700); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Sweep(); n != 1 || err != nil {
		t.Errorf("swept %d, %v; want 1", n, err)
	}
	if _, err := os.Stat(live.Dir()); err != nil {
		t.Error(err)
	}
	if err := errors.Join(live.Close(), live.Close()); err != nil {
		t.Error(err)
	}
	wantHas(t, s, 0, 0)
	lock, err := flock.Try(s.path(lockFile), flock.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	ctx, cancel := context.WithTimeout(bg, 10*time.Millisecond)
	defer cancel()
	if _, err := s.Prune(ctx, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
}

// An image whose maker was killed before it had its names is not there, but its next
// maker finds it.
func TestBorn(t *testing.T) {
	s := newStore(t)
	a := put(t, s, "a", []string{"a"}, 1)
	born := s.path(imagesDir, a.ID[7:], bornFile)
	if _, err := os.Lstat(born); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it has its name: %v", err)
	}
	// Killed between its name and the note of that.
	if err := os.WriteFile(born, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find("a"); err != nil {
		t.Error(err)
	}
	put(t, s, "b", []string{"a"}, 2) // which a loses, without being lost
	if got, err := s.Find(a.ID); err != nil || len(got.Names) > 0 {
		t.Errorf("%v, %v", got, err)
	}
	// Killed before it had its name.
	if err := os.WriteFile(born, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Find(a.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v, %v; want ErrNotFound", got, err)
	}
	if list, err := s.List(); len(list) != 1 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
	if got := put(t, s, "a", []string{"c"}, 1); got.ID != a.ID {
		t.Errorf("%v", got)
	}
	wantHas(t, s, 2, 2)
	if err := errors.Join(s.Untag(bg, "c"), os.WriteFile(born, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prune(bg, false); err != nil {
		t.Error(err)
	}
	wantHas(t, s, 1, 1)
}
