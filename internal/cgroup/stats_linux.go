package cgroup

import (
	"bytes"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Stats are the figures of a group and all below it since the group was made. What
// no controller counts is zero.
type Stats struct {
	CPU    CPU    `json:"cpu"`
	Memory Memory `json:"memory"`
	PIDs   PIDs   `json:"pids"`
	IO     IO     `json:"io"`
}

// CPU is time on CPUs. On v1 User and System are exact to 10 ms.
type CPU struct {
	Usage  time.Duration `json:"usage"`
	User   time.Duration `json:"user"`
	System time.Duration `json:"system"`
	// For how long the group was kept from running by its own quota, not by that
	// of a group above or below, summed over CPUs.
	Throttled time.Duration `json:"throttled"`
}

// Memory is in bytes.
type Memory struct {
	Usage      uint64 `json:"usage"`      // with the page cache
	WorkingSet uint64 `json:"workingSet"` // without the part of the cache that is given up first
	Limit      uint64 `json:"limit"`      // the group's own; 0 for none
	Peak       uint64 `json:"peak"`       // of Usage; on v2 since Linux 5.19
}

// PIDs counts processes and threads alike.
type PIDs struct {
	Current uint64 `json:"current"`
	Limit   uint64 `json:"limit"` // the group's own; 0 for none
}

// IO is what was read from and written to block devices.
type IO struct {
	ReadBytes  uint64 `json:"readBytes"`
	WriteBytes uint64 `json:"writeBytes"`
	ReadOps    uint64 `json:"readOps"`
	WriteOps   uint64 `json:"writeOps"`
}

// Stats reads the figures. fs.ErrNotExist if the group is not there.
func (g *Group) Stats() (*Stats, error) {
	if err := g.missing(); err != nil {
		return nil, g.errorf("%w", err)
	}
	var s Stats
	r := reader{}
	for _, h := range g.layout.v1 {
		r.dir = g.in(h.mount)
		for _, c := range h.controllers {
			s.readV1(&r, c)
		}
	}
	if g.layout.v2 != "" {
		r.dir = g.in(g.layout.v2)
		s.readV2(&r, g.layout)
	}
	if r.err != nil {
		return nil, g.errorf("%w", r.err)
	}
	return &s, nil
}

// A reader reads files that need not be there, and keeps the first error.
type reader struct {
	dir string
	err error
}

func (r *reader) file(name string) []byte {
	b, err := read(r.dir, name)
	if err != nil && !isGone(err) && r.err == nil {
		r.err = err
	}
	return b
}

func (r *reader) number(name string) uint64 { return number(r.file(name)) }

// unlimited is about what v1 shows where no limit is set: the largest number of
// bytes that make whole pages.
const unlimited = math.MaxInt64 &^ 0xffff

func (s *Stats) readV1(r *reader, controller string) {
	switch controller {
	case "cpu":
		s.CPU.Throttled = time.Duration(valueOf(r.file("cpu.stat"), "throttled_time"))
	case "cpuacct":
		const tick = time.Second / 100 // USER_HZ, the same on all machines
		stat := r.file("cpuacct.stat")
		s.CPU.Usage = time.Duration(r.number("cpuacct.usage"))
		s.CPU.User = time.Duration(valueOf(stat, "user")) * tick
		s.CPU.System = time.Duration(valueOf(stat, "system")) * tick
	case "memory":
		s.Memory.Usage = r.number("memory.usage_in_bytes")
		s.Memory.Peak = r.number("memory.max_usage_in_bytes")
		if n := r.number("memory.limit_in_bytes"); n < unlimited {
			s.Memory.Limit = n
		}
		s.Memory.setWorkingSet(valueOf(r.file("memory.stat"), "total_inactive_file"))
	case "pids":
		s.PIDs.Current = r.number("pids.current")
		s.PIDs.Limit = r.number("pids.max")
	case "blkio":
		s.IO.ReadBytes, s.IO.WriteBytes = sumV1(r.file("blkio.throttle.io_service_bytes_recursive"))
		s.IO.ReadOps, s.IO.WriteOps = sumV1(r.file("blkio.throttle.io_serviced_recursive"))
	}
}

func (s *Stats) readV2(r *reader, l *layout) {
	// cpu.stat counts without the controller too, but in a hybrid only what was
	// born in the group.
	if l.carrying("cpuacct") == nil {
		stat := r.file("cpu.stat")
		s.CPU = CPU{
			Usage:     time.Duration(valueOf(stat, "usage_usec")) * time.Microsecond,
			User:      time.Duration(valueOf(stat, "user_usec")) * time.Microsecond,
			System:    time.Duration(valueOf(stat, "system_usec")) * time.Microsecond,
			Throttled: time.Duration(valueOf(stat, "throttled_usec")) * time.Microsecond,
		}
	}
	if l.carrying("memory") == nil {
		s.Memory.Usage = r.number("memory.current")
		s.Memory.Peak = r.number("memory.peak")
		s.Memory.Limit = r.number("memory.max")
		s.Memory.setWorkingSet(valueOf(r.file("memory.stat"), "inactive_file"))
	}
	if l.carrying("pids") == nil {
		s.PIDs.Current = r.number("pids.current")
		s.PIDs.Limit = r.number("pids.max")
	}
	if l.carrying("blkio") == nil {
		s.IO = sumV2(r.file("io.stat"))
	}
}

func (m *Memory) setWorkingSet(inactive uint64) {
	// The two are not read at the same moment.
	m.WorkingSet = m.Usage - min(m.Usage, inactive)
}

// sumV1 adds up lines such as "8:0 Read 4096". A line that begins with Total does
// the same.
func sumV1(b []byte) (reads, writes uint64) {
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			continue
		}
		switch string(f[1]) {
		case "Read":
			reads += number(f[2])
		case "Write":
			writes += number(f[2])
		}
	}
	return reads, writes
}

// sumV2 adds up lines such as "8:0 rbytes=4096 wbytes=0 rios=1 wios=0".
func sumV2(b []byte) IO {
	var s IO
	for word := range bytes.FieldsSeq(b) {
		key, value, _ := bytes.Cut(word, []byte{'='})
		switch string(key) {
		case "rbytes":
			s.ReadBytes += number(value)
		case "wbytes":
			s.WriteBytes += number(value)
		case "rios":
			s.ReadOps += number(value)
		case "wios":
			s.WriteOps += number(value)
		}
	}
	return s
}

// OOMKills returns how many processes of the group, or below it, the kernel has ended
// for want of memory, within whatever limit. On v1 those of groups below that were
// removed meanwhile are forgotten. Without a memory controller it is 0; fs.ErrNotExist
// if the group is not there.
//
// What is 1 more after an exit by SIGKILL than it was before makes the kernel the
// killer, as far as the group has had one process.
func (g *Group) OOMKills() (uint64, error) {
	if err := g.missing(); err != nil {
		return 0, g.errorf("%w", err)
	}
	if h := g.layout.carrying("memory"); h != nil {
		var sum uint64
		err := walk(unix.AT_FDCWD, g.in(h.mount), func(dir int) error {
			b, err := readAt(dir, "memory.oom_control")
			sum += valueOf(b, "oom_kill")
			return err
		})
		if err != nil {
			return 0, g.errorf("%w", err)
		}
		return sum, nil
	}
	r := reader{dir: g.in(g.layout.v2)}
	n := valueOf(r.file("memory.events"), "oom_kill")
	if r.err != nil {
		return 0, g.errorf("%w", r.err)
	}
	return n, nil
}
