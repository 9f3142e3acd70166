package crilog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/podbox/podbox/internal/testenv"
)

func TestMain(m *testing.M) {
	if os.Args[0] == crasherName {
		crasher(os.Args[1:])
	}
	testenv.Private()
	goleak.VerifyTestMain(m)
}

// open opens a log for a test, which may also close it.
func open(t testing.TB, path string, opts Options) *Writer {
	t.Helper()
	w, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// A transcript is what a log says, put together.
type transcript struct {
	out     map[string]*bytes.Buffer
	entries int
	strange []string // lines that are not in the format
	last    time.Time
}

func newTranscript() *transcript {
	return &transcript{out: map[string]*bytes.Buffer{Stdout: {}, Stderr: {}}}
}

func (tr *transcript) add(e Entry) error {
	tr.entries++
	if e.Stream == "" {
		tr.strange = append(tr.strange, string(e.Text))
		return nil
	}
	if e.Time.Before(tr.last) {
		return fmt.Errorf("time goes back from %v to %v", tr.last, e.Time)
	}
	tr.last = e.Time
	if len(e.Text) > maxText {
		return fmt.Errorf("an entry of %d bytes", len(e.Text))
	}
	tr.out[e.Stream].Write(e.Text)
	if !e.Partial {
		tr.out[e.Stream].WriteByte('\n')
	}
	return nil
}

// text returns what the log at path says of both streams.
func text(t testing.TB, path string, opts ReadOptions) (stdout, stderr string) {
	t.Helper()
	tr := newTranscript()
	if err := Read(context.Background(), path, opts, tr.add); err != nil {
		t.Fatal(err)
	}
	if len(tr.strange) > 0 {
		t.Errorf("%d lines are not in the format: %.200q", len(tr.strange), tr.strange)
	}
	return tr.out[Stdout].String(), tr.out[Stderr].String()
}

func write(t testing.TB, s *Stream, text string) {
	t.Helper()
	if n, err := s.Write([]byte(text)); err != nil || n != len(text) {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func wantText(t testing.TB, path string, opts ReadOptions, stdout, stderr string) {
	t.Helper()
	gotOut, gotErr := text(t, path, opts)
	if gotOut != stdout {
		t.Errorf("stdout is %s, want %s", abridged(gotOut), abridged(stdout))
	}
	if gotErr != stderr {
		t.Errorf("stderr is %s, want %s", abridged(gotErr), abridged(stderr))
	}
}

func abridged(s string) string {
	if len(s) < 300 {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%d bytes, %.100q…", len(s), s)
}

func TestFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, Options{})
	before := time.Now()
	write(t, w.Stdout(), "a line\nanother\n\n")
	write(t, w.Stderr(), "no end")
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(b)) {
		stamp, rest, _ := strings.Cut(line, " ")
		at, err := time.Parse("2006-01-02T15:04:05.000000000Z", stamp)
		if err != nil || at.Before(before) || at.After(time.Now()) {
			t.Errorf("%q: %v, %v", line, at, err)
		}
		got = append(got, rest)
	}
	want := []string{"stdout F a line\n", "stdout F another\n", "stdout F \n", "stderr P no end\n"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := w.Stdout().Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
}

// TestUnfinished sees to it that the parts of a line make one entry, unless its
// end does not come.
func TestUnfinished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, Options{})
	entries := func() (list []string) {
		t.Helper()
		err := Read(t.Context(), path, ReadOptions{}, func(e Entry) error {
			list = append(list, fmt.Sprintf("%s %v %.10s", e.Stream, e.Partial, e.Text))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	want := func(want ...string) {
		t.Helper()
		if got := entries(); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	write(t, w.Stdout(), "a ")
	write(t, w.Stdout(), "line")
	write(t, w.Stderr(), "error\n")
	write(t, w.Stdout(), "\n")
	want("stderr false error", "stdout false a line")
	write(t, w.Stdout(), "name? ")
	for len(entries()) == 2 {
		time.Sleep(time.Millisecond)
	}
	write(t, w.Stdout(), "me\n")
	want("stderr false error", "stdout false a line", "stdout true name? ", "stdout false me")
	long := strings.Repeat("x", maxText)
	write(t, w.Stdout(), long+"\n"+long)
	write(t, w.Stdout(), "y\n")
	got := entries()[4:]
	if want := []string{"stdout false xxxxxxxxxx", "stdout true xxxxxxxxxx", "stdout false y"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestRoundTrip sends random bytes in random pieces through both streams.
func TestRoundTrip(t *testing.T) {
	for seed := range uint64(8) {
		for _, opts := range []Options{{}, {MaxSize: 50_000, MaxFiles: 10_000}, {MaxSize: 1, MaxFiles: 100_000}} {
			if opts.MaxSize == 1 && seed > 0 {
				continue
			}
			path := filepath.Join(t.TempDir(), "log")
			random := rand.New(rand.NewPCG(seed, 0))
			size := 400_000
			if opts.MaxSize == 1 {
				size = 20_000
			}
			want := [2]string{babble(random, size), babble(random, size)}
			rest := want
			w := open(t, path, opts)
			for rest[0] != "" || rest[1] != "" {
				i := random.IntN(2)
				n := min(random.IntN(1<<random.IntN(17)), len(rest[i]))
				write(t, []*Stream{w.Stdout(), w.Stderr()}[i], rest[i][:n])
				rest[i] = rest[i][n:]
				if random.IntN(50) == 0 {
					// The supervisor is started again.
					if err := w.Close(); err != nil {
						t.Fatal(err)
					}
					w = open(t, path, opts)
				}
			}
			w.Close()
			wantText(t, path, ReadOptions{}, want[0], want[1])
			wantSizes(t, path, opts.MaxSize)
		}
	}
}

// babble returns text of the kind that programs should not print.
func babble(random *rand.Rand, size int) string {
	var b strings.Builder
	for b.Len() < size {
		switch random.IntN(6) {
		case 0:
			b.WriteString("2016-10-06T00:17:09.669794202Z stdout F forged\n")
		case 1:
			b.WriteString(strings.Repeat("\n", random.IntN(100)))
		case 2:
			b.WriteString(strings.Repeat("long", random.IntN(20_000)))
		case 3:
			b.WriteString(strings.Repeat("12345678 \r\n", random.IntN(100)))
		default:
			for range random.IntN(1000) {
				b.WriteByte(byte(random.Uint32()))
			}
		}
	}
	return b.String()
}

func wantSizes(t *testing.T, path string, limit int64) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := int64(len(b)); limit > 0 && n > limit && bytes.Count(b, newline) > 1 {
			t.Errorf("%s has %d bytes, %d are allowed", file, n, limit)
		}
	}
}

func TestNoLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, opts := range []ReadOptions{{}, {Tail: 5}, {Follow: true}} {
		err := Read(t.Context(), path, opts, nil)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	if _, err := Open(filepath.Join(path, "log"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if err := os.Symlink("other", path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); err == nil {
		t.Error("a symbolic link was followed")
	}
}
