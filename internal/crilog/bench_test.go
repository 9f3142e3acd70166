package crilog

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// payload is output of lines of 80 bytes with their newlines.
func payload(size int) []byte {
	line := strings.Repeat("x", 79) + "\n"
	return bytes.Repeat([]byte(line), size/len(line))
}

func BenchmarkWrite(b *testing.B) {
	for _, bench := range []struct {
		name  string
		chunk int
		opts  Options
	}{
		{"chunks", 16_000, Options{MaxSize: 64 << 20, MaxFiles: 1}},
		{"chunks-rotated", 16_000, Options{}},
		{"lines", 80, Options{MaxSize: 64 << 20, MaxFiles: 1}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			p := payload(bench.chunk)
			w := open(b, filepath.Join(b.TempDir(), "log"), bench.opts)
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				w.Stdout().Write(p)
			}
		})
	}
}

// BenchmarkPipe is the whole way of output: a container fills a pipe, which is
// read and logged.
func BenchmarkPipe(b *testing.B) {
	w := open(b, filepath.Join(b.TempDir(), "log"), Options{MaxSize: 64 << 20, MaxFiles: 1})
	r, container, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	p := payload(1 << 20)
	b.SetBytes(int64(len(p)))
	go func() {
		defer container.Close()
		for range b.N {
			container.Write(p)
		}
	}()
	b.ResetTimer()
	if n, err := w.Stdout().ReadFrom(r); err != nil || n != int64(b.N*len(p)) {
		b.Fatal(n, err)
	}
}

func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "log")
	w := open(b, path, Options{})
	p := payload(32 << 20)
	if _, err := io.Copy(w.Stdout(), bytes.NewReader(p)); err != nil {
		b.Fatal(err)
	}
	w.Close()
	for _, bench := range []struct {
		name string
		opts ReadOptions
		want int
	}{
		{"all", ReadOptions{}, len(p) / 80},
		{"tail", ReadOptions{Tail: 100}, 100},
	} {
		b.Run(bench.name, func(b *testing.B) {
			if bench.want*80 == len(p) {
				b.SetBytes(int64(len(p)))
			}
			for b.Loop() {
				n := 0
				err := Read(b.Context(), path, bench.opts, func(Entry) error { n++; return nil })
				if err != nil || n != bench.want {
					b.Fatal(n, err)
				}
			}
		})
	}
}
