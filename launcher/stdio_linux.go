package launcher

import (
	"errors"
	"io"
	"os"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// IO is where a program's input comes from and its output goes to. A nil field is
// the null device. An *os.File is handed to the program itself, without a copy in
// between, unless it has a terminal; of anything else the launcher copies. A
// program with a terminal has its error output on Stdout.
type IO struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// streams are the two sides of a program's input and output.
type streams struct {
	child []*os.File // its descriptors 0, 1, 2
	close []*os.File // those of child that are ours to close after the start
	ours  []*os.File // our sides
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

func (s *streams) null(flag int) error {
	f, err := os.OpenFile(os.DevNull, flag, 0)
	if err != nil {
		return err
	}
	s.child, s.close = append(s.child, f), append(s.close, f)
	return nil
}

func (s *streams) addInput(r io.Reader) error {
	if r == nil {
		return s.null(os.O_RDONLY)
	}
	if f, ok := r.(*os.File); ok {
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
	if w == nil {
		return s.null(os.O_WRONLY)
	}
	if f, ok := w.(*os.File); ok {
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

// terminalStreams connects the master side of a program's terminal.
func terminalStreams(p *specs.Process, stdio IO, master, slave *os.File) (*streams, error) {
	// The program may open it by its name.
	err := slave.Chown(int(p.User.UID), -1)
	if size := p.ConsoleSize; size != nil && err == nil {
		err = resize(master, uint16(size.Width), uint16(size.Height))
	}
	if err != nil {
		return nil, err
	}
	s := masterStreams(stdio, master)
	s.child, s.close = []*os.File{slave, slave, slave}, []*os.File{slave}
	return s, nil
}

// masterStreams copies between a program's terminal and its streams.
func masterStreams(stdio IO, master *os.File) *streams {
	s := &streams{ours: []*os.File{master}}
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
		_, err := io.Copy(out, master)
		if errors.Is(err, unix.EIO) {
			return nil // the last holder of the slave side is gone
		}
		master.Close() // if out fails, the program shall not wait for ever
		return err
	})
	return s
}

// openPTY returns both sides of the new pseudoterminal whose master side is open
// already. The slave side is taken from that, not by a path, behind which there might
// be another file (CVE-2025-52565).
func openPTY(master *os.File) (_, slave *os.File, err error) {
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		master.Close()
		return nil, nil, os.NewSyscallError("ioctl TIOCSPTLCK", err)
	}
	fd, _, e := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		master.Close()
		return nil, nil, os.NewSyscallError("ioctl TIOCGPTPEER", e)
	}
	return master, os.NewFile(fd, "pts"), nil
}

func resize(master *os.File, width, height uint16) error {
	ws := &unix.Winsize{Col: width, Row: height}
	return os.NewSyscallError("ioctl TIOCSWINSZ", unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, ws))
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
	s.outputs.Wait()
	for _, f := range s.ours {
		f.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// abandon closes both sides of streams that never began.
func (s *streams) abandon() {
	for _, f := range append(s.close, s.ours...) {
		f.Close()
	}
}
