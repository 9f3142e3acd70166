package crilog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"
)

// TestVolume sends much output through two pipes at once, while it is followed.
func TestVolume(t *testing.T) {
	size := 200 << 20
	if testing.Short() {
		size = 8 << 20
	}
	for _, opts := range []Options{{MaxSize: -1}, {MaxSize: 4 << 20, MaxFiles: 1000}} {
		path := filepath.Join(t.TempDir(), "log")
		w := open(t, path, opts)
		done := make(chan struct{})
		followed := make(chan [2]string, 1)
		go func() { followed <- sums(t, path, ReadOptions{Follow: true, Done: done}) }()
		var want [2]string
		var wg sync.WaitGroup
		for i, s := range []*Stream{w.Stdout(), w.Stderr()} {
			r, container, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			wg.Go(func() { want[i] = spout(t, container, uint64(i), size/2) })
			wg.Go(func() {
				if n, err := s.ReadFrom(r); err != nil || n != int64(size/2) {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		}
		wg.Wait()
		w.Close()
		close(done)
		if got := <-followed; got != want {
			t.Errorf("%+v: what was followed differs", opts)
		}
		if got := sums(t, path, ReadOptions{}); got != want {
			t.Errorf("%+v: what was read differs", opts)
		}
		if lost, err := w.Lost(); lost != 0 || err != nil {
			t.Errorf("%d bytes lost, %v", lost, err)
		}
		files, err := filepath.Glob(path + "*")
		if err != nil || opts.MaxSize > 0 && len(files) < size/int(opts.MaxSize) {
			t.Errorf("%d files, %v", len(files), err)
		}
		for _, file := range files {
			os.Remove(file)
		}
	}
}

// spout writes and closes, and returns the sum of what it wrote.
func spout(t *testing.T, f *os.File, seed uint64, size int) string {
	defer f.Close()
	random := rand.New(rand.NewPCG(seed, seed))
	var b bytes.Buffer
	for i := 0; b.Len() < 1<<20; i++ {
		fmt.Fprintf(&b, "%d %d %s", seed, i, strings.Repeat("text", random.IntN(40)))
		if random.IntN(20) > 0 {
			b.WriteByte('\n')
		}
	}
	sum := sha256.New()
	for size > 0 {
		n := min(size, b.Len(), 1+random.IntN(200_000))
		if _, err := f.Write(b.Bytes()[:n]); err != nil {
			t.Error(err)
			break
		}
		sum.Write(b.Bytes()[:n])
		size -= n
	}
	return string(sum.Sum(nil))
}

// sums returns the sums of both streams.
func sums(t *testing.T, path string, opts ReadOptions) [2]string {
	streams := map[string]hash.Hash{Stdout: sha256.New(), Stderr: sha256.New()}
	err := Read(context.Background(), path, opts, func(e Entry) error {
		if e.Stream == "" {
			return fmt.Errorf("line %q", e.Text)
		}
		streams[e.Stream].Write(e.Text)
		if !e.Partial {
			streams[e.Stream].Write(newline)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return [2]string{string(streams[Stdout].Sum(nil)), string(streams[Stderr].Sum(nil))}
}

// TestTerminal logs a terminal until its last user is gone.
func TestTerminal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, Options{})
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skip(err)
	}
	defer master.Close()
	conn, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	err = conn.Control(func(fd uintptr) {
		_ = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		n, _ = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	})
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer slave.Close()
		fmt.Fprint(slave, "one\ntwo")
		time.Sleep(10 * time.Millisecond)
	}()
	if n, err := w.Stdout().ReadFrom(master); err != nil || n != int64(len("one\r\ntwo")) {
		t.Errorf("%d bytes, %v", n, err)
	}
	w.Close()
	wantText(t, path, ReadOptions{}, "one\r\ntwo", "")
}

// A terminal says that its last user is gone, and has something left all the same.
func TestTerminalAfterItsEnd(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "log"), Options{})
	eio := iotest.ErrReader(unix.EIO)
	r := readers{strings.NewReader("one"), eio, strings.NewReader(" two\n"), eio, eio, strings.NewReader("three\n")}
	if n, err := w.Stdout().ReadFrom(&r); err != nil || n != int64(len("one two\n")) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// readers are asked one after the other, once each.
type readers []io.Reader

func (r *readers) Read(p []byte) (int, error) {
	first := (*r)[0]
	*r = (*r)[1:]
	return first.Read(p)
}

// TestReadFromClosed ends a copy from outside.
func TestReadFromClosed(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "log"), Options{})
	r, container, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer container.Close()
	time.AfterFunc(20*time.Millisecond, func() { r.Close() })
	if _, err := w.Stdout().ReadFrom(r); err == nil {
		t.Error("no error")
	}
	if n, err := w.Stderr().ReadFrom(strings.NewReader("any reader\n")); n != 11 || err != nil {
		t.Error(n, err)
	}
	w.Close()
	if _, err := w.Stderr().ReadFrom(strings.NewReader("x")); err != os.ErrClosed {
		t.Errorf("closed: %v", err)
	}
}
