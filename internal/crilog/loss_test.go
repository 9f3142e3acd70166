package crilog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

// smallDisk mounts a filesystem with a limit.
func smallDisk(t *testing.T, limit string) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("crilog", dir, "tmpfs", 0, limit); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// impatient lets the Writer try again at once.
func impatient(w *Writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loss.retry, w.wait = time.Time{}, time.Time{}
}

var notice = regexp.MustCompile(`^podbox: (\d+) bytes of output are lost: no space left on device$`)

// TestDiskFull fills a disk, several times, and gives it space again.
func TestDiskFull(t *testing.T) {
	for _, opts := range []Options{{MaxSize: -1}, {MaxSize: 50_000, MaxFiles: 100}} {
		size := 200_000
		dir := smallDisk(t, fmt.Sprintf("size=%d", size))
		path := filepath.Join(dir, "log")
		w := open(t, path, opts)
		written := 0
		for range 3 {
			for range 50 {
				// Of many lengths, and not all with their ends.
				for i := range 100 {
					line := strings.Repeat("x", i*i%97)
					if i%3 > 0 {
						line += "\n"
					}
					write(t, w.Stdout(), line)
					written += len(line)
				}
			}
			size += 100_000
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", size)); err != nil {
				t.Fatal(err)
			}
			impatient(w)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		lost, err := w.Lost()
		if lost == 0 || err == nil {
			t.Errorf("%d bytes lost, %v", lost, err)
		}
		got, told, notices := 0, 0, 0
		err = Read(t.Context(), path, ReadOptions{}, func(e Entry) error {
			if e.Stream == Stdout {
				got += len(e.Text)
				if !e.Partial {
					got++
				}
				return nil
			}
			m := notice.FindSubmatch(e.Text)
			if m == nil || e.Stream != Stderr {
				return fmt.Errorf("entry %+v", e)
			}
			n, err := strconv.Atoi(string(m[1]))
			told += n
			notices++
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if told != int(lost) || got+told != written {
			t.Errorf("%d bytes are logged and %d told as lost, but %d are lost of %d", got, told, lost, written)
		}
		if notices != 3 {
			t.Errorf("%d notices, want 3", notices)
		}
		if opts.MaxSize > 0 {
			wantSizes(t, path, opts.MaxSize+100) // for a notice
		}
	}
}

// TestDiskStaysFull closes a log that cannot tell what was lost, and whose last
// line is unfinished.
func TestDiskStaysFull(t *testing.T) {
	dir := smallDisk(t, "size=8192")
	path := filepath.Join(dir, "log")
	w, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 99) + "\n"
	for range 1000 {
		write(t, w.Stdout(), line)
	}
	if err := w.Close(); err == nil {
		t.Error("close tells nothing")
	}
	w = open(t, path, Options{})
	write(t, w.Stdout(), "lost\n")
	if lost, err := w.Lost(); lost != 5 || err == nil {
		t.Errorf("%d bytes lost, %v", lost, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=16384"); err != nil {
		t.Fatal(err)
	}
	impatient(w)
	write(t, w.Stdout(), "written\n")
	lines, rest := 8192/(headerLen+100), 8192%(headerLen+100)-headerLen
	wantText(t, path, ReadOptions{}, strings.Repeat(line, lines)+line[:rest]+"\nwritten\n",
		"podbox: 5 bytes of output are lost: no space left on device\n")
}

// TestNoRotation makes rotation impossible, and possible again.
func TestNoRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	w := open(t, path, Options{MaxSize: 100})
	// A directory that is not empty cannot be replaced.
	for i := 1; i < defaultMaxFiles; i++ {
		if err := os.MkdirAll(filepath.Join(numbered(path, i), "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, w.Stdout(), "1\n2\n3\n4\n5\n")
	if lost, err := w.Lost(); lost != 0 || err == nil {
		t.Errorf("%d bytes lost, %v", lost, err)
	}
	for i := 1; i < defaultMaxFiles; i++ {
		if err := os.RemoveAll(numbered(path, i)); err != nil {
			t.Fatal(err)
		}
	}
	impatient(w)
	write(t, w.Stdout(), "6\n")
	wantText(t, path, ReadOptions{}, "1\n2\n3\n4\n5\n6\n", "")
	wantText(t, numbered(path, 1), ReadOptions{}, "1\n2\n3\n4\n5\n", "")
}

// TestNoInodes lets no more files be made for some time.
func TestNoInodes(t *testing.T) {
	dir := smallDisk(t, "nr_inodes=4") // one is the directory's
	path := filepath.Join(dir, "log")
	w := open(t, path, Options{MaxSize: 50, MaxFiles: 20})
	f := follow(t, path, 0)
	want := ""
	for i := range 10 {
		line := fmt.Sprintln(i)
		write(t, w.Stdout(), line)
		f.want(t, line[:1])
		want += line
		switch i {
		case 4, 8:
			impatient(w)
		case 7:
			wantText(t, path, ReadOptions{}, want, "")
			if _, err := os.Stat(path); err == nil {
				t.Error("there is a new file")
			}
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "nr_inodes=100"); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantText(t, path, ReadOptions{}, want, "")
	wantText(t, path+".1", ReadOptions{}, "2\n3\n4\n5\n6\n7\n8\n", "")
	if lost, err := w.Lost(); lost != 0 || err == nil {
		t.Errorf("%d bytes lost, %v", lost, err)
	}
	f.wantEnd(t)
}

// TestRemoved goes on when somebody removes the log.
func TestRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, Options{MaxSize: 100})
	write(t, w.Stdout(), "1\n2\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, w.Stdout(), "3\n")
	if err := Read(context.Background(), path, ReadOptions{}, func(Entry) error { return nil }); err != nil {
		t.Error(err)
	}
	wantText(t, path, ReadOptions{}, "3\n", "")
}
