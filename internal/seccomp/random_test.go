package seccomp

import (
	"math"
	"math/rand/v2"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// someCalls are those where something is special: they are behind a multiplexer, or
// are one, or exist in one abi only or in none, or are the first or the last, or
// have another number in x32.
var someCalls = []string{
	"read", "write", "openat", "clone", "socket", "bind", "accept", "send", "socketcall", "ipc", "semop", "shmget",
	"msgctl", "waitpid", "mmap2", "rt_sigaction", "ioctl", "readv", "breakpoint", "set_tls", "uselib", "execve",
	"io_setup", "clone3", "rseq_slice_yield", "no_such_call",
}

var someValues = []uint64{
	0, 1, 2, 3, 22, 23, 0x10017, 0x7e02_0000, math.MaxInt32, 1 << 31, math.MaxUint32 - 1, math.MaxUint32, 1 << 32, 1<<32 + 1,
	1<<32 + 2, 7 << 32, math.MaxInt64, 1 << 63, 0xffff_ffff_0000_0001, 0xffff_ffff_7fff_ffff, 0xffff_ffff_8000_0000,
	0xffff_ffff_ffff_ff9c, math.MaxUint64 - 1, math.MaxUint64,
}

var someActions = []specs.LinuxSeccompAction{
	specs.ActAllow, specs.ActAllow, specs.ActErrno, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActKillThread,
	specs.ActTrap, specs.ActTrace, specs.ActLog,
}

var operators = []specs.LinuxSeccompOperator{
	specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpEqualTo, specs.OpEqualTo,
	specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual, specs.OpMaskedEqual,
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func someValue(r *rand.Rand) uint64 {
	switch r.IntN(8) {
	case 0:
		return r.Uint64()
	case 1:
		return uint64(r.Uint32())
	case 2:
		return uint64(r.IntN(50))
	}
	return pick(r, someValues)
}

func someAction(r *rand.Rand) (specs.LinuxSeccompAction, *uint) {
	action := pick(r, someActions)
	if (action == specs.ActErrno || action == specs.ActTrace) && r.IntN(2) == 0 {
		n := uint(r.IntN(4))
		return action, &n
	}
	return action, nil
}

func someProfile(r *rand.Rand) *specs.LinuxSeccomp {
	s := new(specs.LinuxSeccomp)
	s.DefaultAction, s.DefaultErrnoRet = someAction(r)
	for _, a := range []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM, specs.ArchS390X} {
		if r.IntN(3) > 0 {
			s.Architectures = append(s.Architectures, a)
		}
	}
	// Few calls with many rules for each, or the other way round.
	calls := someCalls
	if r.IntN(2) == 0 {
		from := r.IntN(len(calls) - 3)
		calls = calls[from : from+3]
	}
	for range r.IntN(16) {
		var rule specs.LinuxSyscall
		rule.Action, rule.ErrnoRet = someAction(r)
		for range 1 + r.IntN(3) {
			rule.Names = append(rule.Names, pick(r, calls))
		}
		for range max(0, r.IntN(6)-2) {
			rule.Args = append(rule.Args, specs.LinuxSeccompArg{
				Index: uint(r.IntN(3)), Value: someValue(r), ValueTwo: someValue(r), Op: pick(r, operators),
			})
		}
		s.Syscalls = append(s.Syscalls, rule)
	}
	return s
}

// largeProfile returns one whose filter is near the limit, or above: most calls
// fare differently from their neighbours.
func largeProfile(r *rand.Rand) *specs.LinuxSeccomp {
	s := someProfile(r)
	for _, name := range names {
		if r.IntN(4) == 0 {
			continue
		}
		errno := uint(r.IntN(1 + r.IntN(400)))
		rule := specs.LinuxSyscall{Names: []string{name}, Action: specs.ActErrno, ErrnoRet: &errno}
		if r.IntN(10) == 0 {
			rule.Args = []specs.LinuxSeccompArg{{Index: 1, Value: someValue(r), Op: pick(r, operators)}}
		}
		s.Syscalls = append(s.Syscalls, rule)
	}
	return s
}

// someData returns a system call that the profile might say something of.
func someData(r *rand.Rand, s *specs.LinuxSeccomp, m *machine) data {
	a := pick(r, append([]*abi{m.native}, m.compat...))
	d := data{arch: a.audit}
	name := pick(r, someCalls)
	if len(s.Syscalls) > 0 && r.IntN(4) > 0 {
		name = pick(r, pick(r, s.Syscalls).Names)
	}
	d.nr, _ = numberOf(a, name)
	for _, x := range a.muxes {
		if r.IntN(4) == 0 {
			d.nr, _ = numberOf(a, x.name)
			d.args[0] = uint64(1 + r.IntN(len(x.subs)))
		}
	}
	switch r.IntN(12) {
	case 0:
		d.nr += uint32(r.IntN(5)) - 2
	case 1:
		d.nr = uint32(r.IntN(600))
	case 2:
		d.nr ^= 1 << r.IntN(32)
	case 3:
		d.arch = r.Uint32()
	}
	for i := range d.args {
		if i > 0 || d.args[0] == 0 {
			d.args[i] = someArg(r, s)
		}
	}
	d.args[0] ^= uint64(r.IntN(8)) / 7 << 32 // what int $0x80 may leave there
	return d
}

// someArg returns a value that a rule compares, or one beside it, or another.
func someArg(r *rand.Rand, s *specs.LinuxSeccomp) uint64 {
	if len(s.Syscalls) > 0 {
		if args := pick(r, s.Syscalls).Args; len(args) > 0 {
			return pick(r, []uint64{pick(r, args).Value, pick(r, args).ValueTwo}) + uint64(r.IntN(3)) - 1
		}
	}
	return someValue(r)
}
