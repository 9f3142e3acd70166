package launcher

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// IO is where a program's input comes from and its output goes to. A nil field is
// the null device, as is a file that is it: in a container, the container's own. An *os.File is handed to the program itself, without a copy in
// between, unless it has a terminal; of anything else the launcher copies. A
// program with a terminal has its error output on Stdout.
type IO struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// streams are the two sides of a program's input and output.
type streams struct {
	child []*os.File // its descriptors 0, 1, 2; nil for a null device until fill
	close []*os.File // those of child that are ours to close after the start
	ours  []*os.File // our sides
	held  *os.File   // a terminal's slave side, which we keep until the program has ended
	copy  []func() error
	input func() // ends the copying of input when the program has ended

	outputs sync.WaitGroup
	mu      sync.Mutex
	err     error
}

func openStreams(stdio IO) (_ *streams, err error) {
	s := new(streams)
	defer func() {
		if err != nil {
			s.abandon()
		}
	}()
	if err := s.addInput(stdio.Stdin); err != nil {
		return nil, err
	}
	if err := s.addOutput(stdio.Stdout); err != nil {
		return nil, err
	}
	if stdio.Stderr != nil && stdio.Stderr == stdio.Stdout {
		s.child = append(s.child, s.child[1])
		return s, nil
	}
	return s, s.addOutput(stdio.Stderr)
}

// fill opens the null device where the program is to have that.
func (s *streams) fill(null func() (*os.File, error)) error {
	if !slices.Contains(s.child, nil) {
		return nil
	}
	f, err := null()
	if err != nil {
		return err
	}
	s.close = append(s.close, f)
	for i := range s.child {
		if s.child[i] == nil {
			s.child[i] = f
		}
	}
	return nil
}

// isNull reports whether a file is the null device: the program gets its own. By a
// descriptor of the host's it could change the mode of that.
func isNull(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && isNullDevice(&st)
}

func isNullDevice(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

func (s *streams) addInput(r io.Reader) error {
	f, ok := r.(*os.File)
	if r == nil || ok && isNull(f) {
		s.child = append(s.child, nil)
		return nil
	}
	if ok {
		s.child = append(s.child, f)
		return nil
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	s.child, s.close, s.ours = append(s.child, theirs), append(s.close, theirs), append(s.ours, ours)
	// Nobody waits for the input: it may never end.
	s.input = func() { ours.Close() }
	s.copy = append(s.copy, func() error {
		_, err := io.Copy(ours, r)
		ours.Close()
		if errors.Is(err, unix.EPIPE) || errors.Is(err, os.ErrClosed) {
			return nil // the program does not want more
		}
		return err
	})
	return nil
}

func (s *streams) addOutput(w io.Writer) error {
	f, ok := w.(*os.File)
	if w == nil || ok && isNull(f) {
		s.child = append(s.child, nil)
		return nil
	}
	if ok {
		s.child = append(s.child, f)
		return nil
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	s.child, s.close, s.ours = append(s.child, theirs), append(s.close, theirs), append(s.ours, ours)
	s.outputs.Add(1)
	s.copy = append(s.copy, func() error {
		defer s.outputs.Done()
		_, err := io.Copy(w, ours)
		ours.Close() // if w fails, the program shall not wait for ever
		return err
	})
	return nil
}

// masterStreams copies between a program's terminal, whose sides become ours, and its
// streams. A program may close its terminal and open it again, as an init system does
// with its console; so that its output does not end with that, we keep the slave side.
func masterStreams(stdio IO, master, slave *os.File) *streams {
	s := &streams{ours: []*os.File{master}, held: slave}
	if stdio.Stdin != nil {
		s.copy = append(s.copy, func() error {
			if _, err := io.Copy(master, stdio.Stdin); err == nil {
				// What says to a terminal that there is no more: VEOF.
				_, _ = master.Write([]byte{4})
			}
			return nil
		})
	}
	out := stdio.Stdout
	if out == nil {
		out = io.Discard
	}
	s.outputs.Add(1)
	s.copy = append(s.copy, func() error {
		defer s.outputs.Done()
		_, err := io.Copy(out, terminalOutput{master})
		if err != nil {
			master.Close() // out has failed: the program shall not wait for ever
		}
		return err
	})
	return s
}

// terminalOutput reads what comes out of a terminal, by its master side, until nobody has
// the slave side: the kernel says EIO then.
//
// It may say so although there is something left: it looks for output first and whether
// the slave side is closed next (n_tty_read), and what is written before it is closed
// between the two is there only for who reads again.
type terminalOutput struct{ master io.Reader }

func (o terminalOutput) Read(p []byte) (int, error) {
	n, err := o.master.Read(p)
	if errors.Is(err, unix.EIO) {
		n, err = o.master.Read(p)
	}
	if errors.Is(err, unix.EIO) {
		err = io.EOF
	}
	return n, err
}

// begin closes the program's side, and starts to copy.
func (s *streams) begin() {
	for _, f := range s.close {
		f.Close()
	}
	for _, f := range s.copy {
		go func() {
			if err := f(); err != nil {
				s.mu.Lock()
				s.err = errors.Join(s.err, err)
				s.mu.Unlock()
			}
		}()
	}
}

// end returns when all output has been copied, closes our side, and returns the
// first error of copying.
func (s *streams) end() error {
	if s.input != nil {
		s.input()
	}
	_ = s.held.Close() // which may be nil
	s.outputs.Wait()
	for _, f := range s.ours {
		f.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// abandon closes both sides of streams that never began. There are none yet if a
// terminal could not be made.
func (s *streams) abandon() {
	if s == nil {
		return
	}
	for _, f := range append(s.close, append(s.ours, s.held)...) {
		_ = f.Close() // which may be nil
	}
}
