package crilog

import (
	"bytes"
	"io"
	"os"
)

// blockSize is how much of a file is read at once. It bounds the length of a line
// that is seen as one.
const blockSize = 64 << 10

// lines reads a file line by line.
type lines struct {
	buf      []byte
	off      int64 // of buf in the file
	pos, end int   // of what is not passed yet, in buf
}

// seek goes to an offset.
func (l *lines) seek(off int64) { l.off, l.pos, l.end = off, 0, 0 }

// offset returns where the next line begins.
func (l *lines) offset() int64 { return l.off + int64(l.pos) }

// takeBack forgets an unfinished line: after a crash its beginning may be written
// again, see finish.
func (l *lines) takeBack() { l.end = l.pos }

// fill reads more of f, and reports whether there was more.
func (l *lines) fill(f *os.File) (bool, error) {
	copy(l.buf, l.buf[l.pos:l.end])
	l.off += int64(l.pos)
	l.pos, l.end = 0, l.end-l.pos
	n, err := f.ReadAt(l.buf[l.end:], l.off+int64(l.end))
	l.end += n
	if err == io.EOF {
		err = nil
	}
	return n > 0, err
}

// next returns the next line without its newline, or a piece of a line that does
// not fit, or nil if more must be read.
func (l *lines) next() (line []byte, whole bool) {
	b := l.buf[l.pos:l.end]
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		l.pos += i + 1
		return b[:i], true
	}
	if len(b) == len(l.buf) {
		l.pos = l.end
		return b, false
	}
	return nil, false
}

// rest returns what is not passed yet.
func (l *lines) rest() []byte { return l.buf[l.pos:l.end] }

// A tail looks for the last lines of a log, from its end, in blocks.
type tail struct {
	want   int // lines
	seen   int // ends of lines
	begun  bool
	parser parser
	buf    []byte
}

// tail makes the last n lines the next to be read.
func (r *reader) tail(n int) error {
	t := tail{want: n, buf: make([]byte, blockSize)}
	for i := len(r.files) - 1; i >= 0; i-- {
		off, found, err := t.scan(r.files[i])
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		for range i {
			r.drop()
		}
		r.seek(off)
		return nil
	}
	return nil
}

// scan looks through f and returns where the lines that are wanted begin, if there
// are as many.
func (t *tail) scan(f *os.File) (off int64, found bool, err error) {
	pos, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, false, err
	}
	next := int64(-1) // where the last whole line that was found ends
	for pos > 0 {
		from := max(pos-int64(len(t.buf)-headRoom), 0)
		n, err := f.ReadAt(t.buf[:pos-from+headRoom], from)
		if err != nil && err != io.EOF {
			return 0, false, err
		}
		b := t.buf[:n]
		for i := min(int(pos-from), n); i >= 0; {
			i = bytes.LastIndexByte(b[:i], '\n')
			if i < 0 && from > 0 {
				break
			}
			if next >= 0 && t.enough(b[i+1:]) {
				return next, true, nil
			}
			next = from + int64(i) + 1
		}
		pos = from
	}
	return 0, false, nil
}

// headRoom is more than what precedes the text of an entry.
const headRoom = 64

// enough counts the entry that begins with b, and reports whether it is one too
// many.
func (t *tail) enough(b []byte) bool {
	b, _, _ = bytes.Cut(b[:min(len(b), headRoom)], newline)
	e, _ := t.parser.parse(b)
	if !e.Partial || !t.begun {
		t.seen++
	}
	t.begun = true
	return t.seen > t.want
}
