package crilog

import (
	"context"
	"os"
	"time"
)

// None as ReadOptions.Tail passes over all that was written before.
const None = -1

// ReadOptions say what of a log is read. The zero value is all that there is.
type ReadOptions struct {
	// Tail, if positive, begins with the last so many lines of both streams
	// together, with all entries of each; an unfinished line counts as one. Of a
	// line that the other stream has interrupted, the beginning may be missing.
	// If negative, see None. Since and Until choose among what is left.
	Tail int
	// Since and Until, unless zero, pass over what is older and younger. Lines
	// that are not in the format have the time of those before. Whole files are
	// passed over by their times of modification.
	Since, Until time.Time
	// Follow goes on with what is written, through rotations, until Done is
	// closed or Until has passed, and everything written before has been read.
	Follow bool
	// Done is closed when the Writer has ended. Nil never is.
	Done <-chan struct{}
}

// Read calls f for each entry of the log at path, from the oldest file to the one
// that is being written, and returns the first error: of f, of the context or of
// reading, which is [fs.ErrNotExist] if there is no file at all. Unless it follows,
// it reads what is there when it is called.
//
// A line of more than 64 KiB, which no Writer writes, is given in pieces that are
// Partial. So is a line without an end, once it is known that none will come; a
// header without an end is passed over.
func Read(ctx context.Context, path string, opts ReadOptions, f func(Entry) error) error {
	r := &reader{path: path, opts: opts, f: f, lines: lines{buf: make([]byte, blockSize)}}
	defer r.close()
	if err := r.open(); err != nil {
		return err
	}
	if !opts.Follow {
		return r.read(ctx, nil)
	}
	if !opts.Until.IsZero() {
		until, cancel := context.WithDeadline(ctx, opts.Until)
		defer cancel()
		r.until = until.Done()
	}
	w, err := newWatch(path)
	if err != nil {
		return err
	}
	defer w.close()
	return r.read(ctx, w)
}

// A reader reads the files of a log one after the other.
type reader struct {
	path  string
	opts  ReadOptions
	f     func(Entry) error
	until <-chan struct{} // closed when opts.Until has passed; may be nil

	files []*os.File // still to be read, the oldest first
	lines            // of files[0]

	parser parser
	time   time.Time // of the last entry
	head   Entry     // what precedes the text, if a piece of a line was passed
	cut    bool      // if so
}

func (r *reader) close() { closeAll(r.files) }

// open opens all files and finds the first entry.
func (r *reader) open() error {
	var err error
	if r.files, err = collect(r.path, nil); err != nil {
		return err
	}
	if len(r.files) == 0 {
		return &os.PathError{Op: "read log", Path: r.path, Err: os.ErrNotExist}
	}
	if r.opts.Tail != 0 {
		if err := r.tail(max(r.opts.Tail, 0)); err != nil {
			return err
		}
	}
	for len(r.files) > 1 {
		info, err := r.files[0].Stat()
		if err != nil {
			return err
		}
		if !info.ModTime().Before(r.opts.Since) {
			break
		}
		r.drop()
	}
	return nil
}

// drop goes on to the next file.
func (r *reader) drop() {
	r.files[0].Close()
	r.files = r.files[1:]
	r.seek(0)
}

// read reads the files. With a watch, it goes on with those that come.
func (r *reader) read(ctx context.Context, w *watch) error {
	for {
		// What is asked before a file is read is true of all that was read.
		complete := len(r.files) > 1
		finished := w == nil || r.ended()
		if err := r.drain(ctx); err != nil {
			return err
		}
		if complete {
			if err := r.end(); err != nil {
				return err
			}
			r.drop()
			continue
		}
		if w == nil {
			return r.end()
		}
		newer, err := collect(r.path, r.files[0])
		if err != nil {
			return err
		}
		switch r.files = append(r.files, newer...); {
		case len(newer) > 0:
		case finished:
			return r.end()
		default:
			if err := w.wait(ctx, r.files[0], r.opts.Done, r.until); err != nil {
				return err
			}
		}
	}
}

// ended reports whether nothing that is wanted will be written any more.
func (r *reader) ended() bool {
	select {
	case <-r.opts.Done:
	case <-r.until:
	default:
		return false
	}
	return true
}

// drain passes all lines up to the end of the file.
func (r *reader) drain(ctx context.Context) error {
	r.takeBack()
	if info, err := r.files[0].Stat(); err == nil && info.Size() < r.offset() {
		// Somebody has emptied it.
		r.seek(0)
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		more, err := r.fill(r.files[0])
		if err != nil {
			return err
		}
		for {
			line, whole := r.next()
			if line == nil {
				break
			}
			if err := r.pass(line, whole); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}

// end passes what follows the last newline of the file.
func (r *reader) end() error {
	rest := r.rest()
	if _, ok := r.parser.parse(rest); ok || r.cut && len(rest) > 0 {
		if err := r.pass(rest, false); err != nil {
			return err
		}
	}
	r.cut = false
	return nil
}

// pass passes a line, or a piece of one that is not whole.
func (r *reader) pass(line []byte, whole bool) error {
	e := r.head
	if r.cut {
		e.Text = line
	} else {
		var ok bool
		if e, ok = r.parser.parse(line); !ok {
			e = Entry{Text: line}
		} else {
			r.time = e.Time
		}
		r.head = e
	}
	r.cut = !whole
	e.Partial = e.Partial || r.cut
	if r.time.Before(r.opts.Since) || !r.opts.Until.IsZero() && r.time.After(r.opts.Until) {
		return nil
	}
	return r.f(e)
}
