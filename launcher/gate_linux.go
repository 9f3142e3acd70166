package launcher

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
)

// A gate is where the child waits until it is known to others.
type gate struct{ read, write *os.File }

func (l *launch) newGate() (*gate, error) {
	if l.opts.Born == nil && l.spec.Hooks == nil {
		return nil, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	l.files = append(l.files, r, w)
	return &gate{r, w}, nil
}

// gateCalls has the child wait, and end if its parent does. The pipe need not tell
// that: a child that was just born has its other end too, for a moment.
func (l *launch) gateCalls(p *spawn.Program, g *gate) error {
	if g == nil {
		return nil
	}
	parent, err := l.high(l.self)
	if err != nil {
		return err
	}
	read, err := l.high(g.read)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(int(read), true); err != nil {
		return err
	}
	fds := spawn.Pointer(p, &[2]unix.PollFd{{Fd: int32(read), Events: unix.POLLIN}, {Fd: int32(parent), Events: unix.POLLIN}})
	p.Call("wait for parent", unix.SYS_PPOLL, fds, 2, 0, 0, 0)
	p.Expect("wait for parent", 1, unix.SYS_READ, read, spawn.Pointer(p, new([1]byte)), 1)
	return nil
}

// atGate does what is to be done while the child waits, and lets it go on, or not.
func (l *launch) atGate(ctx context.Context, child proc.Identity, g *gate) error {
	if g == nil {
		return nil
	}
	defer g.write.Close()
	defer g.read.Close()
	done := make(chan error)
	go func() { // on a thread that sees the host's files
		err := l.beforeStart(ctx, child.PID)
		if err == nil && l.opts.Born != nil {
			err = l.opts.Born(child)
		}
		done <- err
	}()
	err := <-done
	if err == nil {
		_, err = g.write.Write([]byte{1})
	}
	return err
}
