package crilog

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// crasherName is argv[0] of the test binary when it runs as the Writer that is
// killed.
const crasherName = "crilog-crasher"

// crasher logs numbered lines and says of each when it is logged.
func crasher(args []string) {
	w, err := Open(args[0], Options{MaxSize: 3000, MaxFiles: 4})
	for i := 0; err == nil; i++ {
		fmt.Fprintln(w.Stdout(), i)
		_, err = fmt.Println(i)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKilled kills a Writer at random moments.
func TestKilled(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		path := filepath.Join(t.TempDir(), "log")
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = []string{crasherName, path}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		last := -1
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			if last < 0 {
				kill := time.AfterFunc(rand.N(30*time.Millisecond), func() { _ = cmd.Process.Kill() })
				defer kill.Stop()
			}
			// A line that the kill has cut is a number, too.
			if n, err := strconv.Atoi(scanner.Text()); err == nil && n > last {
				last = n
			}
		}
		_ = cmd.Wait()
		if last < 0 {
			t.Fatal("nothing was logged")
		}
		wantNumbers(t, path, -1, last)
		w := open(t, path, Options{MaxSize: 3000, MaxFiles: 4})
		wantNumbers(t, path, -1, last)
		w.Close()
	}
}

// wantNumbers wants lines with the numbers from first, or from any if that is
// negative, up to last or the one after.
func wantNumbers(t *testing.T, path string, first, last int) {
	t.Helper()
	out, _ := text(t, path, ReadOptions{})
	next := first
	for _, line := range strings.Fields(out) {
		n, err := strconv.Atoi(line)
		if err != nil || next >= 0 && n != next {
			t.Fatalf("line %q, want %d", line, next)
		}
		next = n + 1
	}
	if next-1 != last && next-2 != last {
		t.Errorf("the last line is %d, want %d or the one after", next-1, last)
	}
}

// TestCrash ends a Writer at each of its operations on files, and goes on with
// another.
func TestCrash(t *testing.T) {
	for _, maxFiles := range []int{1, 2, 3, 100} {
		for stop := 1; ; stop++ {
			path := filepath.Join(t.TempDir(), "log")
			opts := Options{MaxSize: 200, MaxFiles: maxFiles}
			w := open(t, path, opts)
			logged, crashed := 0, false
			w.before = func(string) {
				if stop--; stop == 0 {
					panic("crash")
				}
			}
			at := stop
			for logged < 30 && !crashed {
				crashed = crashes(func() { write(t, w.Stdout(), fmt.Sprintln(logged)) })
				if !crashed {
					logged++
				}
			}
			w.before = nil
			w.Close()
			if !crashed {
				if at < 30 {
					t.Fatalf("%d operations only", at)
				}
				break
			}
			stop = at
			w = open(t, path, opts)
			for i := logged; i < logged+7; i++ {
				write(t, w.Stdout(), fmt.Sprintln(i))
			}
			out, _ := text(t, path, ReadOptions{})
			got := strings.Fields(out)
			from := 0
			if maxFiles < 100 {
				from = logged + 7 - len(got)
			}
			// A file has four lines.
			if want := min(logged+7, 4*(maxFiles-1)+1); len(got) < want {
				t.Errorf("%d files, operation %d: %d lines are left, want %d", maxFiles, at, len(got), want)
			}
			for i, line := range got {
				if line != fmt.Sprint(from+i) {
					t.Errorf("%d files, operation %d: %q", maxFiles, at, got)
					break
				}
			}
			files, err := filepath.Glob(path + "*")
			if err != nil || len(files) > maxFiles {
				t.Errorf("%d files, operation %d: %q, %v", maxFiles, at, files, err)
			}
			w.Close()
		}
	}
}

func crashes(f func()) (crashed bool) {
	defer func() { crashed = recover() != nil }()
	f()
	return false
}
