package cgroup

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long Kill waits for those that it killed, before it looks whether
// others have come.
const patience = 100 * time.Millisecond

// Kill ends everything in the group and below, by SIGKILL, and returns when nothing
// is left but zombies, or with the context's error. Processes that fork do not get
// away, nor do frozen ones; the group and those below are thawed. It is no error if
// there is nothing, and the group may be used again.
//
// That is why it does not write to cgroup.kill. Newer kernels (6.18, not yet 6.1)
// count that, and a process made by CLONE_INTO_CGROUP dies at once if the group of
// who makes it has another count than the group that it gets into
// (cgroup_css_set_fork, kill_seq).
func (g *Group) Kill(ctx context.Context) error {
	if err := g.refuseOwn("kill"); err != nil {
		return err
	}
	for {
		if err := g.strike(); err != nil {
			return g.errorf("kill: %w", err)
		}
		left, err := g.emptied(ctx)
		if err != nil || left == 0 {
			return err
		}
		if err := ctx.Err(); err != nil {
			return g.errorf("kill: %d processes left: %w", left, err)
		}
	}
}

// emptied waits for a while until nothing is left, and returns how much is.
func (g *Group) emptied(ctx context.Context) (left int, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var failed error
	_ = until(ctx, func() (bool, error) {
		pids, err := g.PIDs()
		left, failed = len(pids), err
		return left == 0, err
	})
	return left, failed
}

// strike freezes the group, kills what it finds, and thaws the group for it to die.
// It need not wait until all stands still: no process that was told to can make
// another before.
func (g *Group) strike() error {
	f, err := g.freezer()
	if err != nil {
		// No freezer: Kill comes again, as long as it is let.
		_, err := g.signal(unix.SIGKILL)
		return err
	}
	if err := ignoreGone(write(f.dir, f.file, f.freeze)); err != nil {
		return err
	}
	pids, err := g.signal(unix.SIGKILL)
	if err := cmp.Or(err, g.thawAll()); err != nil {
		return err
	}
	if frozen, err := f.frozen(); err == nil && frozen && g.layout.v2 == "" {
		return g.release(pids)
	}
	return nil
}

// release lets killed processes die although a group above stays frozen: on v1 they
// would wait for its thaw. It takes them out of the freezer; they do not get as far
// as to run.
func (g *Group) release(pids map[int]bool) error {
	root := g.layout.carrying("freezer").mount
	for pid := range pids {
		if err := write(root, "cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// signal signals what is in the group, and what comes meanwhile, and returns whom.
func (g *Group) signal(sig unix.Signal) (done map[int]bool, err error) {
	done = map[int]bool{}
	pids, err := g.PIDs()
	for err == nil && len(pids) > 0 {
		// In pieces, for each takes a descriptor for a moment.
		pids, err = g.signalThese(pids[:min(len(pids), 512)], sig, done)
		pids = slices.DeleteFunc(pids, func(pid int) bool { return done[pid] })
	}
	return done, err
}

// signalThese signals those of pids that are still in the group when a descriptor
// holds them: a PID alone may be a stranger's by now. It notes what is done, and
// returns all that are in the group at that moment.
func (g *Group) signalThese(pids []int, sig unix.Signal, done map[int]bool) ([]int, error) {
	fds := make(map[int]int, len(pids))
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err == unix.EMFILE && len(fds) > 0 {
			break
		}
		// EINVAL is for what is a thread by now.
		if err != nil && err != unix.ESRCH && err != unix.EINVAL {
			return nil, &fs.PathError{Op: "pidfd_open", Path: strconv.Itoa(pid), Err: err}
		}
		if err == nil {
			fds[pid] = fd
		}
		done[pid] = true
	}
	still, err := g.PIDs()
	if err != nil {
		return nil, err
	}
	for _, pid := range still {
		fd, ok := fds[pid]
		if !ok {
			continue
		}
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && err != unix.ESRCH {
			return nil, &fs.PathError{Op: "pidfd_send_signal", Path: strconv.Itoa(pid), Err: err}
		}
	}
	return still, nil
}
