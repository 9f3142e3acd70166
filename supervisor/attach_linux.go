package supervisor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/podbox/podbox/launcher"
)

// After the response to an attach request, both sides send frames: a byte that says
// what it is, four of its length, big-endian, and that many bytes.
const (
	frameStdin  byte = iota // to the supervisor
	frameClose              // to the supervisor: there is no more input
	frameResize             // to the supervisor: width and height, two bytes each
	frameStdout             // from it
	frameStderr             // from it
	frameEnd                // from it: the container has ended; its status, four bytes, if it is known
)

// maxFrame bounds what a frame holds.
const maxFrame = 64 << 10

func writeFrame(w io.Writer, kind byte, p []byte) error {
	b := make([]byte, 5+len(p))
	b[0] = kind
	binary.BigEndian.PutUint32(b[1:], uint32(len(p)))
	copy(b[5:], p)
	_, err := w.Write(b)
	return err
}

func readFrame(r io.Reader, buf []byte) (kind byte, p []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > uint32(len(buf)) {
		return 0, nil, fmt.Errorf("frame of %d bytes: too large", n)
	}
	_, err = io.ReadFull(r, buf[:n])
	return head[0], buf[:n], err
}

// An audience is those who are attached to a container. They must not hold it up:
// who does not take what there is, when much has been waiting, is let go.
type audience struct {
	mu      sync.Mutex
	members map[*listener]bool
	ended   bool
}

// A listener has what is waiting for one of them.
type listener struct {
	frames chan frame
}

type frame struct {
	kind byte
	p    []byte
}

// waiting bounds how many frames may wait for a listener.
const waiting = 256

// join adds a listener; nil if the container has ended.
func (a *audience) join() *listener {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return nil
	}
	if a.members == nil {
		a.members = make(map[*listener]bool)
	}
	l := &listener{make(chan frame, waiting+1)} // one for the end
	a.members[l] = true
	return l
}

func (a *audience) leave(l *listener) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.members[l] {
		delete(a.members, l)
		close(l.frames)
	}
}

func (a *audience) show(kind byte, p []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for l := range a.members {
		if len(l.frames) < waiting {
			l.frames <- frame{kind, bytes.Clone(p)}
			continue
		}
		delete(a.members, l)
		close(l.frames)
	}
}

// end tells all that there will be no more, and with which status, if it is known, the
// container has ended.
func (a *audience) end(status *int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	var p []byte
	if status != nil {
		p = binary.BigEndian.AppendUint32(nil, uint32(*status))
	}
	for l := range a.members {
		l.frames <- frame{frameEnd, p}
		delete(a.members, l)
		close(l.frames)
	}
}

// attach connects somebody to a container until it ends or they leave.
func (s *server) attach(conn *net.UnixConn, in *bufio.Reader, req request) {
	k := s.keeper(req.Container)
	var out *output
	var l *listener
	if k != nil {
		if out = k.output(); out != nil {
			l = out.attached.join()
		}
	}
	if l == nil {
		reply(conn, response{Error: toWire(ErrNotRunning)})
		return
	}
	defer out.attached.leave(l)
	reply(conn, response{})
	go func() {
		k.input(in, out, req.Stdin)
		if req.Stdin && k.r.Spec.StdinOnce {
			out.closeStdin()
		}
		out.attached.leave(l)
	}()
	for f := range l.frames {
		// Who is stopped, and does not read, must not keep us.
		_ = conn.SetWriteDeadline(time.Now().Add(attachTime))
		if writeFrame(conn, f.kind, f.p) != nil {
			return
		}
	}
}

// attachTime is for how long somebody who is attached may not read.
const attachTime = 30 * time.Second

// output returns what takes the container's output now; nil if it does not run.
func (k *keeper) output() *output {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.process == nil {
		return nil
	}
	return k.out
}

// input does what somebody who is attached sends, until they leave.
func (k *keeper) input(in *bufio.Reader, out *output, stdin bool) {
	buf := make([]byte, maxFrame)
	for {
		kind, p, err := readFrame(in, buf)
		if err != nil {
			return
		}
		switch {
		case kind == frameStdin && stdin:
			_ = out.write(p) // the container may have closed it
		case kind == frameClose && stdin:
			out.closeStdin()
		case kind == frameResize && len(p) == 4:
			if prog := k.program(); prog != nil {
				_ = prog.Resize(binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]))
			}
		}
	}
}

// An Attachment is a connection to the streams of a container in the background.
type Attachment struct {
	conn   *net.UnixConn
	status *int
	mu     sync.Mutex // held to send
}

// ExitCode returns the container's exit status when Copy has returned nil; nil if
// nobody knows.
func (a *Attachment) ExitCode() *int { return a.status }

// Attach connects to the streams of a container in the background, from now on. With
// stdin, Write is its input. ErrNotRunning. The caller closes the Attachment.
func (c *Container) Attach(ctx context.Context, stdin bool) (*Attachment, error) {
	r, err := c.record()
	if err != nil {
		return nil, err
	}
	switch {
	case !r.Background:
		return nil, c.wrap("attach to", fmt.Errorf("%w in the background", ErrNotRunning))
	case stdin && !r.Spec.Stdin:
		return nil, c.wrap("attach to", fmt.Errorf("input: %w: the container has none", launcher.ErrInvalid))
	}
	conn, err := c.pod.connect(ctx)
	if err != nil {
		return nil, c.wrap("attach to", err)
	}
	if _, err := c.pod.ask(ctx, conn, request{Verb: verbAttach, Container: c.name, Stdin: stdin}); err != nil {
		conn.Close()
		return nil, c.wrap("attach to", err)
	}
	return &Attachment{conn: conn}, nil
}

// Close ends the connection. The container goes on.
func (a *Attachment) Close() error { return a.conn.Close() }

// Write sends p to the container's input.
func (a *Attachment) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		part := p[n:min(len(p), n+maxFrame)]
		if err := a.send(frameStdin, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

func (a *Attachment) send(kind byte, p []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return writeFrame(a.conn, kind, p)
}

// CloseInput ends the container's input, for good.
func (a *Attachment) CloseInput() error { return a.send(frameClose, nil) }

// Resize sets the size of the container's terminal.
func (a *Attachment) Resize(width, height uint16) error {
	var p [4]byte
	binary.BigEndian.PutUint16(p[:], width)
	binary.BigEndian.PutUint16(p[2:], height)
	return a.send(frameResize, p[:])
}

// ErrDetached says that an Attachment ended before the container did.
var ErrDetached = errors.New("detached from the container")

// Copy copies what the container writes until it ends, or until the connection does:
// ErrDetached.
func (a *Attachment) Copy(stdout, stderr io.Writer) error {
	buf := make([]byte, maxFrame)
	for {
		kind, p, err := readFrame(a.conn, buf)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDetached, err)
		}
		switch kind {
		case frameStdout:
			_, err = stdout.Write(p)
		case frameStderr:
			_, err = stderr.Write(p)
		case frameEnd:
			if len(p) == 4 {
				status := int(binary.BigEndian.Uint32(p))
				a.status = &status
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}
