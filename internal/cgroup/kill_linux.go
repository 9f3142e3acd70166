package cgroup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A freezer is how a group is frozen and thawed.
type freezer struct {
	dir                string
	file, freeze, thaw string // what to write where
	events             string // where the answer is
}

// freezer returns the freezer of the group: that of v2 where there is one, since that
// of v1 cannot always stop a group that forks, and keeps what it has frozen from
// being killed.
func (g *Group) freezer() (freezer, error) {
	if g.layout.v2 != "" {
		return freezer{g.in(g.layout.v2), "cgroup.freeze", "1", "0", "cgroup.events"}, nil
	}
	h := g.layout.carrying("freezer")
	if h == nil {
		return freezer{}, g.errorf("freezer: %w", errors.ErrUnsupported)
	}
	return freezer{g.in(h.mount), "freezer.state", "FROZEN", "THAWED", "freezer.state"}, nil
}

func (f freezer) frozen() (bool, error) {
	b, err := read(f.dir, f.events)
	if f.events == f.file {
		return string(bytes.TrimSpace(b)) == f.freeze, err
	}
	return valueOf(b, "frozen") == 1, err
}

// stop freezes, and returns when all stands still.
func (f freezer) stop(ctx context.Context) error {
	tries := 0
	return until(ctx, func() (bool, error) {
		// What appears while a v1 group is freezing may have been missed:
		// say it again, and let go at times what the others wait for.
		tries++
		if f.events == f.file && tries%32 == 0 {
			if err := write(f.dir, f.file, f.thaw); err != nil {
				return false, err
			}
		}
		if err := write(f.dir, f.file, f.freeze); err != nil {
			return false, err
		}
		return f.frozen()
	})
}

// Freeze stops all processes in the group and below, and returns when they stand
// still. If the context ends before, the group is thawed. A process that enters a
// frozen group is frozen.
func (g *Group) Freeze(ctx context.Context) error {
	f, err := g.freezer()
	if err != nil {
		return err
	}
	if err := g.refuseOwn("freeze"); err != nil {
		return err
	}
	if err := f.stop(ctx); err != nil {
		return g.errorf("freeze: %w", errors.Join(err, ignoreGone(write(f.dir, f.file, f.thaw))))
	}
	return nil
}

// Thaw lets the processes of the group go on, unless a group above is frozen too. It
// may be repeated.
func (g *Group) Thaw() error {
	f, err := g.freezer()
	if err != nil {
		return err
	}
	if err := write(f.dir, f.file, f.thaw); err != nil {
		return g.errorf("thaw: %w", err)
	}
	return nil
}

// Frozen reports whether the group stands still, because it or a group above was
// frozen. An empty group can be frozen too.
func (g *Group) Frozen() (bool, error) {
	f, err := g.freezer()
	if err != nil {
		return false, err
	}
	frozen, err := f.frozen()
	if err != nil {
		return false, g.errorf("%w", err)
	}
	return frozen, nil
}

// refuseOwn returns unix.EDEADLK if the calling process is in the group: it could
// not finish what it is about to do.
func (g *Group) refuseOwn(what string) error {
	b, err := readAt(unix.AT_FDCWD, "/proc/self/cgroup")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) == 3 && strings.HasPrefix(fields[2]+"/", g.path+"/") {
			return g.errorf("%s: this process is in it: %w", what, unix.EDEADLK)
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}

// patience is how long Kill waits for those that it killed, before it looks whether
// others have come.
const patience = 100 * time.Millisecond

// Kill ends everything in the group and below, by SIGKILL, and returns when nothing
// is left but zombies, or with the context's error. Processes that fork do not get
// away, nor do frozen ones; the group and those below are thawed. It is no error if
// there is nothing, and the group may be used again.
//
// That is why it does not write to cgroup.kill: since Linux 6.14, and the stable
// versions of early 2025, the kernel counts that, and a process that is made by
// CLONE_INTO_CGROUP dies at once if the group of who makes it has another count than
// the group that it gets into (cgroup_css_set_fork, kill_seq).
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

// thawAll thaws the group and all below it, whichever of them was frozen.
func (g *Group) thawAll() error {
	f, err := g.freezer()
	if err != nil {
		return nil
	}
	err = walk(unix.AT_FDCWD, f.dir, func(dir int) error { return writeAt(dir, f.file, f.thaw) })
	if err != nil {
		return g.errorf("thaw: %w", err)
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
