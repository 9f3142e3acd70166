package launcher

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/memfd"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/launcher/internal/doorstep"
)

// A crossing is how a container's program is executed: by way of package doorstep,
// since what is executed is the container's to say, and might be what the child is
// until then, the calling process's own program (CVE-2019-5736).
type crossing struct {
	program     *os.File
	read, write *os.File // the pipe by which it tells of a failure
	name        string
	paths       []string // at which the container's program is looked for
}

func (l *launch) newCrossing() (*crossing, error) {
	program, err := memfd.New("doorstep", doorstep.Binary())
	if err != nil {
		return nil, err
	}
	l.files = append(l.files, program)
	read, low, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer low.Close()
	l.files = append(l.files, read)
	write, err := spawn.DupHigh(int(low.Fd()))
	if err != nil {
		return nil, err
	}
	l.files = append(l.files, write)
	c := &crossing{program: program, read: read, write: write, name: l.spec.Process.Args[0]}
	c.paths = []string{c.name}
	if !strings.Contains(c.name, "/") {
		c.paths = searchPaths(l.spec.Process)
	}
	return c, nil
}

// executed returns when the container's program has been executed, or why it could
// not be. pid is that of the child, dir an open /proc. A child that frozen says stands still is not
// waited for: it will be executed when it goes on.
func (c *crossing) executed(ctx context.Context, dir *os.File, pid int, frozen func() bool) error {
	c.write.Close()
	// That the pipe is closed need not be seen: its end may be open in other
	// children, and a process of the container that has opened it keeps it open.
	const pause = 20 * time.Millisecond
	fds := []unix.PollFd{{Fd: int32(c.read.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(pause.Milliseconds()))
		switch {
		case err != nil && err != unix.EINTR:
			return os.NewSyscallError("poll", err)
		case n > 0:
			return c.status()
		case ctx.Err() != nil:
			return ctx.Err()
		case !c.isProgramOf(dir, pid), frozen():
			return nil
		}
	}
}

// status reads what there is to read: nothing if the program has been executed.
func (c *crossing) status() error {
	b := make([]byte, doorstep.StatusSize)
	n, err := unix.Read(int(c.read.Fd()), b)
	if err != nil {
		return os.NewSyscallError("read", err)
	}
	if n == 0 {
		return nil
	}
	i, errno, ok := doorstep.Failed(b[:n], len(c.paths))
	if !ok {
		return errors.New("a process of the container has interfered")
	}
	path := c.paths[i]
	if errno == unix.ENOENT {
		path = c.name // it is nowhere
	}
	return &spawn.ExecError{Path: path, Err: errno}
}

// isProgramOf reports whether a process has not executed the container's program yet.
func (c *crossing) isProgramOf(dir *os.File, pid int) bool {
	var theirs, ours unix.Stat_t
	return unix.Fstatat(int(dir.Fd()), strconv.Itoa(pid)+"/exe", &theirs, 0) == nil && unix.Fstat(int(c.program.Fd()), &ours) == nil &&
		theirs.Dev == ours.Dev && theirs.Ino == ours.Ino
}
