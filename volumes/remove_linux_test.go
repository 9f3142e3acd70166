package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

// deep makes a directory in path that is n levels deep, each with a file in it.
func deep(t testing.TB, path string, n int) {
	t.Helper()
	fd := must[int](t)(unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0))
	for range n {
		ok(t, unix.Mkdirat(fd, "d", 0o755))
		next := must[int](t)(unix.Openat(fd, "d", unix.O_PATH|unix.O_CLOEXEC, 0))
		unix.Close(fd)
		fd = next
		f := must[int](t)(unix.Openat(fd, "f", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644))
		unix.Close(f)
	}
	unix.Close(fd)
}

// Each tree is filled as a stranger might, beside something that must stay.
func TestRemove(t *testing.T) {
	for name, fill := range map[string]func(t *testing.T, volume, victim string){
		"nothing": func(t *testing.T, volume, _ string) { ok(t, os.Remove(volume)) },
		"empty":   func(*testing.T, string, string) {},
		"links": func(t *testing.T, volume, victim string) {
			ok(t, os.Symlink(victim, volume+"/link"))
			ok(t, os.Symlink("/", volume+"/root"))
			ok(t, os.Symlink("link", volume+"/link-to-link"))
			ok(t, os.Symlink("..", volume+"/up"))
			ok(t, os.Link(victim+"/file", volume+"/hard"))
		},
		"names": func(t *testing.T, volume, _ string) {
			for _, n := range []string{"a\nb", "-rf", "\xff\xfe", " ", "*", "...", strings.Repeat("x", 255)} {
				ok(t, os.Mkdir(volume+"/"+n, 0o755))
				ok(t, os.WriteFile(volume+"/"+n+"/"+n, nil, 0o644))
			}
		},
		"kinds": func(t *testing.T, volume, _ string) {
			ok(t, unix.Mkfifo(volume+"/fifo", 0o600))
			ok(t, os.WriteFile(volume+"/unreadable", nil, 0))
			ok(t, os.Mkdir(volume+"/sticky", 0o1777))
			ok(t, os.Mkdir(volume+"/sub", 0o755))
		},
		"file in place of the volume": func(t *testing.T, volume, _ string) {
			ok(t, os.Remove(volume))
			ok(t, os.WriteFile(volume, nil, 0o600))
		},
		"link in place of the volume": func(t *testing.T, volume, victim string) {
			ok(t, os.Remove(volume))
			ok(t, os.Symlink(victim, volume))
		},
		"depth":             func(t *testing.T, volume, _ string) { deep(t, volume, 10_000) },
		"depth just within": func(t *testing.T, volume, _ string) { deep(t, volume, maxDepth) },
		"depth just beyond": func(t *testing.T, volume, _ string) { deep(t, volume, maxDepth+1) },
		"many": func(t *testing.T, volume, _ string) {
			for i := range 5000 {
				ok(t, os.WriteFile(fmt.Sprintf("%s/%d", volume, i), nil, 0o600))
			}
			for i := range 100 {
				deep(t, must[string](t)(os.MkdirTemp(volume, "")), i)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			sameFDs(t)
			parent, victim := tempDir(t), tempDir(t)
			ok(t, os.WriteFile(victim+"/file", []byte("precious"), 0o600))
			ok(t, os.Mkdir(parent+"/v", 0o777))
			ok(t, os.Mkdir(parent+"/other", 0o777))
			fill(t, parent+"/v", victim)
			for range 2 {
				ok(t, Remove(t.Context(), parent, "v"))
			}
			if got := list(t, parent); got != "drwxr-xr-x other" {
				t.Errorf("left:\n%.1000s", got)
			}
			if got := list(t, victim); got != `-rw------- file "precious"` {
				t.Errorf("victim:\n%s", got)
			}
		})
	}
}

func TestRemoveRefuses(t *testing.T) {
	parent := t.TempDir()
	for _, name := range []string{"", ".", "..", "a/b", "/", "../x", "a\x00b"} {
		if err := Remove(t.Context(), parent, name); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	ok(t, Remove(t.Context(), parent+"/none", "v"))
}

// A directory is removed with few descriptors, however deep it is.
func TestRemoveDescriptors(t *testing.T) {
	parent := tempDir(t)
	ok(t, os.Mkdir(parent+"/v", 0o777))
	deep(t, parent+"/v", 1000)
	// Everything that the process holds is counted in the limit.
	open := len(must[[]os.DirEntry](t)(os.ReadDir("/proc/self/fd")))
	var was unix.Rlimit
	ok(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	less := was
	less.Cur = uint64(open + maxDepth + 8)
	ok(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &less))
	err := Remove(t.Context(), parent, "v")
	ok(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was))
	ok(t, err)
}

func TestRemoveCancelled(t *testing.T) {
	parent := t.TempDir()
	ok(t, os.Mkdir(parent+"/v", 0o777))
	deep(t, parent+"/v", 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Remove(ctx, parent, "v"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ok(t, Remove(t.Context(), parent, "v"))
}

// A removal that fails at any change removes the rest, and the next one all.
func TestRemoveFails(t *testing.T) {
	sameFDs(t)
	for n := 1; ; n++ {
		path := tempDir(t)
		ok(t, os.Mkdir(path+"/v", 0o777))
		deep(t, path+"/v", maxDepth+3)
		parent := must[dir](t)(openDir(path))
		hook, failed := failAt(n)
		parent.hook = hook
		err := removeAll(t.Context(), parent, "v")
		parent.Close()
		if !failed() {
			ok(t, err)
			if n < 2*maxDepth {
				t.Errorf("only %d changes", n-1)
			}
			return
		}
		if err != nil && !errors.Is(err, errInjected) {
			t.Errorf("change %d: %v", n, err)
		}
		ok(t, Remove(t.Context(), path, "v"))
		if got := list(t, path); got != "" {
			t.Fatalf("change %d left %s", n, got)
		}
	}
}

// What is mounted in a volume is neither removed nor entered.
func TestRemoveMounts(t *testing.T) {
	testenv.NeedRoot(t)
	sameFDs(t)
	victim := t.TempDir()
	ok(t, os.WriteFile(victim+"/file", []byte("precious"), 0o600))
	for _, at := range []string{"v", "v/d", "v/d/d/d/mount", "v/d/f", "v" + strings.Repeat("/d", maxDepth+2)} {
		parent := t.TempDir()
		ok(t, os.Mkdir(parent+"/v", 0o777))
		deep(t, parent+"/v", maxDepth+2)
		at := filepath.Join(parent, at)
		source := victim
		if filepath.Base(at) == "f" {
			source = victim + "/file"
		} else {
			ok(t, os.MkdirAll(at, 0o755))
		}
		ok(t, unix.Mount(source, at, "", unix.MS_BIND, ""))
		defer unix.Unmount(at, unix.MNT_DETACH)
		err := Remove(t.Context(), parent, "v")
		if !errors.Is(err, ErrBusy) {
			t.Errorf("%s: %v", at, err)
		}
		if got := list(t, victim); got != `-rw------- file "precious"` {
			t.Fatalf("%s: the victim has become\n%s", at, got)
		}
		// It may have been moved.
		ok(t, filepath.WalkDir(parent, func(p string, _ os.DirEntry, err error) error {
			if unix.Unmount(p, 0) == nil {
				return filepath.SkipAll
			}
			return err
		}))
		ok(t, Remove(t.Context(), parent, "v"))
		if got := list(t, parent); got != "" {
			t.Errorf("%s: left\n%s", at, got)
		}
	}
}

func TestRemoveImmutable(t *testing.T) {
	testenv.NeedRoot(t)
	parent := t.TempDir()
	freeze := func(path string, attr int) {
		t.Helper()
		f := must[*os.File](t)(os.Open(path))
		defer f.Close()
		err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, attr)
		if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("this filesystem has no immutable files")
		}
		ok(t, err)
	}
	ok(t, os.Mkdir(parent+"/v", 0o777))
	deep(t, parent+"/v", maxDepth+2)
	ok(t, os.WriteFile(parent+"/v/d/log", nil, 0o600))
	for path, attr := range map[string]int{
		"v/d/log": 0x20, "v/d/d/f": 0x10, "v/d/d/d": 0x10, "v/d/d/d/d": 0x20,
		"v" + strings.Repeat("/d", maxDepth+1): 0x10,
		"v" + strings.Repeat("/d", maxDepth):   0x10,
		"v":                                    0x10,
	} {
		freeze(parent+"/"+path, attr)
	}
	ok(t, Remove(t.Context(), parent, "v"))
	if got := list(t, parent); got != "" {
		t.Errorf("left:\n%s", got)
	}
}

func BenchmarkRemove(b *testing.B) {
	for _, tt := range []struct {
		name string
		fill func(path string)
	}{
		{"wide", func(path string) {
			for i := range 100 {
				d := fmt.Sprintf("%s/%d", path, i)
				ok(b, os.Mkdir(d, 0o755))
				for j := range 20 {
					ok(b, os.WriteFile(fmt.Sprintf("%s/%d", d, j), nil, 0o600))
				}
			}
		}},
		{"deep", func(path string) { deep(b, path, 1000) }},
	} {
		for name, remove := range map[string]func(parent string) error{
			"Remove":       func(parent string) error { return Remove(b.Context(), parent, "v") },
			"os.RemoveAll": func(parent string) error { return os.RemoveAll(parent + "/v") },
		} {
			b.Run(tt.name+"/"+name, func(b *testing.B) {
				parent := tempDir(b)
				for range b.N {
					b.StopTimer()
					ok(b, os.Mkdir(parent+"/v", 0o777))
					tt.fill(parent + "/v")
					b.StartTimer()
					ok(b, remove(parent))
				}
			})
		}
	}
}
