package supervisor

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/crilog"
	"github.com/podbox/podbox/launcher"
)

// An output takes what a container writes to its log, and to those who are
// attached, and has its input.
//
// The container's streams are named pipes which it has open for reading and writing.
// So they have a reader even if the supervisor is killed: the container is not ended
// by SIGPIPE, but waits when a pipe is full until the next supervisor reads on.
type output struct {
	c   *Container
	log *crilog.Writer

	attached audience
	readers  sync.WaitGroup
	theirs   []*os.File // the container's ends, until it has them
	ours     []*os.File

	mu    sync.Mutex
	stdin io.WriteCloser // nil if there is none, or it was closed
}

// The names of the pipes.
var pipeNames = [...]string{"stdin", "stdout", "stderr"}

func (k *keeper) openOutput() (*output, error) {
	if _, err := k.c.pod.MakeStateDir(); err != nil {
		return nil, err
	}
	path, err := k.c.logPath()
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	l := k.r.Spec.Log
	log, err := crilog.Open(path, crilog.Options{MaxSize: l.MaxSize, MaxFiles: l.MaxFiles})
	if err != nil {
		return nil, err
	}
	return &output{c: k.c, log: log}, nil
}

// open makes the streams of a container that is to be started.
func (o *output) open(r *record) (streams launcher.IO, err error) {
	if r.Spec.OCI.Process.Terminal {
		return o.openTerminal(r)
	}
	uid := int(r.Spec.OCI.Process.User.UID)
	for _, name := range pipeNames[1:] {
		if err := o.makePipe(name, uid); err != nil {
			return streams, err
		}
	}
	theirs, err := o.openPipes(uid)
	if err != nil {
		return streams, err
	}
	streams.Stdout, streams.Stderr = theirs[0], theirs[1]
	if !r.Spec.Stdin {
		return streams, nil
	}
	input, err := o.openStdin(uid)
	if err != nil {
		return streams, err
	}
	streams.Stdin = input
	return streams, nil
}

// openPipes opens both ends of the pipes of output, and begins to read.
func (o *output) openPipes(uid int) ([]*os.File, error) {
	for _, name := range pipeNames[1:] {
		if err := o.follow(name, func() error {
			f, err := openBlocking(o.c.file(name), unix.O_RDWR)
			if err != nil {
				return err
			}
			// For programs that open /dev/stdout, whoever they are.
			o.theirs = append(o.theirs, f)
			return f.Chown(uid, -1)
		}); err != nil {
			return nil, err
		}
	}
	return o.theirs, nil
}

// reopen goes on with the pipes of a container that is taken over.
func (o *output) reopen() error {
	for _, name := range pipeNames[1:] {
		err := o.follow(name, func() error { return nil })
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it has a terminal
			return err
		}
	}
	f, err := os.OpenFile(o.c.file(pipeNames[0]), unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		o.ours, o.stdin = append(o.ours, f), f
	}
	return nil // its input ended with the last supervisor
}

func (o *output) makePipe(name string, uid int) error {
	path := o.c.file(name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.NewSyscallError("mkfifo", unix.Mkfifo(path, 0o600))
}

// openBlocking opens a pipe for the container: os.OpenFile would have it not
// block.
func openBlocking(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// follow reads a pipe into the log until all that have it open for writing have
// closed it. writer opens it for the first of them.
func (o *output) follow(name string, writer func() error) error {
	f, err := os.OpenFile(o.c.file(name), unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	o.ours = append(o.ours, f)
	if err := writer(); err != nil {
		return err
	}
	if o.log == nil {
		o.readers.Go(func() { _, _ = io.Copy(io.Discard, f) })
		return nil
	}
	stream, kind := o.log.Stdout(), frameStdout
	if name == pipeNames[2] {
		stream, kind = o.log.Stderr(), frameStderr
	}
	o.readers.Go(func() {
		stream.Tap = func(p []byte) { o.attached.show(kind, p) }
		// What cannot be logged is not the container's fault.
		_, _ = stream.ReadFrom(f)
		_ = stream.Close()
	})
	return nil
}

// openStdin makes the pipe of input, of which the container must have one end before
// ours alone can be kept.
func (o *output) openStdin(uid int) (*os.File, error) {
	if err := o.makePipe(pipeNames[0], uid); err != nil {
		return nil, err
	}
	path := o.c.file(pipeNames[0])
	theirs, err := openBlocking(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	o.theirs = append(o.theirs, theirs)
	ours, err := os.OpenFile(path, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	o.ours, o.stdin = append(o.ours, ours), ours
	if err := unix.SetNonblock(int(theirs.Fd()), false); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return theirs, theirs.Chown(uid, -1)
}

// openTerminal connects a container that has a terminal: its launcher copies.
func (o *output) openTerminal(r *record) (launcher.IO, error) {
	out := &logAndShow{o.log.Stdout(), &o.attached}
	if !r.Spec.Stdin {
		return launcher.IO{Stdout: out}, nil
	}
	// Not a file: the launcher must not hand it to the container.
	read, write := io.Pipe()
	o.stdin = write
	return launcher.IO{Stdin: read, Stdout: out}, nil
}

// begun closes the ends that the container has now, or never will.
func (o *output) begun() {
	for _, f := range o.theirs {
		f.Close()
	}
	o.theirs = nil
}

// write passes on what somebody who is attached types.
func (o *output) write(p []byte) error {
	o.mu.Lock()
	w := o.stdin
	o.mu.Unlock()
	if w == nil {
		return fs.ErrClosed
	}
	_, err := w.Write(p)
	return err
}

// closeStdin ends the container's input.
func (o *output) closeStdin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stdin != nil {
		o.stdin.Close()
		o.stdin = nil
	}
}

// close ends the output of a container that has ended: everything that it has
// written is in the log then.
func (o *output) close(status *int) {
	o.begun()
	o.closeStdin()
	o.readers.Wait()
	for _, f := range o.ours {
		f.Close()
	}
	if o.log != nil {
		_ = o.log.Close()
	}
	o.attached.end(status)
	for _, name := range pipeNames {
		_ = os.Remove(o.c.file(name))
	}
}

// logAndShow is what a terminal's output is copied to.
type logAndShow struct {
	log *crilog.Stream
	to  *audience
}

func (l *logAndShow) Write(p []byte) (int, error) {
	l.to.show(frameStdout, p)
	return l.log.Write(p)
}

// removeLogs removes a log with all that it was rotated to.
func removeLogs(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if name := filepath.Base(path); e.Name() != name && !strings.HasPrefix(e.Name(), name+".") {
			continue
		}
		if rerr := os.Remove(filepath.Join(filepath.Dir(path), e.Name())); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}
