package ingest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/podbox/podbox/image"
)

// bufferSize is how many bytes are on their way at once between two stages of a layer.
const bufferSize = 256 << 10

// A blob is a layer as it comes.
type blob struct {
	diffID string // of the layer uncompressed; empty if it is to be found out
	digest string // of the blob; empty if there is none, as in an archive of docker save
	size   int64  // bytes of the blob; -1 if that is not known
	open   func() (io.ReadCloser, error)
}

// name is what a layer is called for people.
func (b blob) name() string {
	if b.digest != "" {
		return b.digest
	}
	return b.diffID
}

// A meter counts and hashes what is read, and fails if it is more than it shall be, or
// if the context has ended.
type meter struct {
	ctx   context.Context
	r     io.Reader
	hash  hash.Hash // nil: not wanted
	n     int64
	limit int64 // -1: none
	what  string
	told  func(int64) // nil: nobody
	err   error       // of what is read, but for its end
}

func (m *meter) Read(p []byte) (n int, err error) {
	defer func() {
		if err != nil && err != io.EOF {
			m.err = err
		}
	}()
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err = m.r.Read(p)
	m.n += int64(n)
	if m.limit >= 0 && m.n > m.limit {
		return 0, fmt.Errorf("%s: %w: more than %d bytes", m.what, image.ErrCorrupt, m.limit)
	}
	if m.hash != nil {
		m.hash.Write(p[:n])
	}
	if m.told != nil && n > 0 {
		m.told(m.n)
	}
	return n, err
}

// check compares what was read with what it should be.
func (m *meter) check(digest string) error {
	if m.limit >= 0 && m.n < m.limit {
		return fmt.Errorf("%s: %w: %d bytes instead of %d: truncated", m.what, image.ErrCorrupt, m.n, m.limit)
	}
	if got := m.digest(); digest != "" && got != digest {
		return fmt.Errorf("%s: %w: its digest is %s, want %s", m.what, image.ErrCorrupt, got, digest)
	}
	return nil
}

func (m *meter) digest() string { return "sha256:" + hex.EncodeToString(m.hash.Sum(nil)) }

// read has consume read a blob uncompressed, and returns the digest that it has so.
// What consume leaves is read too: the digests are of all. limit is that of the layer
// uncompressed.
//
// To fetch and decompress, to hash, and to write go on at the same time.
func (b blob) read(ctx context.Context, limit int64, told func(int64), consume func(io.Reader) error) (diffID string, err error) {
	in, err := b.open()
	if err != nil {
		return "", err
	}
	defer in.Close()
	raw := &meter{ctx: ctx, r: in, limit: b.size, what: "blob", told: told}
	if b.digest != "" {
		raw.hash = sha256.New()
	}
	plain, err := decompress(raw)
	if err != nil {
		return "", err
	}
	defer plain.Close()
	ahead := readAhead(plain)
	defer func() {
		if err != nil {
			in.Close() // or what is read ahead may wait for it
		}
		ahead.Close()
	}()
	layer := &meter{ctx: ctx, r: ahead, hash: sha256.New(), limit: limit, what: "layer"}
	if err := consume(layer); err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, layer); err != nil {
		return "", err
	}
	ahead.Close()
	if raw.hash != nil {
		// What comes after the last compressed byte counts as well.
		if _, err := io.Copy(io.Discard, raw); err != nil {
			return "", err
		}
		if err := raw.check(b.digest); err != nil {
			return "", err
		}
	}
	layer.limit = -1
	return layer.digest(), layer.check(b.diffID)
}

// A sound reader says of an error of decompression what it means: that the blob is not
// what it should be. Errors of what is decompressed are told as they are.
type soundReader struct {
	io.ReadCloser
	raw *meter
}

func (r soundReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF && r.raw.err == nil {
		err = fmt.Errorf("layer: %w: truncated, or not what it should be: %w", image.ErrCorrupt, err)
	}
	return n, err
}

// decompress tells by its first bytes how a layer is compressed.
func decompress(raw *meter) (io.ReadCloser, error) {
	plain, err := newDecompressor(raw)
	if err != nil && raw.err == nil && !errors.Is(err, image.ErrNotSupported) {
		return nil, fmt.Errorf("layer: %w: %w", image.ErrCorrupt, err)
	}
	return soundReader{plain, raw}, err
}

func newDecompressor(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, bufferSize)
	magic, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case isGzip(magic):
		return gzip.NewReader(in)
	case isZstd(magic):
		// A window is memory: as much as the command zstd allows by default.
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case isOther(magic):
		return nil, fmt.Errorf("layer compressed by bzip2 or xz: %w: want gzip, zstd or none", image.ErrNotSupported)
	}
	return io.NopCloser(in), nil
}

func isGzip(magic []byte) bool { return bytes.HasPrefix(magic, []byte{0x1f, 0x8b}) }

// isZstd also knows the frames of zstd that are to be skipped.
func isZstd(magic []byte) bool {
	return bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18})
}

// isOther knows bzip2 and xz.
func isOther(magic []byte) bool {
	return bytes.HasPrefix(magic, []byte("BZh")) || bytes.Equal(magic, []byte{0xfd, '7', 'z', 'X'})
}

func isCompressed(magic []byte) bool { return isGzip(magic) || isZstd(magic) || isOther(magic) }

// An aheadReader reads what another goroutine has read before.
type aheadReader struct {
	full, free chan []byte
	stop       chan struct{}
	done       chan struct{}
	current    []byte
	rest       []byte
	err        error
	closed     bool
}

// readAhead reads r on a goroutine of its own, which ends before Close returns, as soon
// as r.Read does.
func readAhead(r io.Reader) *aheadReader {
	const buffers = 4
	a := &aheadReader{full: make(chan []byte, buffers), free: make(chan []byte, buffers), stop: make(chan struct{}), done: make(chan struct{})}
	for range buffers {
		a.free <- make([]byte, bufferSize)
	}
	go func() {
		defer close(a.done)
		defer close(a.full)
		for {
			var buf []byte
			select {
			case buf = <-a.free:
			case <-a.stop:
				return
			}
			n, err := io.ReadFull(r, buf[:cap(buf)])
			if err == io.ErrUnexpectedEOF && n > 0 {
				// The end, or a truncated stream: the next read tells.
				err = nil
			}
			if n > 0 {
				select {
				case a.full <- buf[:n]:
				case <-a.stop:
					return
				}
			}
			if err != nil {
				a.err = err
				return
			}
		}
	}()
	return a
}

func (a *aheadReader) Read(p []byte) (int, error) {
	if len(a.rest) == 0 {
		if a.current != nil {
			a.free <- a.current
			a.current = nil
		}
		buf, ok := <-a.full
		if !ok {
			<-a.done
			if a.err == nil {
				return 0, io.ErrClosedPipe
			}
			return 0, a.err
		}
		a.current, a.rest = buf, buf
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends the reading. It may be called again.
func (a *aheadReader) Close() {
	if !a.closed {
		a.closed = true
		close(a.stop)
	}
	<-a.done
}
