package cgroup

import (
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// A View is where a group's own directory in one hierarchy is, and what it is called
// below /sys/fs/cgroup: "" if that is the directory itself.
type View struct{ Name, Dir string }

// Views returns what a container is to see of its group: on v1 what programs read to
// learn what they may use.
func (g *Group) Views() []View {
	if g.layout.v2 == mountPoint {
		return []View{{"", g.in(g.layout.v2)}}
	}
	var views []View
	for _, h := range g.layout.v1 {
		if !slices.ContainsFunc(h.controllers, func(c string) bool { return slices.Contains(shown[:], c) }) {
			continue
		}
		if dir := g.in(h.mount); !h.onDemand || exists(dir) {
			views = append(views, View{path.Base(h.mount), dir})
		}
	}
	return views
}

// shown are the controllers that programs read of.
var shown = [...]string{"memory", "cpu", "cpuacct", "cpuset", "pids"}

// Gone reports whether the group is in no hierarchy.
func (g *Group) Gone() bool {
	return !slices.ContainsFunc(g.allDirs(), exists)
}

// RemoveEmpty removes the group if there is nothing in it, and reports whether it is
// gone. It does not wait, as Remove does.
func (g *Group) RemoveEmpty() (gone bool, err error) {
	gone = true
	for _, dir := range g.allDirs() {
		switch err := unix.Rmdir(dir); err {
		case nil, unix.ENOENT:
		case unix.EBUSY, unix.ENOTEMPTY:
			gone = false
		default:
			return false, g.errorf("remove: %w", err)
		}
	}
	return gone, nil
}
