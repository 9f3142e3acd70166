package cgroup

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Create makes the group, with its parents, and sets its limits and device rules;
// nil is for none. With rules, devices are denied that no rule allows; without,
// the group allows what its parent does.
//
// It may be repeated: then it changes what r says, and leaves the rest as it is. If
// it fails it removes what it made, but limits of a group that was there before may
// have been changed in part. On v1 a group cannot lose CPUs that one below it has
// (EBUSY).
func (g *Group) Create(r *specs.LinuxResources) (err error) {
	limits, err := compile(r)
	if err != nil {
		return g.errorf("%w", err)
	}
	var made []string
	defer func() {
		if err == nil {
			return
		}
		for _, dir := range slices.Backward(made) {
			_ = unix.Rmdir(dir)
		}
	}()
	var late []hierarchy
	for _, h := range g.layout.v1 {
		if h.onDemand && !g.demands(h, limits) {
			continue
		}
		dirs, err := g.makeV1(h)
		made = append(made, dirs...)
		if err != nil {
			return g.errorf("%w", err)
		}
		if h.onDemand && len(dirs) > 0 {
			late = append(late, h)
		}
	}
	dirs, why, err := g.makeV2(limits)
	made = append(made, dirs...)
	if err != nil {
		return g.errorf("%w", err)
	}
	if err := g.set(limits, made, why); err != nil {
		return err
	}
	for _, h := range late {
		if err := g.adopt(h); err != nil {
			return err
		}
	}
	return nil
}

// demands reports whether the group must be in a hierarchy that most do without: to
// have a limit there, or to be below one that has.
func (g *Group) demands(h hierarchy, limits []*limit) bool {
	if slices.ContainsFunc(limits, func(l *limit) bool { return slices.Contains(h.controllers, l.controller) }) {
		return true
	}
	parent := path.Dir(g.path)
	return parent != "/" && exists(h.mount+parent)
}

// makeV1 makes the group in one hierarchy, and returns the directories that it made.
func (g *Group) makeV1(h hierarchy) ([]string, error) {
	made, err := mkdirs(h.mount, g.path)
	if err == nil && slices.Contains(h.controllers, "cpuset") {
		err = inheritCpuset(g.in(h.mount))
	}
	return made, err
}

// mkdirs makes a directory and those above it that lie below the mount.
func mkdirs(mount, name string) (made []string, err error) {
	dir := mount + name
	err = unix.Mkdir(dir, 0o755)
	// Somebody may remove the parent again, which is empty: RemoveEmpty.
	for try := 0; err == unix.ENOENT && path.Dir(name) != "/" && try < 10; try++ {
		more, perr := mkdirs(mount, path.Dir(name))
		if made = append(made, more...); perr != nil {
			return made, perr
		}
		err = unix.Mkdir(dir, 0o755)
	}
	switch err {
	case nil:
		return append(made, dir), nil
	case unix.EEXIST:
		return made, nil
	default:
		return made, &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
}

// adopt brings into a hierarchy that is new to the group what the group has already:
// its processes, and the groups below with theirs.
func (g *Group) adopt(h hierarchy) error {
	children, err := g.Children()
	if err != nil {
		return err
	}
	for _, name := range children {
		child := &Group{path: g.path + "/" + name, layout: g.layout}
		if _, err := child.makeV1(h); err != nil {
			return child.errorf("%w", err)
		}
		if err := child.adopt(h); err != nil {
			return err
		}
	}
	// A process that forks meanwhile leaves a child behind: go on until none is.
	for {
		strays, err := g.strays(g.in(h.mount))
		if err != nil {
			return g.errorf("%w", err)
		}
		if len(strays) == 0 {
			return nil
		}
		for _, pid := range strays {
			if err := g.add(g.in(h.mount), pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
}

// strays returns the processes that are in the group, but not in one directory of it.
func (g *Group) strays(dir string) ([]int, error) {
	var in, all []int
	for _, d := range g.dirs() {
		fd, err := open(unix.AT_FDCWD, d, unix.O_PATH|unix.O_DIRECTORY)
		if isGone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		pids, err := members(fd)
		unix.Close(fd)
		if err != nil {
			return nil, err
		}
		if d == dir {
			in = pids
		} else {
			all = append(all, pids...)
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(pid int) bool { return slices.Contains(in, pid) }), nil
}

// base are the v2 controllers that a group has without being asked: they measure.
var base = [...]string{"cpu", "io", "memory", "pids"}

// makeV2 makes the group in the v2 hierarchy, with the controllers that it needs. It
// returns the directories that it made, and what kept a controller from the group.
func (g *Group) makeV2(limits []*limit) (made []string, why, err error) {
	if g.layout.v2 == "" {
		return nil, nil, nil
	}
	var want []string
	for _, c := range g.layout.v2Controllers {
		asked := func(l *limit) bool { return nameV2(l.controller) == c }
		if slices.Contains(base[:], c) || slices.ContainsFunc(limits, asked) {
			want = append(want, c)
		}
	}
	if len(want) == 0 {
		made, err = mkdirs(g.layout.v2, g.path)
		return made, nil, err
	}
	parent := ""
	for name := range strings.SplitSeq(g.path[1:], "/") {
		why = cmp.Or(why, enable(g.layout.v2+parent, want))
		parent += "/" + name
		dirs, err := mkdirs(g.layout.v2, parent)
		made = append(made, dirs...)
		if err != nil {
			return made, why, err
		}
	}
	return made, why, checkType(g.in(g.layout.v2))
}

// enable gives controllers to the groups below a directory, as far as it has them
// itself.
func enable(dir string, want []string) error {
	b, err := read(dir, "cgroup.subtree_control")
	if err != nil {
		return err
	}
	has := strings.Fields(string(b))
	if !slices.ContainsFunc(want, func(c string) bool { return !slices.Contains(has, c) }) {
		return nil
	}
	if b, err = read(dir, "cgroup.controllers"); err != nil {
		return err
	}
	may := strings.Fields(string(b))
	var all []string
	for _, c := range want {
		if !slices.Contains(has, c) && slices.Contains(may, c) {
			all = append(all, "+"+c)
		}
	}
	if len(all) == 0 {
		return nil
	}
	// The kernel refuses this itself, except if all of them are controllers of
	// threads: then it makes the directory the root of a threaded subtree, and
	// whatever is created below useless.
	holds, err := holdsProcesses(dir)
	if err != nil {
		return err
	}
	if holds {
		return &os.PathError{Op: "enable " + strings.Join(all, " ") + ": processes in", Path: dir, Err: unix.EBUSY}
	}
	if write(dir, "cgroup.subtree_control", strings.Join(all, " ")) == nil {
		return nil
	}
	// One that cannot be had must not keep the others away: cpu cannot as long
	// as there are realtime processes outside of the root (CONFIG_RT_GROUP_SCHED).
	var why error
	for _, c := range all {
		why = cmp.Or(why, write(dir, "cgroup.subtree_control", c))
	}
	return why
}

// holdsProcesses reports whether a v2 group has processes of its own and is not the
// root of the whole hierarchy, where that is no obstacle: only the root has no type.
func holdsProcesses(dir string) (bool, error) {
	if !exists(dir + "/cgroup.type") {
		return false, nil
	}
	b, err := read(dir, "cgroup.procs")
	return len(b) > 0, err
}

// checkType complains of a v2 group that no process can be put into, because of how
// those above it are used.
func checkType(dir string) error {
	b, err := read(dir, "cgroup.type")
	if err != nil {
		return err
	}
	if kind := string(bytes.TrimSpace(b)); kind == "domain invalid" || kind == "threaded" {
		return &os.PathError{Op: "a group above is threaded: open", Path: dir, Err: unix.EOPNOTSUPP}
	}
	return nil
}

// nameV2 is the name that a v1 controller has in v2.
func nameV2(controller string) string {
	if controller == "blkio" {
		return "io"
	}
	return controller
}

// set sets all limits, each where its controller is.
func (g *Group) set(limits []*limit, made []string, why error) error {
	var v2 cgroups.Manager
	for _, l := range limits {
		var err error
		if h := g.layout.carrying(l.controller); h != nil {
			dir := g.in(h.mount)
			err = l.setV1(dir, slices.Contains(made, dir))
		} else if g.layout.v2 == "" {
			err = l.missing(errNotHere)
		} else {
			dir := g.in(g.layout.v2)
			if v2 == nil {
				if v2, err = fs2.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, dir); err != nil {
					return g.errorf("%w", err)
				}
			}
			err = l.setV2(dir, v2, why)
		}
		if err != nil {
			return g.errorf("%w", err)
		}
	}
	return nil
}
