package cgroup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Group is a control group, by its path. It need not be there.
type Group struct {
	path   string
	layout *layout
}

// Open returns the group of an absolute path without ".." elements, or fs.ErrInvalid.
// It touches nothing. The root is not a group: what can be done to a group must not be
// done to the whole machine. fs.ErrNotExist if the machine has no control groups.
func Open(name string) (*Group, error) {
	clean := path.Clean(name)
	if !path.IsAbs(name) || clean == "/" || slices.Contains(strings.Split(name, "/"), "..") || strings.ContainsAny(name, "\x00\n") {
		return nil, fmt.Errorf("cgroup %q: %w", name, fs.ErrInvalid)
	}
	l, err := found()
	if err != nil {
		return nil, err
	}
	return &Group{path: clean, layout: l}, nil
}

// OpenTracking is Open for a group that limits and counts nothing: it is only in the
// hierarchies by which service managers know their processes, so that they do not take
// ours for those of a service that they stop.
func OpenTracking(name string) (*Group, error) {
	g, err := Open(name)
	if err != nil {
		return nil, err
	}
	g.layout = g.layout.tracking()
	return g, nil
}

// String returns the path of the group.
func (g *Group) String() string { return g.path }

func (g *Group) errorf(format string, args ...any) error {
	return fmt.Errorf("cgroup %s: "+format, append([]any{g.path}, args...)...)
}

// in is the directory of the group in a hierarchy.
func (g *Group) in(mount string) string { return mount + g.path }

// dirs are all directories that the group has, or may have.
func (g *Group) dirs() []string {
	dirs := make([]string, 0, len(g.layout.v1)+1)
	for _, h := range g.layout.v1 {
		dirs = append(dirs, g.in(h.mount))
	}
	if g.layout.v2 != "" {
		dirs = append(dirs, g.in(g.layout.v2))
	}
	return dirs
}

// allDirs are dirs, and those that only others make.
func (g *Group) allDirs() []string {
	dirs := g.dirs()
	for _, mount := range g.layout.others() {
		dirs = append(dirs, g.in(mount))
	}
	return dirs
}

// missing returns fs.ErrNotExist if the group is not there.
func (g *Group) missing() error {
	if dir := g.dirs()[0]; !exists(dir) {
		return &os.PathError{Op: "open", Path: dir, Err: fs.ErrNotExist}
	}
	return nil
}

// Children returns the names of the groups directly below, sorted. There are none
// if the group is not there. What an interrupted Create or Remove left behind in
// some of the hierarchies is among them.
func (g *Group) Children() ([]string, error) {
	var names []string
	for _, dir := range g.dirs() {
		f, err := os.Open(dir)
		if err == nil {
			var found []string
			found, err = subdirs(f)
			names = append(names, found...)
			f.Close()
		}
		if err != nil && !isGone(err) {
			return nil, g.errorf("%w", err)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// PIDs returns the processes in the group and below, sorted. There are none if the
// group is not there. A process is among them that only some hierarchies have in the
// group. Processes of PID namespaces that the caller does not see are left out.
func (g *Group) PIDs() ([]int, error) {
	var pids []int
	for _, dir := range g.dirs() {
		err := walk(unix.AT_FDCWD, dir, func(dir int) error {
			found, err := members(dir)
			pids = append(pids, found...)
			return err
		})
		if err != nil {
			return nil, g.errorf("%w", err)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// Add moves a process with all its threads into the group. What is to be there from
// its first instruction on is better made there: see [Group.Entrance]. A move waits
// for other CPUs (0.6 ms, and more where there are many).
func (g *Group) Add(pid int) error {
	for _, dir := range g.dirs() {
		if err := g.add(dir, pid); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) add(dir string, pid int) error {
	err := write(dir, "cgroup.procs", strconv.Itoa(pid))
	if errors.Is(err, fs.ErrNotExist) && g.spares(dir) {
		return nil
	}
	if err != nil {
		return g.errorf("add process %d: %w", pid, err)
	}
	return nil
}

// spares reports whether the group may be without a directory.
func (g *Group) spares(dir string) bool {
	return slices.ContainsFunc(g.layout.v1, func(h hierarchy) bool { return h.onDemand && g.in(h.mount) == dir })
}

// removeBound is for how long Remove tries again.
const removeBound = 2 * time.Second

// Remove removes the group and all below it, from all hierarchies. It is no error
// if there is nothing (any more). A group with processes is not removed: unix.EBUSY,
// after some attempts, because the last ones of a group that was killed may not have
// left it yet.
func (g *Group) Remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, removeBound)
	defer cancel()
	var failed error
	for _, dir := range g.allDirs() {
		var err error
		_ = until(ctx, func() (bool, error) {
			err = removeTree(unix.AT_FDCWD, dir)
			return !errors.Is(err, unix.EBUSY), nil
		})
		if err != nil {
			failed = cmp.Or(failed, g.errorf("%w", err))
		}
	}
	return failed
}
