package crilog

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long an unfinished line waits for its end. Programs that do not
// buffer their output, Python's print among them, write a line and its newline
// separately; they should not make two entries of each line.
const patience = 100 * time.Millisecond

// A Stream is one of the two streams of a log.
type Stream struct {
	// Tap, if it is set before ReadFrom is called, is given all that that reads. It
	// must not keep it.
	Tap func([]byte)

	w    *Writer
	name string

	// Guarded by w.mu.
	held   []byte // the beginning of a line, at most maxText
	timer  *time.Timer
	closed bool
}

// A chunk is what is read at once, and the entries that are made of it: with lines
// of 60 bytes and more these are written at once, too.
type chunk struct {
	in  [24 << 10]byte
	out [40 << 10]byte
}

// chunks has the buffers that no stream needs at the moment; the garbage collector
// frees them.
var chunks = sync.Pool{New: func() any { return new(chunk) }}

// Write logs p. It never fails for what happens to the file, see [Writer.Lost]; the
// error of a closed stream is [os.ErrClosed].
func (s *Stream) Write(p []byte) (int, error) {
	c := chunks.Get().(*chunk)
	defer chunks.Put(c)
	return s.write(p, c.out[:])
}

func (s *Stream) write(p, buf []byte) (int, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.closed {
		return 0, os.ErrClosed
	}
	b := s.w.begin(s.name, buf)
	s.split(&b, p)
	b.flush()
	if len(s.held) > 0 {
		s.wait()
	}
	return len(p), nil
}

// split adds the lines of p to the batch and holds the last if it is unfinished.
func (s *Stream) split(b *batch, p []byte) {
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		line := p
		if end >= 0 {
			line = p[:end]
		}
		for len(s.held)+len(line) > maxText {
			n := maxText - len(s.held)
			b.add(true, s.held, line[:n])
			s.held, line = s.held[:0], line[n:]
		}
		if end < 0 {
			s.held = append(s.held, line...)
			return
		}
		b.add(false, s.held, line)
		s.held, p = s.held[:0], p[end+1:]
	}
}

// wait gives the held text some time to be continued.
func (s *Stream) wait() {
	if s.timer == nil {
		s.timer = time.AfterFunc(patience, s.giveUp)
		return
	}
	s.timer.Reset(patience)
}

func (s *Stream) giveUp() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.release()
}

// release writes the held text as part of a line.
func (s *Stream) release() {
	if len(s.held) == 0 {
		s.held = nil
		return
	}
	c := chunks.Get().(*chunk)
	defer chunks.Put(c)
	b := s.w.begin(s.name, c.out[:])
	b.add(true, s.held, nil)
	b.flush()
	s.held = nil
}

// Close logs an unfinished line. It may be called again.
func (s *Stream) Close() error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.close()
	return nil
}

func (s *Stream) close() {
	s.release()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
}

// ReadFrom logs what r gives, until it ends or fails; it does not close the stream.
// EIO twice is an end, too: a terminal gives it when its last user is gone, and the first
// time may have something left. If r is an [os.File] that can be polled, no buffer is
// held while there is nothing to read.
func (s *Stream) ReadFrom(r io.Reader) (int64, error) {
	next := func() (*chunk, int, error) { return readChunk(r) }
	if c, ok := r.(syscall.Conn); ok {
		conn, err := c.SyscallConn()
		if err != nil {
			return 0, err
		}
		next = func() (*chunk, int, error) { return readConn(conn) }
	}
	var total int64
	again := false
	for {
		c, n, err := next()
		if n > 0 {
			total += int64(n)
			if s.Tap != nil {
				s.Tap(c.in[:n])
			}
			if _, werr := s.write(c.in[:n], c.out[:]); werr != nil {
				err = werr
			}
		}
		if c != nil {
			chunks.Put(c)
		}
		if errors.Is(err, unix.EIO) && !again {
			again = true
			continue
		}
		again = false
		if err == io.EOF || errors.Is(err, unix.EIO) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func readChunk(r io.Reader) (*chunk, int, error) {
	c := chunks.Get().(*chunk)
	n, err := r.Read(c.in[:])
	return c, n, err
}

// readConn waits until there is something to read, and only then takes a chunk. The
// chunk is nil if the wait broke off.
func readConn(conn syscall.RawConn) (c *chunk, n int, err error) {
	waitErr := conn.Read(func(fd uintptr) bool {
		c = chunks.Get().(*chunk)
		for {
			n, err = unix.Read(int(fd), c.in[:])
			if err != unix.EINTR {
				break
			}
		}
		if err == unix.EAGAIN {
			chunks.Put(c)
			c, err = nil, nil
			return false
		}
		return true
	})
	if err == nil {
		err = waitErr
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	return c, max(n, 0), err
}
