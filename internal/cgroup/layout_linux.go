package cgroup

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A hierarchy is one tree of groups of cgroup v1.
type hierarchy struct {
	mount       string   // where it is
	controllers []string // what it carries, by their v1 names
	// A new group of cpuset admits nobody until it has CPUs and memory nodes,
	// and most containers have no use for it nor for hugetlb.
	onDemand bool
}

// A layout says where the machine has which controllers.
type layout struct {
	v1 []hierarchy
	v2 string // where the v2 hierarchy is; "" if there is none
	// What v2 carries at its root: those that v1 does not have.
	v2Controllers []string
}

// mountPoint is where control groups are on every machine.
const mountPoint = "/sys/fs/cgroup"

// served are the v1 controllers that podbox uses. The one named systemd controls
// nothing: service managers know their processes by it, and must not take ours for
// those of a service. The last is used only where v2 is missing.
var served = [...]string{"devices", "pids", "memory", "cpu", "cpuacct", "blkio", "systemd", "cpuset", "hugetlb", "freezer"}

// found is the layout of the machine, which does not change while it runs.
var found = sync.OnceValues(func() (*layout, error) { return find(mountPoint) })

func find(root string) (*layout, error) {
	l := &layout{}
	if isType(root, unix.CGROUP2_SUPER_MAGIC) {
		l.v2 = root
	} else {
		if unified := root + "/unified"; isType(unified, unix.CGROUP2_SUPER_MAGIC) {
			l.v2 = unified
		}
		l.findV1(root)
	}
	if l.v2 == "" && len(l.v1) == 0 {
		return nil, fmt.Errorf("no control groups at %s: %w", root, fs.ErrNotExist)
	}
	if l.v2 != "" {
		b, err := read(l.v2, "cgroup.controllers")
		if err != nil {
			return nil, err
		}
		l.v2Controllers = strings.Fields(string(b))
	}
	return l, nil
}

// findV1 adds the hierarchies of v1. Some carry several controllers: cpu and
// cpuacct are often names of one and the same.
func (l *layout) findV1(root string) {
	devices := map[uint64]int{}
	for _, name := range served {
		mount := root + "/" + name
		var st unix.Stat_t
		if name == "freezer" && l.v2 != "" || !isType(mount, unix.CGROUP_SUPER_MAGIC) || unix.Stat(mount, &st) != nil {
			continue
		}
		i, known := devices[st.Dev]
		if !known {
			i = len(l.v1)
			devices[st.Dev] = i
			l.v1 = append(l.v1, hierarchy{mount: mount, onDemand: true})
		}
		h := &l.v1[i]
		h.controllers = append(h.controllers, name)
		h.onDemand = h.onDemand && (name == "cpuset" || name == "hugetlb")
	}
}

// tracking is the part of the layout by which service managers know processes.
func (l *layout) tracking() *layout {
	t := &layout{v2: l.v2}
	if h := l.carrying("systemd"); h != nil {
		t.v1 = []hierarchy{*h}
	}
	return t
}

// others are the hierarchies of v1 that are not served. Another runtime that was given
// our path has made the group there too, which matters when it is removed.
func (l *layout) others() []string {
	if len(l.v1) == 0 {
		return nil
	}
	var mounts []string
	entries, _ := os.ReadDir(mountPoint)
	for _, e := range entries {
		mount := mountPoint + "/" + e.Name()
		if e.IsDir() && !slices.ContainsFunc(l.v1, func(h hierarchy) bool { return h.mount == mount }) && isType(mount, unix.CGROUP_SUPER_MAGIC) {
			mounts = append(mounts, mount)
		}
	}
	return mounts
}

func isType(path string, magic int64) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && int64(st.Type) == magic
}

// carrying returns the v1 hierarchy of a controller, or nil.
func (l *layout) carrying(controller string) *hierarchy {
	for i := range l.v1 {
		if slices.Contains(l.v1[i].controllers, controller) {
			return &l.v1[i]
		}
	}
	return nil
}
