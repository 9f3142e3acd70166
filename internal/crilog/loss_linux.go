package crilog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// pause is how long the Writer leaves a file alone that it could not write. What
// comes meanwhile is lost.
const pause = time.Second

// A loss is output that could not be written, most likely because the disk is full.
// The container must not notice, so the output is dropped; when the file can be
// written again, an entry tells how much it was. An entry that was written in part
// is kept and completed before anything else is.
type loss struct {
	err   error     // why nothing can be written now; nil if it can
	retry time.Time // when to try again
	rest  []byte    // of the entry that is at the end of the file
	bytes int64     // of output, not told yet
	total int64     // of output, since Open
}

// fail notes that unwritten entries, the first of them begun if torn, met an error.
func (w *Writer) fail(unwritten []byte, torn bool, now time.Time, err error) {
	w.err, w.loss.err, w.loss.retry = err, err, now.Add(pause)
	if torn {
		end := bytes.IndexByte(unwritten, '\n') + 1
		w.loss.rest, unwritten = slices.Clone(unwritten[:end]), unwritten[end:]
	}
	w.loss.drop(unwritten)
}

// drop counts what the entries say of the output.
func (l *loss) drop(entries []byte) {
	for line := range bytes.Lines(entries) {
		n := int64(len(line) - headerLen)
		if line[tagAt] == 'P' {
			n--
		}
		l.bytes += n
		l.total += n
	}
}

// ready reports whether the file can be written. After an error it first
// completes what is at its end and tells what was lost.
func (w *Writer) ready(now time.Time) bool {
	l := &w.loss
	if l.err == nil {
		return true
	}
	if now.Before(l.retry) || !w.complete(now) {
		return false
	}
	if lost := l.bytes; lost > 0 {
		notice := fmt.Appendf(header(now, Stderr), "podbox: %d bytes of output are lost: %v\n", lost, cause(l.err))
		l.rest, l.bytes = notice, 0
		if !w.complete(now) {
			if len(l.rest) == len(notice) {
				l.rest, l.bytes = nil, lost
			}
			return false
		}
	}
	l.err = nil
	return true
}

// complete writes the rest of an entry.
func (w *Writer) complete(now time.Time) bool {
	l := &w.loss
	if len(l.rest) == 0 {
		return true
	}
	n, err := w.write(l.rest)
	if l.rest = l.rest[n:]; err != nil {
		w.err, l.err, l.retry = err, err, now.Add(pause)
		return false
	}
	l.rest = nil
	return true
}

// cause returns an error without the path that a reader of the log knows.
func cause(err error) error {
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}
