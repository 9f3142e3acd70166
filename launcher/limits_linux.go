package launcher

import (
	"fmt"
	"slices"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/spawn"
)

// limits sets resource limits.
func limits(p *spawn.Program, sharesPID bool, ls []specs.POSIXRlimit) {
	set := func(name string, which int, cur, max uint64) {
		p.Call("set "+name, unix.SYS_PRLIMIT64, 0, uintptr(which),
			spawn.Pointer(p, &unix.Rlimit{Cur: cur, Max: max}), 0)
	}
	if sharesPID {
		// A full queue of pending signals makes a forged signal look like one
		// from the host (see package pause): members must not be able to fill
		// the pause's.
		var l unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_SIGPENDING, &l); err == nil {
			set("RLIMIT_SIGPENDING", unix.RLIMIT_SIGPENDING, min(l.Cur, l.Max/2), l.Max/2)
		}
	}
	// Go raises the soft limit of open files of its own programs, which is no
	// good for others: select(2) breaks down above 1024, and some close all that
	// there could be.
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		set("RLIMIT_NOFILE", unix.RLIMIT_NOFILE, min(files.Max, 1024), files.Max)
	}
	for _, l := range ls {
		set(l.Type, rlimits[l.Type], l.Soft, l.Hard)
	}
}

var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// schedule sets how the child is scheduled, on the CPU and on disks, and what
// machine it believes to run on.
func schedule(p *spawn.Program, s *specs.Process, l *specs.Linux) {
	if attr, _ := schedAttr(s.Scheduler); attr != nil {
		p.Call("set scheduler", unix.SYS_SCHED_SETATTR, 0, spawn.Pointer(p, attr), 0)
	}
	if prio, _ := ioPriority(s.IOPriority); prio != 0 {
		const whoProcess = 1
		p.Call("set I/O priority", unix.SYS_IOPRIO_SET, whoProcess, 0, prio)
	}
	if l != nil && l.Personality != nil {
		persona, _ := personality(l.Personality)
		p.Call("set personality", unix.SYS_PERSONALITY, persona)
	}
}

var schedPolicies = map[specs.LinuxSchedulerPolicy]uint32{
	specs.SchedOther: unix.SCHED_NORMAL, specs.SchedFIFO: unix.SCHED_FIFO, specs.SchedRR: unix.SCHED_RR,
	specs.SchedBatch: unix.SCHED_BATCH, specs.SchedIdle: unix.SCHED_IDLE, specs.SchedDeadline: unix.SCHED_DEADLINE,
}

var schedFlags = map[specs.LinuxSchedulerFlag]uint64{
	specs.SchedFlagResetOnFork: unix.SCHED_FLAG_RESET_ON_FORK, specs.SchedFlagReclaim: unix.SCHED_FLAG_RECLAIM,
	specs.SchedFlagDLOverrun: unix.SCHED_FLAG_DL_OVERRUN, specs.SchedFlagKeepPolicy: unix.SCHED_FLAG_KEEP_POLICY,
	specs.SchedFlagKeepParams: unix.SCHED_FLAG_KEEP_PARAMS, specs.SchedFlagUtilClampMin: unix.SCHED_FLAG_UTIL_CLAMP_MIN,
	specs.SchedFlagUtilClampMax: unix.SCHED_FLAG_UTIL_CLAMP_MAX,
}

// schedAttr returns a scheduler's settings as sched_setattr(2) takes them.
func schedAttr(s *specs.Scheduler) (*unix.SchedAttr, error) {
	if s == nil {
		return nil, nil
	}
	policy, ok := schedPolicies[s.Policy]
	if !ok {
		return nil, fmt.Errorf("process.scheduler.policy %q: %w: no such policy", s.Policy, ErrInvalid)
	}
	attr := &unix.SchedAttr{
		Size: uint32(unsafe.Sizeof(unix.SchedAttr{})), Policy: policy, Nice: s.Nice, Priority: uint32(s.Priority),
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period,
	}
	for _, f := range s.Flags {
		flag, ok := schedFlags[f]
		if !ok {
			return nil, fmt.Errorf("process.scheduler.flags %q: %w: no such flag", f, ErrInvalid)
		}
		attr.Flags |= flag
	}
	return attr, nil
}

// ioPriority returns an I/O priority as ioprio_set(2) takes it.
func ioPriority(p *specs.LinuxIOPriority) (uintptr, error) {
	if p == nil {
		return 0, nil
	}
	class := slices.Index([]specs.IOPriorityClass{"", specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE}, p.Class)
	if class <= 0 || p.Priority < 0 || p.Priority > 7 {
		return 0, fmt.Errorf("process.ioPriority %s %d: %w: want a class and a priority of 0 to 7", p.Class, p.Priority, ErrInvalid)
	}
	const classShift = 13
	return uintptr(class<<classShift | p.Priority), nil
}

// personality returns an execution domain as personality(2) takes it.
func personality(p *specs.LinuxPersonality) (uintptr, error) {
	const linux32 = 0x0008
	switch {
	case p == nil:
		return 0, nil
	case len(p.Flags) > 0:
		return 0, fmt.Errorf("linux.personality.flags: %w", ErrNotSupported)
	case p.Domain == specs.PerLinux:
		return 0, nil
	case p.Domain == specs.PerLinux32:
		return linux32, nil
	}
	return 0, fmt.Errorf("linux.personality.domain %q: %w: want LINUX or LINUX32", p.Domain, ErrInvalid)
}
