package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/userns"
	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // registers how device rules are set
	fs1 "github.com/opencontainers/cgroups/fs"
	"golang.org/x/sys/unix"
)

// Why a limit is missing.
var (
	errNotHere      = errors.New("not available")
	errNotSupported = errors.New("not supported")
	errNoSuchLimit  = errors.New("has no such limit in this version of cgroup")
	errUserNS       = errors.New("not in a user namespace")
)

// missing says that nothing enforces the first of the fields.
func (l *limit) missing(why error) *MissingError { return l.fields[0].missing(l.controller, why) }

func (f field) missing(controller string, why error) *MissingError {
	return &MissingError{Field: "linux.resources." + f.name, Controller: controller, Err: why}
}

// setV1 writes the limit into the group's directory of the controller.
func (l *limit) setV1(dir string, fresh bool) error {
	if m := l.check(dir, func(f field) string { return f.v1 }); m != nil {
		return m
	}
	if l.swapUnasked && !exists(dir+"/"+swapV1) {
		l.MemorySwap = 0
	}
	var set interface {
		Set(path string, r *cgroups.Resources) error
	}
	switch l.controller {
	case "devices":
		if fresh {
			return l.writeDevices(dir)
		}
		set = &fs1.DevicesGroup{}
	case "pids":
		set = &fs1.PidsGroup{}
	case "memory":
		set = &fs1.MemoryGroup{}
	case "cpu":
		set = &fs1.CpuGroup{}
	case "cpuset":
		set = &fs1.CpusetGroup{}
	case "blkio":
		set = &fs1.BlkioGroup{}
	case "hugetlb":
		set = &fs1.HugetlbGroup{}
	default:
		return l.missing(errNotHere)
	}
	if err := set.Set(dir, &l.Resources); err != nil {
		return fmt.Errorf("limit %s: %w", l.controller, err)
	}
	return nil
}

// writeDevices gives a new group its device rules, in their order. A group with
// processes wants more care, which the library takes.
func (l *limit) writeDevices(dir string) error {
	for _, r := range l.Devices {
		file := "devices.deny"
		if r.Allow {
			file = "devices.allow"
		}
		if err := write(dir, file, r.CgroupString()); err != nil {
			return fmt.Errorf("limit devices: %w", err)
		}
	}
	return nil
}

// setV2 writes the limit into the group's directory of v2. why is what may have kept
// the controller away.
func (l *limit) setV2(dir string, m cgroups.Manager, why error) error {
	if m := l.check(dir, func(f field) string { return f.v2 }); m != nil {
		if b, err := read(dir, "cgroup.controllers"); err == nil && !slices.Contains(strings.Fields(string(b)), nameV2(l.controller)) {
			m.Err = cmp.Or(why, errNotHere)
		}
		return m
	}
	if l.swapUnasked && !exists(dir+"/"+swapV2) {
		l.MemorySwap = 0
	}
	if !l.SkipDevices {
		defer keepMemlock()()
	}
	if err := m.Set(&l.Resources); err != nil {
		return fmt.Errorf("limit %s: %w", l.controller, err)
	}
	return nil
}

// check sees to it that the kernel has a file for each field that was asked for. The
// library passes over some that it has not.
func (l *limit) check(dir string, file func(field) string) *MissingError {
	for _, f := range l.fields {
		if f.v1 == "" && f.v2 == "" {
			return f.missing(l.controller, errNotSupported)
		}
		files := strings.Split(file(f), "|")
		if files[0] == "" {
			return f.missing(l.controller, errNoSuchLimit)
		}
		if !slices.ContainsFunc(files, func(name string) bool { return exists(dir + "/" + name) }) {
			return f.missing(l.controller, &fs.PathError{Op: "open", Path: dir + "/" + files[0], Err: fs.ErrNotExist})
		}
	}
	if !l.SkipDevices && userns.RunningInUserNS() {
		// The library would say nothing, and do nothing.
		return l.missing(errUserNS)
	}
	return nil
}

// inheritCpuset gives a new cpuset, and those above it, the CPUs and memory nodes of
// their parents.
func inheritCpuset(dir string) error {
	return (&fs1.CpusetGroup{}).Apply(dir, &cgroups.Resources{}, -1)
}

// memlock is held while the process has another RLIMIT_MEMLOCK than its own.
var memlock sync.Mutex

// keepMemlock notes RLIMIT_MEMLOCK, and returns what restores it. Before it loads a
// program the library lifts this limit of the whole process, as kernels before 5.11
// needed, and a container that is started afterwards would inherit that.
func keepMemlock() func() {
	memlock.Lock()
	var was unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &was)
	return func() {
		defer memlock.Unlock()
		if err == nil {
			_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &was)
		}
	}
}
