package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.Private()
	if line := os.Getenv(doEnv); line != "" {
		os.Exit(do(strings.Fields(line)))
	}
	os.Exit(m.Run())
}

// doEnv makes the test program write the files of one volume and kill itself
// before its Nth change: "ROOT N".
const doEnv = "PODBOX_TEST_VOLUMES_DO"

func do(words []string) int {
	n, err := strconv.Atoi(words[1])
	if err != nil {
		panic(err)
	}
	root, err := os.Open(words[0])
	if err == nil {
		_, err = newFiles.write(root, func(string, string) error {
			if n--; n == 0 {
				unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
			return nil
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

var errInjected = errors.New("injected")

// failAt returns a hook that lets the Nth change fail.
func failAt(n int) (hook func(op, name string) error, failed func() bool) {
	return func(op, name string) error {
		if n--; n == 0 {
			return fmt.Errorf("%s %s: %w", op, name, errInjected)
		}
		return nil
	}, func() bool { return n <= 0 }
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

// tempDir returns a directory in memory, if there is a place for it: for tests that
// make thousands of files.
func tempDir(t testing.TB) string {
	t.Helper()
	path, err := os.MkdirTemp("/dev/shm", "volumes-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	return path
}

// list returns all below root, a line for each: type, mode and name, and what a
// file or link contains.
func list(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	ok(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %s", info.Mode(), p[len(root)+1:])
		switch {
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " -> " + target
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", b)
		}
		lines = append(lines, line)
		return nil
	}))
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// sameFDs fails the test if it ends with more descriptors than it began with.
func sameFDs(t testing.TB) {
	t.Helper()
	before := len(must[[]os.DirEntry](t)(os.ReadDir("/proc/self/fd")))
	t.Cleanup(func() {
		if after := len(must[[]os.DirEntry](t)(os.ReadDir("/proc/self/fd"))); after > before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

func stat(t testing.TB, f *os.File) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	ok(t, unix.Fstat(int(f.Fd()), &st))
	return st
}
