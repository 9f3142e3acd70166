package overlay

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/fault"
	"github.com/podbox/podbox/internal/testenv"
)

// layers makes n directories, each with a file of its own, and one that all have.
func layers(t testing.TB, n int) []string {
	t.Helper()
	testenv.NeedRoot(t)
	root := t.TempDir()
	var dirs []string
	for i := range n {
		dir := filepath.Join(root, fmt.Sprintf("%064d", i), "diff") // as long as those of a store
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"all", fmt.Sprint(i)} {
			if err := os.WriteFile(filepath.Join(dir, name), fmt.Append(nil, i), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

// writable adds what an overlay needs to be written to.
func writable(t testing.TB, o Options) Options {
	t.Helper()
	dir := t.TempDir()
	o.Upper, o.Work, o.Volatile = dir+"/upper", dir+"/work", true
	for _, d := range []string{o.Upper, o.Work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func read(t testing.TB, m *os.File, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/%s", m.Fd(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// mounted fails the test unless an overlay shows what its directories have.
func mounted(t testing.TB, m *os.File, n int) {
	t.Helper()
	if got, want := read(t, m, "all"), fmt.Sprint(n-1); got != want {
		t.Errorf("what all have is that of %s, want the highest, %s", got, want)
	}
	for i := range n {
		if got := read(t, m, fmt.Sprint(i)); got != fmt.Sprint(i) {
			t.Errorf("file %d is %q", i, got)
		}
	}
}

func TestNew(t *testing.T) {
	for _, n := range []int{1, 2, 120, MaxLower} {
		for _, write := range []bool{false, true} {
			if n == MaxLower && !write {
				continue // to make so many takes a while
			}
			t.Run(fmt.Sprintf("%d %t", n, write), func(t *testing.T) {
				o := Options{Lower: layers(t, n)}
				if write {
					o = writable(t, o)
				}
				m, err := New(o)
				if n > maxShort && testenv.Before(t, 6, 7) {
					if !errors.Is(err, fault.ErrNotSupported) {
						t.Errorf("got %v, want ErrNotSupported", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				mounted(t, m, n)
				err = os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/new", m.Fd()), nil, 0o644)
				if write != (err == nil) || !write && !errors.Is(err, unix.EROFS) {
					t.Errorf("write: %v", err)
				}
			})
		}
	}
}

// Older kernels take all directories in one string.
func TestShort(t *testing.T) {
	for _, n := range []int{2, 120, maxShort} {
		o := writable(t, Options{})
		dirs := layers(t, n)
		var lower []string
		for i := range dirs {
			lower = append(lower, dirs[len(dirs)-1-i])
		}
		o.Lower = dirs
		m, err := short(o, lower)
		if err != nil {
			t.Fatal(err)
		}
		mounted(t, m, n)
		m.Close()
	}
	if _, err := short(Options{}, make([]string, maxShort+1)); !errors.Is(err, fault.ErrNotSupported) {
		t.Errorf("got %v, want ErrNotSupported", err)
	}
}

// userNamespace returns a user namespace in which user 0 is 100000 of the host.
func userNamespace(t testing.TB) *os.File {
	t.Helper()
	testenv.NeedRoot(t)
	ids := []syscall.SysProcIDMap{{HostID: 100000, Size: 65536}}
	p := exec.Command("sleep", "1000")
	p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.Wait()
	defer p.Process.Kill()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The owners of files are those of a user namespace, on whatever kernel can do that.
func TestIDMap(t *testing.T) {
	userns, dirs := userNamespace(t), layers(t, maxShort+1)
	for name, make := range map[string]func(Options) (*os.File, error){"new": New, "attached": attached} {
		for _, n := range []int{2, maxShort, maxShort + 1} {
			for _, write := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %d %t", name, n, write), func(t *testing.T) {
					o := Options{Lower: dirs[:n], IDMap: userns}
					if write {
						o = writable(t, o)
					}
					m, err := make(o)
					switch {
					case testenv.Before(t, 5, 19), n > maxShort && testenv.Before(t, 6, 7):
						if err == nil || name == "new" && !errors.Is(err, fault.ErrNotSupported) {
							t.Errorf("got %v, want ErrNotSupported", err)
						}
						return
					case err != nil:
						t.Fatal(err)
					}
					defer m.Close()
					mounted(t, m, n)
					var st unix.Stat_t
					if err := unix.Fstatat(int(m.Fd()), "all", &st, 0); err != nil || st.Uid != 100000 || st.Gid != 100000 {
						t.Errorf("the owner is %d:%d, %v; want 100000 twice", st.Uid, st.Gid, err)
					}
				})
			}
		}
	}
}

// What an attempt has left in the directory for the kernel's work does not stand in the way of the
// next: Linux before 6.15 makes two.
func TestClearWork(t *testing.T) {
	testenv.NeedRoot(t)
	o := writable(t, Options{Lower: layers(t, 2)})
	for range 2 {
		m, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
		again := func() error {
			m, err := New(o)
			if err == nil {
				m.Close()
			}
			return err
		}
		if err := again(); !errors.Is(err, unix.EINVAL) {
			t.Errorf("the directory is used already: %v, want EINVAL", err)
		}
		if err := clearWork(o.Work); err != nil {
			t.Fatal(err)
		}
	}
}

// Paths may be longer than the kernel takes strings to be.
func TestLongPaths(t *testing.T) {
	dirs := layers(t, 1)
	long := filepath.Join(t.TempDir(), strings.Repeat("long/", 60))
	o := Options{Upper: long + "/upper", Work: long + "/work"}
	for _, dir := range []string{o.Upper, o.Work, long + "/lower"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o.Lower = append(dirs, long+"/lower")
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got := read(t, m, "all"); got != "0" {
		t.Errorf("read %q", got)
	}
	if o.IDMap = userNamespace(t); testenv.Before(t, 5, 19) {
		return
	}
	mapped, err := attached(o)
	if err != nil {
		t.Fatal(err)
	}
	defer mapped.Close()
	if got := read(t, mapped, "all"); got != "0" {
		t.Errorf("read %q of an ID-mapped overlay", got)
	}
}

func TestWrong(t *testing.T) {
	testenv.NeedRoot(t)
	for name, test := range map[string]struct {
		o    Options
		want error
	}{
		"none":      {Options{}, fault.ErrInvalid},
		"too many":  {Options{Lower: make([]string, MaxLower+1)}, fault.ErrInvalid},
		"not there": {Options{Lower: []string{"/nowhere", "/nowhere2"}}, unix.ENOENT},
		"one":       {Options{Lower: []string{"/nowhere"}}, unix.ENOENT},
	} {
		if _, err := New(test.o); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{1, 10, 120} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			o := writable(b, Options{Lower: layers(b, n)})
			for b.Loop() {
				m, err := New(o)
				if err != nil {
					b.Fatal(err)
				}
				m.Close()
				os.RemoveAll(o.Work)
				os.Mkdir(o.Work, 0o700)
			}
		})
	}
}
