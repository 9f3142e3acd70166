package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

// du returns what du(1) says.
func du(t testing.TB, path string) int64 {
	t.Helper()
	out, err := exec.Command("du", "-sx", "--block-size=1", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	if _, err := fmt.Sscan(string(out), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUsage(t *testing.T) {
	testenv.NeedRoot(t)
	sameFDs(t)
	root := t.TempDir()
	ok(t, os.MkdirAll(root+"/a/b/c", 0o755))
	ok(t, os.WriteFile(root+"/a/file", make([]byte, 100000), 0o600))
	ok(t, os.Link(root+"/a/file", root+"/a/b/again"))
	ok(t, os.WriteFile(root+"/a/b/c/sparse", nil, 0o600))
	ok(t, os.Truncate(root+"/a/b/c/sparse", 1<<40))
	ok(t, os.Symlink("/", root+"/host"))
	ok(t, os.Symlink("a", root+"/inside"))
	ok(t, unix.Mkfifo(root+"/fifo", 0o600))
	ok(t, unix.Mknod(root+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	// What is mounted there is somebody else's.
	ok(t, os.Mkdir(root+"/mount", 0o755))
	ok(t, unix.Mount("tmpfs", root+"/mount", "tmpfs", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(root+"/mount", unix.MNT_DETACH) })
	ok(t, os.WriteFile(root+"/mount/big", make([]byte, 1<<20), 0o600))
	got, err := Usage(t.Context(), root)
	if want := du(t, root); got != want || err != nil {
		t.Errorf("got %d, %v, want %d", got, err, want)
	}
	if got < 100000 || got > 200000 {
		t.Errorf("%d bytes", got)
	}
	if _, err := Usage(t.Context(), root+"/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Usage(ctx, root); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// What is nested too deep does not hide the rest.
func TestUsageDeep(t *testing.T) {
	sameFDs(t)
	root := tempDir(t)
	deep(t, root, maxNested-2)
	before, err := Usage(t.Context(), root)
	ok(t, err)
	if want := du(t, root); before != want {
		t.Errorf("got %d, want %d", before, want)
	}
	other := tempDir(t)
	deep(t, other, 3*maxNested)
	ok(t, os.WriteFile(other+"/zzz", make([]byte, 100000), 0o600))
	ok(t, os.WriteFile(other+"/aaa", make([]byte, 100000), 0o600))
	got, err := Usage(t.Context(), other)
	if !errors.Is(err, ErrTooDeep) || got < 200000 {
		t.Errorf("%d, %v", got, err)
	}
	ok(t, errors.Join(Remove(t.Context(), filepath.Dir(root), filepath.Base(root)), Remove(t.Context(), filepath.Dir(other), filepath.Base(other))))
}

// TestUsageRaces swaps directories for links out of the volume, and back.
func TestUsageRaces(t *testing.T) {
	sameFDs(t)
	outside, root := tempDir(t), tempDir(t)
	ok(t, os.WriteFile(outside+"/big", make([]byte, 16<<20), 0o600))
	ok(t, os.MkdirAll(root+"/d/e", 0o755))
	ok(t, os.Symlink(outside, root+"/link"))
	stop := make(chan struct{})
	var swaps sync.WaitGroup
	swaps.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, root+"/d", unix.AT_FDCWD, root+"/link", unix.RENAME_EXCHANGE)
			}
		}
	})
	for range 5000 {
		if got, err := Usage(t.Context(), root); err != nil || got > 1<<20 {
			t.Errorf("%d, %v", got, err)
			break
		}
	}
	close(stop)
	swaps.Wait()
}

func BenchmarkUsage(b *testing.B) {
	root := tempDir(b)
	for i := range 100 {
		ok(b, os.Mkdir(fmt.Sprintf("%s/%d", root, i), 0o755))
		for k := range 100 {
			ok(b, os.WriteFile(fmt.Sprintf("%s/%d/%s", root, i, strings.Repeat("x", k+1)), nil, 0o600))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Usage(context.Background(), root); err != nil {
			b.Fatal(err)
		}
	}
}
