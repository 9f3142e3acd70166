package crilog

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options say how much of a log is kept. The zero value keeps what the kubelet
// keeps by default.
type Options struct {
	// MaxSize is the size in bytes that no file exceeds, but for a single entry
	// that does, or by a line about lost output: 0 means 10 MiB, a negative
	// number that the log is not rotated.
	MaxSize int64
	// MaxFiles is how many files there are at most, with the one that is
	// written: 0 means 5. With 1, a full log is removed and begun anew.
	MaxFiles int
}

const (
	defaultMaxSize  = 10 << 20
	defaultMaxFiles = 5
)

// A Writer writes the log of one container. Its methods, and those of its two
// streams, may be called from several goroutines.
//
// It holds one open file. Buffers, 64 KiB for each stream, are shared by all
// Writers of the process and taken only while there is something to write.
type Writer struct {
	path           string
	maxSize        int64
	maxFiles       int
	stdout, stderr Stream
	before         func(op string) // called before each operation on files, by tests

	mu   sync.Mutex
	f    *os.File // nil when closed
	size int64    // of f
	loss loss
	err  error     // the last error
	wait time.Time // before the next rotation, after one that failed
}

// Open opens the log at path for writing at its end, or makes it, for its owner
// only. A last line that a crash has left unfinished is ended, or removed if it has
// no text yet. Rotated files beyond opts.MaxFiles are removed.
func Open(path string, opts Options) (*Writer, error) {
	w := &Writer{path: path, maxSize: opts.MaxSize, maxFiles: opts.MaxFiles}
	if w.maxSize == 0 {
		w.maxSize = defaultMaxSize
	}
	if w.maxFiles == 0 {
		w.maxFiles = defaultMaxFiles
	}
	if w.maxFiles < 0 {
		return nil, &os.PathError{Op: "open log", Path: path, Err: unix.EINVAL}
	}
	w.stdout = Stream{w: w, name: Stdout}
	w.stderr = Stream{w: w, name: Stderr}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	w.f = f
	if err := w.mend(); err != nil {
		f.Close()
		return nil, err
	}
	if err := prune(path, w.maxFiles); err != nil {
		w.err = err
	}
	return w, nil
}

// mend sees to it that the file ends with a whole line.
func (w *Writer) mend() error {
	info, err := w.f.Stat()
	if err != nil {
		return err
	}
	w.size = info.Size()
	end := make([]byte, min(w.size, int64(headerLen+maxText+1)))
	if _, err := w.f.ReadAt(end, w.size-int64(len(end))); err != nil && err != io.EOF {
		return err
	}
	torn := end[bytes.LastIndexByte(end, '\n')+1:]
	_, valid := new(parser).parse(torn)
	switch {
	case len(torn) == 0:
		return nil
	case len(torn) < headerLen && !valid:
		// A reader that follows reads an unfinished line again from its
		// beginning, so it bears this.
		w.size -= int64(len(torn))
		return w.f.Truncate(w.size)
	default:
		// On a full disk this is done later.
		w.loss.rest = []byte{'\n'}
		w.complete(time.Now())
		return nil
	}
}

// Stdout returns the stream of standard output, or of a terminal.
func (w *Writer) Stdout() *Stream { return &w.stdout }

// Stderr returns the stream of standard error.
func (w *Writer) Stderr() *Stream { return &w.stderr }

// Lost returns how many bytes of output could not be written since Open, and the
// last error of writing, rotating or removing. Output was lost only if the number
// says so: a rotation that fails is tried again, and the log grows until then.
func (w *Writer) Lost() (bytes int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.loss.total, w.err
}

// Close closes both streams and the file. It returns an error if output was lost
// that the log does not tell of. It may be called again.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	w.stdout.close()
	w.stderr.close()
	w.loss.retry = time.Time{}
	w.ready(time.Now())
	err := w.loss.err
	if cerr := w.f.Close(); err == nil {
		err = cerr
	}
	w.f = nil
	return err
}

// A batch is a number of entries with one time that are written together.
type batch struct {
	w      *Writer
	now    time.Time
	header []byte
	out    []byte // whole entries
}

// begin makes a batch that is collected in buf. The time is taken under the lock,
// so that it grows from entry to entry. The caller ends the batch with flush.
func (w *Writer) begin(stream string, buf []byte) batch {
	now := time.Now()
	return batch{w, now, header(now, stream), buf[:0]}
}

// add adds an entry whose text is what was held and what came now.
func (b *batch) add(partial bool, held, text []byte) {
	n := headerLen + len(held) + len(text) + 1
	if b.full(n) {
		b.flush()
		b.w.rotate(b.now)
	}
	if len(b.out)+n > cap(b.out) {
		b.flush()
	}
	start := len(b.out)
	b.out = append(b.out, b.header...)
	if partial {
		b.out[start+tagAt] = 'P'
	}
	b.out = append(b.out, held...)
	b.out = append(b.out, text...)
	b.out = append(b.out, '\n')
}

// full reports whether n more bytes are for the next file.
func (b *batch) full(n int) bool {
	size := b.w.size + int64(len(b.out))
	return b.w.maxSize > 0 && size > 0 && size+int64(n) > b.w.maxSize && !b.now.Before(b.w.wait)
}

// flush writes the entries, or drops them.
func (b *batch) flush() {
	w, out := b.w, b.out
	b.out = out[:0]
	if len(out) == 0 {
		return
	}
	if !w.ready(b.now) {
		w.loss.drop(out)
		return
	}
	if n, err := w.write(out); err != nil {
		w.fail(out[n:], n > 0 && out[n-1] != '\n', b.now, err)
	}
}

// write writes to the file as much as it can.
func (w *Writer) write(p []byte) (int, error) {
	w.op("write")
	n, err := w.f.Write(p)
	w.size += int64(n)
	return n, err
}

func (w *Writer) op(name string) {
	if w.before != nil {
		w.before(name)
	}
}
