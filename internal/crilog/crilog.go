// Package crilog keeps the output of a container in the log format of Kubernetes,
// the one that the kubelet and log collectors read:
//
//	2016-10-06T00:17:09.669794202Z stdout F a whole line
//	2016-10-06T00:17:09.669794202Z stderr P the beginning of a line
//
// F ends a line, P says that the line goes on in the next entry of its stream. An
// entry carries at most 16 KiB of text, as containerd's do; a longer line is split.
// So is one that its program leaves unfinished for a tenth of a second, a prompt for
// instance, and one that is unfinished at the end: the texts, with a newline after
// each F, are the output of the container byte for byte.
//
// A [Writer] writes and rotates, [Read] reads, also while a Writer of another
// process writes and rotates. Rotation renames PATH to PATH.1, PATH.1 to PATH.2 and
// so on, between two entries. What exists at any moment is a readable set: after a
// crash a number may be missing, which readers pass over and the next rotation
// fills.
//
// The package refuses to let a log stop a container: what cannot be written is
// dropped, counted, and reported in the log itself as soon as that can be written
// again and is. It keeps no lock, so that PATH has one Writer at a time is for the
// caller to see to, and it syncs nothing: what it has written survives the end of
// its process, not of the machine. The directory must not be writable to those
// whose output is logged. All this needs no privileges but the use of the files.
package crilog

import (
	"bytes"
	"time"
)

// The names of the streams. A terminal has [Stdout] only.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// maxText bounds the text of an entry.
const maxText = 16 << 10

// All entries are written with nine digits of nanoseconds in UTC, and the names
// of the streams have six letters: the text begins at headerLen.
const (
	timeLayout = "2006-01-02T15:04:05.000000000Z"
	headerLen  = len(timeLayout + " stdout F ")
	tagAt      = headerLen - 2
)

// An Entry is one line of a log.
type Entry struct {
	// Time is when the text was read from the container. It is zero for a
	// line that is not in the format.
	Time time.Time
	// Stream is Stdout or Stderr, or empty for a line that is not in the
	// format.
	Stream string
	// Partial says that the line goes on in the next entry of the stream. A
	// newline follows the text if it does not.
	Partial bool
	// Text is without the newline, and the whole line if that is not in the
	// format. It is valid until the function that was given the Entry returns.
	Text []byte
}

// header returns what precedes the text of an entry that ends a line.
func header(now time.Time, stream string) []byte {
	b := now.UTC().AppendFormat(make([]byte, 0, headerLen), timeLayout)
	b = append(append(b, ' '), stream...)
	return append(b, " F "...)
}

// A parser reads entries. Those written together have the same time, which it
// parses once.
type parser struct {
	text []byte
	time time.Time
}

// parse reports whether line, without its newline, is in the format.
func (p *parser) parse(line []byte) (Entry, bool) {
	stamp, rest, _ := bytes.Cut(line, space)
	stream, rest, _ := bytes.Cut(rest, space)
	tags, text, ok := bytes.Cut(rest, space)
	if !ok || !p.parseTime(stamp) {
		return Entry{}, false
	}
	e := Entry{Time: p.time, Text: text}
	switch string(stream) {
	case Stdout:
		e.Stream = Stdout
	case Stderr:
		e.Stream = Stderr
	default:
		return Entry{}, false
	}
	// The format reserves more tags after a colon.
	tag, _, _ := bytes.Cut(tags, colon)
	e.Partial = string(tag) == "P"
	return e, e.Partial || string(tag) == "F"
}

func (p *parser) parseTime(b []byte) bool {
	if len(b) > 0 && bytes.Equal(b, p.text) {
		return true
	}
	t, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return false
	}
	p.text, p.time = append(p.text[:0], b...), t
	return true
}

var (
	space   = []byte{' '}
	colon   = []byte{':'}
	newline = []byte{'\n'}
)
