package crilog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A follower follows a log in another goroutine.
type follower struct {
	lines chan string
	err   chan error
	done  chan struct{}
}

func follow(t *testing.T, path string, tail int) *follower {
	f := &follower{make(chan string), make(chan error, 1), make(chan struct{})}
	go func() {
		f.err <- Read(t.Context(), path, ReadOptions{Follow: true, Tail: tail, Done: f.done}, f.pass)
	}()
	return f
}

func (f *follower) pass(e Entry) error {
	f.lines <- string(e.Text)
	return nil
}

func (f *follower) want(t *testing.T, lines ...string) {
	t.Helper()
	for _, want := range lines {
		select {
		case got := <-f.lines:
			if got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		case err := <-f.err:
			t.Fatalf("ended before %q: %v", want, err)
		case <-time.After(10 * time.Second):
			t.Fatalf("%q does not come", want)
		}
	}
}

func (f *follower) wantEnd(t *testing.T) {
	t.Helper()
	close(f.done)
	select {
	case got := <-f.lines:
		t.Errorf("%q after the end", got)
	case err := <-f.err:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("does not end")
	}
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, Options{MaxSize: 100, MaxFiles: 10})
	write(t, w.Stdout(), "1\n2\n3\n")
	all, none, one := follow(t, path, 0), follow(t, path, None), follow(t, path, 1)
	all.want(t, "1", "2", "3")
	one.want(t, "3")
	time.Sleep(20 * time.Millisecond) // none has looked at what there is
	write(t, w.Stdout(), "4\n")
	none.want(t, "4")
	// A reader that does not keep up finds the files it has missed.
	for i := 5; i < 15; i++ {
		write(t, w.Stdout(), fmt.Sprintln(i))
	}
	for _, f := range []*follower{all, none, one} {
		if f != none {
			f.want(t, "4")
		}
		f.want(t, strings.Fields("5 6 7 8 9 10 11 12 13 14")...)
	}
	// What was written before the end is read.
	write(t, w.Stderr(), "no end")
	w.Close()
	all.want(t, "no end")
	none.want(t, "no end")
	one.want(t, "no end")
	for _, f := range []*follower{all, none, one} {
		f.wantEnd(t)
	}
}

// TestFollowRestart follows a log whose Writer crashes in the middle of a line.
func TestFollowRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	writeFile(t, path, stamp+"stdout F one", stamp+"std")
	f := follow(t, path, 0)
	f.want(t, "one")
	time.Sleep(20 * time.Millisecond)
	w := open(t, path, Options{})
	write(t, w.Stdout(), "two\n")
	f.want(t, "two")
	f.wantEnd(t)
}

// TestFollowEmptied follows a log that somebody empties.
func TestFollowEmptied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, Options{})
	write(t, w.Stdout(), "one\ntwo\n")
	f := follow(t, path, 0)
	f.want(t, "one", "two")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	write(t, w.Stdout(), "three\n")
	f.want(t, "three")
	f.wantEnd(t)
}

func TestFollowEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	writeFile(t, path, stamp+"stdout F one", "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := Read(ctx, path, ReadOptions{Follow: true}, func(Entry) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("context: %v", err)
	}
	until := time.Now().Add(50 * time.Millisecond)
	err = Read(t.Context(), path, ReadOptions{Follow: true, Until: until}, func(Entry) error { return nil })
	if err != nil || time.Now().Before(until) {
		t.Errorf("until: %v", err)
	}
}

// TestFollowRemoved follows a log that somebody removes.
func TestFollowRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, Options{MaxSize: 100})
	write(t, w.Stdout(), "1\n2\n")
	time.Sleep(20 * time.Millisecond) // for the times of modification
	write(t, w.Stdout(), "3\n4\n")
	f := follow(t, path, 0)
	f.want(t, "1", "2", "3", "4")
	time.Sleep(20 * time.Millisecond)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, w.Stdout(), "5\n")
	f.want(t, "5")
	f.wantEnd(t)
}

// TestFollowRotation has readers follow a log that is rotated all the time.
func TestFollowRotation(t *testing.T) {
	const lines = 5000
	size := int64(2000)
	for _, test := range []struct {
		name  string
		watch bool
		slow  time.Duration
	}{{"watched", true, 0}, {"slow", true, 10 * time.Millisecond}, {"polled", false, 0}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "log")
			w := open(t, path, Options{MaxSize: size, MaxFiles: lines})
			done := make(chan struct{})
			r := &reader{path: path, opts: ReadOptions{Follow: true, Done: done}}
			r.buf = make([]byte, blockSize)
			next := 0
			r.f = func(e Entry) error {
				if string(e.Text) != fmt.Sprint(next) {
					return fmt.Errorf("line %q, want %d", e.Text, next)
				}
				if next++; next%1000 == 0 {
					time.Sleep(test.slow)
				}
				return nil
			}
			if err := r.open(); err != nil {
				t.Fatal(err)
			}
			defer r.close()
			watch := &watch{file: -1}
			if test.watch {
				var err error
				if watch, err = newWatch(path); err != nil {
					t.Fatal(err)
				}
			}
			defer watch.close()
			go func() {
				defer close(done)
				var b bytes.Buffer
				for i := range lines {
					fmt.Fprintln(&b, i)
					if i%7 == 0 || i == lines-1 {
						w.Stdout().Write(b.Bytes())
						b.Reset()
					}
				}
			}()
			if err := r.read(t.Context(), watch); err != nil {
				t.Error(err)
			}
			if next != lines {
				t.Errorf("%d lines, want %d", next, lines)
			}
		})
	}
}
