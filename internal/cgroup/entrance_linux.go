package cgroup

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// An Entrance is how a new process gets into a group before it executes its program.
//
// A cgroup namespace has its root where the process is that makes it: a new process
// that is to have its own must enter first, and then call unshare(CLONE_NEWCGROUP).
type Entrance struct {
	// Into is for CLONE_INTO_CGROUP of clone3(2), by which the process is born in
	// the group. Nil where there is no v2 hierarchy.
	Into *os.File
	// The process writes "0" to each of Tasks. None where all is v2. The last may
	// be the freezer: a process that enters a frozen group stands still at that
	// moment, and not even SIGKILL ends it there before the group is thawed.
	Tasks []*os.File
}

// Entrance opens the entrance of the group. The caller closes it.
func (g *Group) Entrance() (*Entrance, error) {
	e := &Entrance{}
	for _, h := range g.layout.v1 {
		f, err := openFile(g.in(h.mount)+"/tasks", unix.O_WRONLY)
		if h.onDemand && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			e.Close()
			return nil, g.errorf("%w", err)
		}
		e.Tasks = append(e.Tasks, f)
	}
	if g.layout.v2 == "" {
		return e, nil
	}
	f, err := openFile(g.in(g.layout.v2), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		e.Close()
		return nil, g.errorf("%w", err)
	}
	e.Into = f
	return e, nil
}

func openFile(path string, flags int) (*os.File, error) {
	fd, err := open(unix.AT_FDCWD, path, flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Close closes the files. It may be called again.
func (e *Entrance) Close() error {
	var errs []error
	if e.Into != nil {
		errs = append(errs, e.Into.Close())
	}
	for _, f := range e.Tasks {
		errs = append(errs, f.Close())
	}
	e.Into, e.Tasks = nil, nil
	return errors.Join(errs...)
}
