package crilog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// read returns what Read passes, as lines of a log without their times.
func read(t testing.TB, path string, opts ReadOptions) []string {
	t.Helper()
	var got []string
	err := Read(t.Context(), path, opts, func(e Entry) error {
		tag := "F"
		if e.Partial {
			tag = "P"
		}
		got = append(got, strings.Join([]string{e.Stream, tag, string(e.Text)}, " "))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wantRead(t testing.TB, path string, opts ReadOptions, want ...string) {
	t.Helper()
	if got := read(t, path, opts); !slices.Equal(got, want) {
		t.Errorf("%+v:\n got %q\nwant %q", opts, got, want)
	}
}

func writeFile(t testing.TB, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

const stamp = "2016-10-06T00:17:09.669794202Z "

// TestOtherWriters reads what a Writer does not write.
func TestOtherWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	long := strings.Repeat("x", 3*blockSize)
	for _, test := range []struct {
		line string
		want []string
	}{
		{stamp + "stdout F text", []string{"stdout F text"}},
		{stamp + "stderr F:new:tags text", []string{"stderr F text"}},
		{stamp + "stdout F ", []string{"stdout F "}},
		{"2016-10-06T00:17:09+02:00 stdout F text", []string{"stdout F text"}},
		{"2016-10-06T00:17:09.1Z stdout F  two ", []string{"stdout F  two "}},
		{stamp + "stdout F", []string{" F " + stamp + "stdout F"}},
		{stamp + "stdin F text", []string{" F " + stamp + "stdin F text"}},
		{stamp + "stdout X text", []string{" F " + stamp + "stdout X text"}},
		{stamp + "stdout  F text", []string{" F " + stamp + "stdout  F text"}},
		{"yesterday stdout F text", []string{" F yesterday stdout F text"}},
		{"", []string{" F "}},
		{"\x00\xff", []string{" F \x00\xff"}},
		{stamp + "stdout F " + long, []string{
			"stdout P " + long[:blockSize-headerLen], "stdout P " + long[:blockSize],
			"stdout P " + long[:blockSize], "stdout F " + long[:headerLen],
		}},
		{long, []string{" P " + long[:blockSize], " P " + long[:blockSize], " P " + long[:blockSize], " F "}},
	} {
		writeFile(t, path, test.line, stamp+"stdout F next", "")
		wantRead(t, path, ReadOptions{}, append(test.want, "stdout F next")...)
		wantRead(t, path, ReadOptions{Tail: 1}, "stdout F next")
		wantRead(t, path, ReadOptions{Tail: 2}, append(test.want, "stdout F next")...)
	}
}

// TestTorn reads logs whose last line has no end.
func TestTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	first, second := stamp+"stdout F one", stamp+"stderr F two"
	for n := range len(second) {
		writeFile(t, path, first, second[:n])
		want := []string{"stdout F one"}
		if n >= headerLen {
			want = append(want, "stderr P "+second[headerLen:n])
		}
		wantRead(t, path, ReadOptions{}, want...)
		w := open(t, path, Options{})
		write(t, w.Stdout(), "three\n")
		w.Close()
		if n >= headerLen {
			want[1] = "stderr F " + second[headerLen:n]
		}
		wantRead(t, path, ReadOptions{}, append(want, "stdout F three")...)
	}
	writeFile(t, path, strings.Repeat("x", blockSize))
	open(t, path, Options{}).Close()
	if b, err := os.ReadFile(path); err != nil || len(b) != blockSize+1 {
		t.Errorf("a long line without an end: %d bytes, %v", len(b), err)
	}
}

// TestTail compares with what is found by reading all.
func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		var all []string
		for i := range 3 {
			var lines []string
			for range random.IntN(12) {
				line := fmt.Sprintf("%s %s ", []string{Stdout, Stderr}[random.IntN(2)], []string{"P", "F"}[random.IntN(2)])
				line += strings.Repeat("z", random.IntN(1<<random.IntN(15)))
				lines, all = append(lines, stamp+line), append(all, line)
			}
			writeFile(t, numbered(path, 2-i), append(lines, "")...)
		}
		for want := range len(all) + 2 {
			tail := want
			if want == 0 {
				tail = None
			}
			if got, from := read(t, path, ReadOptions{Tail: tail}), lastLines(all, want); !slices.Equal(got, all[from:]) {
				t.Fatalf("round %d, last %d of %d: got %d entries, want %d", round, want, len(all), len(got), len(all)-from)
			}
		}
	}
}

// lastLines returns where the last n lines begin in a list of entries.
func lastLines(entries []string, n int) int {
	seen := 0
	for i, e := range slices.Backward(entries) {
		if i == len(entries)-1 || e[len("stdout ")] == 'F' {
			seen++
		}
		if seen > n {
			return i + 1
		}
	}
	return 0
}

func TestSinceUntil(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	at := func(second int) time.Time { return time.Date(2020, 1, 1, 0, 0, second, 0, time.UTC) }
	line := func(second int) string {
		return fmt.Sprintf("%s stdout F %d", at(second).Format(time.RFC3339Nano), second)
	}
	writeFile(t, path+".1", line(1), line(2), "")
	writeFile(t, path, line(3), "odd", line(4), line(5), "")
	for i, second := range []int{5, 2} {
		if err := os.Chtimes(numbered(path, i), at(second), at(second)); err != nil {
			t.Fatal(err)
		}
	}
	one, two, three, odd, four, five := "stdout F 1", "stdout F 2", "stdout F 3", " F odd", "stdout F 4", "stdout F 5"
	wantRead(t, path, ReadOptions{}, one, two, three, odd, four, five)
	wantRead(t, path, ReadOptions{Since: at(2)}, two, three, odd, four, five)
	wantRead(t, path, ReadOptions{Since: at(3)}, three, odd, four, five)
	wantRead(t, path, ReadOptions{Since: at(4)}, four, five)
	wantRead(t, path, ReadOptions{Since: at(6)})
	wantRead(t, path, ReadOptions{Until: at(3)}, one, two, three, odd)
	wantRead(t, path, ReadOptions{Since: at(2), Until: at(2)}, two)
	wantRead(t, path, ReadOptions{Since: at(2), Tail: 2}, four, five)
	wantRead(t, path, ReadOptions{Since: at(5), Tail: 2}, five)
	wantRead(t, path, ReadOptions{Until: at(4), Follow: true}, one, two, three, odd, four)
}

// TestGaps reads sets of files that a crash may have left, with others beside them.
func TestGaps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, name := range []string{"", ".1", ".3", ".7"} {
		writeFile(t, path+name, stamp+"stdout F at"+name, "")
	}
	for _, name := range []string{".gz", ".01", ".1.gz", ".-1", ".0", "x.1", ".99999999999999999999"} {
		writeFile(t, path+name, stamp+"stdout F wrong", "")
	}
	wantRead(t, path, ReadOptions{}, "stdout F at.7", "stdout F at.3", "stdout F at.1", "stdout F at")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantRead(t, path, ReadOptions{}, "stdout F at.7", "stdout F at.3", "stdout F at.1")

	w := open(t, path, Options{MaxSize: 1, MaxFiles: 5})
	wantRead(t, path, ReadOptions{}, "stdout F at.3", "stdout F at.1")
	write(t, w.Stdout(), "new\nnewer\n")
	wantRead(t, path, ReadOptions{}, "stdout F at.3", "stdout F at.1", "stdout F new", "stdout F newer")
	write(t, w.Stdout(), "newest\n")
	wantRead(t, path, ReadOptions{}, "stdout F at.3", "stdout F at.1", "stdout F new", "stdout F newer", "stdout F newest")
	write(t, w.Stdout(), "last\n")
	wantRead(t, path, ReadOptions{}, "stdout F at.1", "stdout F new", "stdout F newer", "stdout F newest", "stdout F last")
}

func TestReadStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	writeFile(t, path, stamp+"stdout F one", stamp+"stdout F two", "")
	stop := errors.New("stop")
	calls := 0
	err := Read(t.Context(), path, ReadOptions{}, func(Entry) error { calls++; return stop })
	if err != stop || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Read(ctx, path, ReadOptions{}, nil); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(stamp + "stdout F text"))
	f.Add([]byte("2016-10-06T00:17:09+02:00 stderr P:x "))
	f.Add([]byte("  F "))
	f.Fuzz(func(t *testing.T, line []byte) {
		var p parser
		e, ok := p.parse(line)
		again, okAgain := p.parse(line) // with the time that it knows
		if ok != okAgain || !e.Time.Equal(again.Time) {
			t.Errorf("first %v, then %v", e, again)
		}
		if !ok {
			return
		}
		if !bytes.HasSuffix(line, append([]byte{' '}, e.Text...)) || len(line)-len(e.Text) < len("2016-10-06T00:17:09Z stdout F ") {
			t.Errorf("text %q", e.Text)
		}
		head := header(e.Time, e.Stream)
		if e.Partial {
			head[tagAt] = 'P'
		}
		if year := e.Time.UTC().Year(); year < 0 || year > 9999 {
			return // UTC may be another year, and the format has four digits
		}
		ours, ok := new(parser).parse(append(head, e.Text...))
		if !ok || !ours.Time.Equal(e.Time) || ours.Stream != e.Stream || ours.Partial != e.Partial || !bytes.Equal(ours.Text, e.Text) {
			t.Errorf("%v written and read is %v", e, ours)
		}
	})
}

// FuzzRead reads any file, whose bytes are all passed but those of a torn header.
func FuzzRead(f *testing.F) {
	f.Add([]byte(stamp+"stdout F text\n"+stamp+"stdout P te"), 1)
	f.Add([]byte("\n\n\n"), 2)
	f.Add([]byte("2016-10-06T00:17:09Z stdout P "), 3)
	path := filepath.Join(f.TempDir(), "log")
	f.Fuzz(func(t *testing.T, content []byte, tail int) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		all := read(t, path, ReadOptions{})
		last := read(t, path, ReadOptions{Tail: tail})
		if len(last) > len(all) || !slices.Equal(last, all[len(all)-len(last):]) {
			t.Errorf("all %q, tail %q", all, last)
		}
		w := open(t, path, Options{})
		w.Close()
		if now := read(t, path, ReadOptions{}); len(now) < len(all) {
			t.Errorf("before it was opened %q, then %q", all, now)
		}
	})
}
