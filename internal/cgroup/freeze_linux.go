package cgroup

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

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
	err = f.stop(ctx)
	if err == nil {
		return nil
	}
	if terr := ignoreGone(write(f.dir, f.file, f.thaw)); terr != nil {
		return g.errorf("freeze: %w; it stays so: %w", err, terr)
	}
	return g.errorf("freeze: %w", err)
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

// Frozen reports whether the group was frozen, or a group above: whatever is put into it
// stands still. An empty group can be frozen too. It goes by what was asked for, for while
// a process in a frozen group is killed the kernel says for a moment that not all stands still.
func (g *Group) Frozen() (bool, error) {
	f, err := g.freezer()
	if err != nil {
		return false, err
	}
	frozen, err := f.asked()
	if err != nil {
		return false, g.errorf("%w", err)
	}
	return frozen, nil
}

// asked reports whether the group, or one above, was told to stand still.
func (f freezer) asked() (bool, error) {
	if f.events == f.file { // FREEZING or FROZEN, also by a group above
		b, err := read(f.dir, f.file)
		return err == nil && string(bytes.TrimSpace(b)) != f.thaw, err
	}
	if frozen, err := f.frozen(); frozen || err != nil {
		return frozen, err
	}
	for dir := f.dir; ; dir = filepath.Dir(dir) {
		b, err := read(dir, f.file)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil // the root cannot be frozen
		}
		if err != nil || string(bytes.TrimSpace(b)) == f.freeze {
			return err == nil, err
		}
	}
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
