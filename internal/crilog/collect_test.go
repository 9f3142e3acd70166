package crilog

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestCollect opens the files of a log that is rotated with each line.
func TestCollect(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		const lines = 60
		path := filepath.Join(t.TempDir(), "log")
		w := open(t, path, Options{MaxSize: 1, MaxFiles: lines})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range lines {
				fmt.Fprintln(w.Stdout(), i)
			}
		}()
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true
			default:
			}
			collectTwice(t, path)
		}
		w.Close()
		if t.Failed() {
			break
		}
	}
}

// collectTwice opens all files, and half of them again, as a reader does that has
// read the others.
func collectTwice(t *testing.T, path string) {
	t.Helper()
	files, err := collect(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if half := len(files) / 2; half > 0 {
		closeAll(files[half:])
		newer, err := collect(path, files[half-1])
		if err != nil {
			t.Fatal(err)
		}
		files = append(files[:half], newer...)
	}
	defer closeAll(files)
	wantInOrder(t, files)
}

// wantInOrder wants one line in each file, with consecutive numbers. The last file
// may be empty.
func wantInOrder(t *testing.T, files []*os.File) {
	t.Helper()
	var numbers []int
	for i, f := range files {
		b := make([]byte, 100)
		n, _ := f.ReadAt(b, 0)
		if n == 0 && i == len(files)-1 {
			break
		}
		var number int
		if _, err := fmt.Sscan(string(b[headerLen:n]), &number); err != nil {
			t.Errorf("file %d of %d: %q", i, len(files), b[:n])
		}
		numbers = append(numbers, number)
	}
	for i := range numbers[:max(len(numbers)-1, 0)] {
		if numbers[i+1] != numbers[i]+1 {
			t.Errorf("out of order: %d", numbers)
			return
		}
	}
}
