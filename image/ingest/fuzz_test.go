package ingest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/podbox/podbox/internal/testenv"
)

func cancelAfter(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(bg, d)
}

// FuzzUnpack unpacks anything. Whatever comes of it, nothing outside of the directory is
// touched, no more is written than may be, and nothing is there that overlayfs would take
// for its own.
func FuzzUnpack(f *testing.F) {
	testenv.NeedRoot(f)
	for _, test := range hostile {
		f.Add(tarOf(f, test.entries...))
	}
	f.Add(tarOf(f, dir("a"), file("a/b", "b"), link("c", "a"), hardLink("d", "a/b"), file(".wh.e", ""), file("a/.wh..wh..opq", "")))
	f.Fuzz(func(t *testing.T, layer []byte) {
		if len(layer) > 1<<20 {
			return
		}
		top := t.TempDir()
		root, outside := filepath.Join(top, "root"), filepath.Join(top, "outside")
		for _, d := range []string{root, outside} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		b := &budget{limits: Limits{Size: 1 << 16, Entries: 100}}
		ctx, cancel := cancelAfter(10 * time.Second)
		defer cancel()
		size, implied, err := unpack(ctx, root, bytes.NewReader(layer), b)
		if size > b.limits.Size || len(implied) > 200 {
			t.Errorf("%d bytes, %d directories", size, len(implied))
		}
		if err == nil {
			if err := inherit(root, implied, []string{outside}); err != nil {
				t.Errorf("inherit: %v", err)
			}
		}
		if found, err := os.ReadDir(top); err != nil || len(found) != 2 {
			t.Errorf("beside the root: %v, %v", found, err)
		}
		if found, err := os.ReadDir(outside); err != nil || len(found) != 0 {
			t.Errorf("outside: %v, %v", found, err)
		}
		if st, err := os.Lstat(root); err != nil || !st.IsDir() {
			t.Errorf("the root: %v, %v", st, err)
		}
		var written int64
		_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if st, err := d.Info(); err == nil && st.Mode().IsRegular() {
				written += st.Size()
			}
			return nil
		})
		// A hard link counts each time here.
		if written > 100*b.limits.Size {
			t.Errorf("%d bytes written", written)
		}
	})
}
