package seccomp

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
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
			d.args[0] = pick(r, x.subs).nr
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

// TestDifferential compares filters with what the profile says, for profiles and
// calls at random.
func TestDifferential(t *testing.T) {
	for _, goarch := range []string{"amd64", "arm64"} {
		t.Run(goarch, func(t *testing.T) {
			m := machineFor(t, goarch)
			r := rand.New(rand.NewPCG(1, 2))
			seen := map[verdict]int{}
			longest := 0
			for i := range 3000 {
				s := someProfile(r)
				if i%50 == 0 {
					s = largeProfile(r)
				}
				f, err := compile(s, m)
				if err != nil {
					t.Fatalf("%v\n%s", err, text(s))
				}
				longest = max(longest, len(f.Instructions))
				if err := valid(f.Instructions); err != nil {
					t.Fatalf("%v\n%s", err, text(s))
				}
				ref := newReference(s, m)
				for range 30 + len(s.Syscalls)/2 {
					d := someData(r, s, m)
					got, _ := run(f.Instructions, d)
					seen[got.action()]++
					if want := ref.judge(d); got != want {
						t.Fatalf("%+x: %#x, want %#x\n%s", d, got, want, text(s))
					}
				}
			}
			if len(seen) != 7 || longest < 1000 {
				t.Errorf("only these actions were met: %x, and filters of %d instructions", seen, longest)
			}
		})
	}
}

func text(s *specs.LinuxSeccomp) string {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestEveryNumber asks about each number of each architecture, and those around
// them, with Docker's profile.
func TestEveryNumber(t *testing.T) {
	for _, goarch := range []string{"amd64", "arm64"} {
		m := machineFor(t, goarch)
		for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE"}} {
			s := defaultProfile(t, caps)
			s.Architectures = append(s.Architectures, specs.ArchARM) // it may be the other machine's
			f, err := compile(s, m)
			if err != nil {
				t.Fatal(err)
			}
			ref := newReference(s, m)
			deepest := 0
			for _, a := range append(m.compat, m.native) {
				var numbers []uint32
				for nr := range uint32(600) {
					numbers = append(numbers, nr, nr+0xf0000, nr|x32Bit, nr|2*x32Bit, -nr)
				}
				for _, nr := range numbers {
					d := data{nr: nr, arch: a.audit}
					got, steps := run(f.Instructions, d)
					deepest = max(deepest, steps)
					if want := ref.judge(d); got != want {
						t.Errorf("%s %d: %#x, want %#x", a.arch, nr, got, want)
					}
				}
			}
			t.Logf("%s: %d instructions, at most %d for a call", goarch, len(f.Instructions), deepest)
			if deepest > 24 {
				t.Errorf("%s: %d instructions for a call", goarch, deepest)
			}
		}
	}
}

func defaultProfile(t testing.TB, caps []string) *specs.LinuxSeccomp {
	t.Helper()
	s, err := Default(caps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func allow(names ...string) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: names, Action: specs.ActAllow}
}

func with(s specs.LinuxSyscall, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
	s.Args = args
	return s
}

func forbid(names ...string) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: names, Action: specs.ActErrno}
}

func equal(index uint, value uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: index, Value: value, Op: specs.OpEqualTo}
}

// TestMeaning has what the package doc says of profiles, each with its example.
func TestMeaning(t *testing.T) {
	const (
		allowed = verdict(unix.SECCOMP_RET_ALLOW)
		eperm   = unix.SECCOMP_RET_ERRNO | verdict(unix.EPERM)
		enosys  = unix.SECCOMP_RET_ERRNO | verdict(unix.ENOSYS)
		killed  = verdict(unix.SECCOMP_RET_KILL_PROCESS)
	)
	const deny, permit = specs.ActErrno, specs.ActAllow
	compat := []specs.Arch{specs.ArchX86, specs.ArchX32}
	for _, test := range []struct {
		what     string
		fallback specs.LinuxSeccompAction
		archs    []specs.Arch
		rules    []specs.LinuxSyscall
		on       *abi
		call     string
		add      uint32 // to the number of call
		args     [6]uint64
		want     verdict
	}{
		{"a rule", deny, nil, []specs.LinuxSyscall{allow("read")}, &amd64, "read", 0, [6]uint64{}, allowed},
		{"no rule", deny, nil, []specs.LinuxSyscall{allow("write")}, &amd64, "read", 0, [6]uint64{}, eperm},
		{"unknown names are skipped", deny, nil, []specs.LinuxSyscall{allow("no_such_call", "read")}, &amd64, "read", 0, [6]uint64{}, allowed},
		{"an architecture not named", permit, nil, nil, &i386, "read", 0, [6]uint64{}, killed},
		{"x32 not named", permit, nil, nil, &x32, "write", 0, [6]uint64{}, killed},
		{"x32 not named, nor i386", permit, []specs.Arch{specs.ArchX86}, nil, &x32, "write", 0, [6]uint64{}, killed},
		{"x32 named", deny, compat, []specs.LinuxSyscall{allow("ioctl")}, &x32, "ioctl", 0, [6]uint64{}, allowed},
		{"x86_64's number of a call that x32 has elsewhere", deny, compat, []specs.LinuxSyscall{allow("ioctl")}, &amd64, "ioctl", x32Bit, [6]uint64{}, eperm},
		{"x32's number in x86_64", deny, compat, []specs.LinuxSyscall{allow("ioctl", "mseal")}, &amd64, "read", 514, [6]uint64{}, enosys},
		{"number -1, which says to skip a call", deny, nil, []specs.LinuxSyscall{allow("read")}, &amd64, "read", math.MaxUint32, [6]uint64{}, enosys},
		{"above the highest", deny, nil, []specs.LinuxSyscall{allow("write")}, &amd64, "openat", 0, [6]uint64{}, enosys},
		{"above the highest, all else being allowed", permit, nil, []specs.LinuxSyscall{forbid("write")}, &amd64, "openat", 0, [6]uint64{}, allowed},
		{"above the highest, all else being death", specs.ActKill, nil, []specs.LinuxSyscall{allow("write")}, &amd64, "openat", 0, [6]uint64{}, enosys},
		{"nothing named", specs.ActKill, nil, nil, &amd64, "openat", 0, [6]uint64{}, unix.SECCOMP_RET_KILL_THREAD},

		{"the first of two without args", deny, nil, []specs.LinuxSyscall{allow("read"), forbid("read")}, &amd64, "read", 0, [6]uint64{}, allowed},
		{"the first of two without args", permit, nil, []specs.LinuxSyscall{forbid("read"), allow("read")}, &amd64, "read", 0, [6]uint64{}, eperm},
		{"the strictest of two with args", deny, nil, []specs.LinuxSyscall{with(allow("read"), equal(0, 1)), with(forbid("read"), equal(1, 1))}, &amd64, "read", 0, [6]uint64{1, 1}, eperm},
		{"one with args beside one without", deny, nil, []specs.LinuxSyscall{allow("socket"), with(forbid("socket"), equal(0, unix.AF_ALG))}, &amd64, "socket", 0, [6]uint64{unix.AF_ALG}, eperm},
		{"all args of a rule", deny, nil, []specs.LinuxSyscall{with(allow("read"), equal(0, 1), equal(1, 1))}, &amd64, "read", 0, [6]uint64{1, 2}, eperm},
		{"two args of the same index", deny, nil, []specs.LinuxSyscall{with(allow("read"), equal(0, 1), equal(0, 2))}, &amd64, "read", 0, [6]uint64{2}, allowed},
		{"two args of the same index, and another", deny, nil, []specs.LinuxSyscall{with(allow("read"), equal(0, 1), equal(0, 2), equal(1, 3))}, &amd64, "read", 0, [6]uint64{7, 3}, allowed},

		{"high half", deny, compat, []specs.LinuxSyscall{with(allow("read"), equal(0, 1))}, &amd64, "read", 0, [6]uint64{1<<32 | 1}, eperm},
		{"high half in x32", deny, compat, []specs.LinuxSyscall{with(allow("read"), equal(0, 1))}, &x32, "read", 0, [6]uint64{1<<32 | 1}, eperm},
		{"high half left by int $0x80", permit, compat, []specs.LinuxSyscall{with(forbid("read"), equal(0, 1))}, &i386, "read", 0, [6]uint64{1<<32 | 1}, eperm},
		{"high half on ARM", permit, []specs.Arch{specs.ArchARM}, []specs.LinuxSyscall{with(forbid("read"), equal(0, 1))}, &arm, "read", 0, [6]uint64{1<<32 | 1}, eperm},
		{"a private call of ARM", deny, []specs.Arch{specs.ArchARM}, []specs.LinuxSyscall{allow("set_tls")}, &arm, "set_tls", 0, [6]uint64{}, allowed},
		{"ARM not named", permit, nil, nil, &arm, "read", 0, [6]uint64{}, killed},
		{"a value that does not fit", deny, compat, []specs.LinuxSyscall{with(allow("read"), equal(0, 1<<32|1))}, &i386, "read", 0, [6]uint64{1}, eperm},
		{"a negative value", permit, compat, []specs.LinuxSyscall{with(forbid("openat"), equal(0, 0xffff_ffff_ffff_ff9c))}, &i386, "openat", 0, [6]uint64{0xffff_ff9c}, eperm},

		{"socketcall, allowed", deny, compat, []specs.LinuxSyscall{allow("socket")}, &i386, "socketcall", 0, [6]uint64{1}, allowed},
		{"socketcall, another", deny, compat, []specs.LinuxSyscall{allow("socket", "clone3")}, &i386, "socketcall", 0, [6]uint64{2}, eperm},
		{"socketcall, perhaps allowed", deny, compat, []specs.LinuxSyscall{with(allow("socket"), equal(0, unix.AF_INET))}, &i386, "socketcall", 0, [6]uint64{1}, eperm},
		{"socketcall, perhaps forbidden", permit, compat, []specs.LinuxSyscall{with(forbid("socket"), equal(0, unix.AF_ALG))}, &i386, "socketcall", 0, [6]uint64{1}, eperm},
		{"socketcall at its word", deny, compat, []specs.LinuxSyscall{allow("socketcall"), with(allow("socket"), equal(0, unix.AF_INET))}, &i386, "socketcall", 0, [6]uint64{1}, allowed},
		{"socketcall, but for one call", permit, compat, []specs.LinuxSyscall{allow("socketcall"), forbid("accept")}, &i386, "socketcall", 0, [6]uint64{5}, eperm},
		{"ipc", permit, compat, []specs.LinuxSyscall{forbid("shmget")}, &i386, "ipc", 0, [6]uint64{23}, eperm},
		{"ipc, with a version", permit, compat, []specs.LinuxSyscall{forbid("shmget")}, &i386, "ipc", 0, [6]uint64{1<<16 | 23}, eperm},
		{"ipc, another", permit, compat, []specs.LinuxSyscall{forbid("shmget")}, &i386, "ipc", 0, [6]uint64{24}, allowed},
	} {
		s := &specs.LinuxSeccomp{DefaultAction: test.fallback, Architectures: test.archs, Syscalls: test.rules}
		m := machineFor(t, "amd64")
		if test.on == &arm {
			m = machineFor(t, "arm64")
		}
		f, err := compile(s, m)
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		d := data{nr: number(t, test.on, test.call) + test.add, arch: test.on.audit, args: test.args}
		if got, _ := run(f.Instructions, d); got != test.want {
			t.Errorf("%s: %#x, want %#x", test.what, got, test.want)
		}
		if got := newReference(s, m).judge(d); got != test.want {
			t.Errorf("%s: the reference says %#x, want %#x", test.what, got, test.want)
		}
	}
}

// TestErrors wants each error to name its field.
func TestErrors(t *testing.T) {
	n := func(v uint) *uint { return &v }
	one := func(s specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{allow("read"), s}}
	}
	arg := func(a specs.LinuxSeccompArg) *specs.LinuxSeccomp { return one(with(allow("read"), equal(0, 0), a)) }
	for _, test := range []struct {
		s    *specs.LinuxSeccomp
		is   error
		want string
	}{
		{nil, ErrInvalid, "linux.seccomp:"},
		{&specs.LinuxSeccomp{}, ErrInvalid, `linux.seccomp.defaultAction "":`},
		{&specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_MAYBE"}, ErrInvalid, `linux.seccomp.defaultAction "SCMP_ACT_MAYBE":`},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, ErrNotSupported, "linux.seccomp.defaultAction SCMP_ACT_NOTIFY:"},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: n(4096)}, ErrInvalid, "linux.seccomp.defaultErrnoRet 4096:"},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActTrace, DefaultErrnoRet: n(65536)}, ErrInvalid, "linux.seccomp.defaultErrnoRet 65536:"},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActKill, DefaultErrnoRet: n(1)}, ErrInvalid, "linux.seccomp.defaultErrnoRet:"},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, ListenerPath: "/l"}, ErrNotSupported, "linux.seccomp.listenerPath:"},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, ListenerMetadata: "m"}, ErrNotSupported, "linux.seccomp.listenerMetadata:"},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchS390, "VAX"}}, ErrInvalid, `linux.seccomp.architectures[1] "VAX":`},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagWaitKillableRecv}}, ErrNotSupported, `linux.seccomp.flags[1] "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV":`},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Flags: []specs.LinuxSeccompFlag{"X"}}, ErrInvalid, `linux.seccomp.flags[0] "X":`},
		{one(specs.LinuxSyscall{Action: specs.ActAllow}), ErrInvalid, "linux.seccomp.syscalls[1].names:"},
		{one(allow("write", "")), ErrInvalid, "linux.seccomp.syscalls[1].names[1]:"},
		{one(specs.LinuxSyscall{Names: []string{"read"}}), ErrInvalid, `linux.seccomp.syscalls[1].action "":`},
		{one(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActNotify}), ErrNotSupported, "linux.seccomp.syscalls[1].action SCMP_ACT_NOTIFY:"},
		{one(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno, ErrnoRet: n(1 << 40)}), ErrInvalid, "linux.seccomp.syscalls[1].errnoRet 1099511627776:"},
		{one(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow, ErrnoRet: n(1)}), ErrInvalid, "linux.seccomp.syscalls[1].errnoRet:"},
		{arg(specs.LinuxSeccompArg{Index: 6, Op: specs.OpEqualTo}), ErrInvalid, "linux.seccomp.syscalls[1].args[1].index 6:"},
		{arg(specs.LinuxSeccompArg{Index: math.MaxUint, Op: specs.OpEqualTo}), ErrInvalid, "linux.seccomp.syscalls[1].args[1].index 18446744073709551615:"},
		{arg(specs.LinuxSeccompArg{Index: 1, Op: "SCMP_CMP_EQUAL"}), ErrInvalid, `linux.seccomp.syscalls[1].args[1].op "SCMP_CMP_EQUAL":`},
	} {
		f, err := compile(test.s, machineFor(t, "amd64"))
		if f != nil || !errors.Is(err, test.is) || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%v, want %v: %s", err, test.is, test.want)
		}
	}
	if _, err := machineOf("vax"); !errors.Is(err, ErrNotSupported) {
		t.Errorf("an unknown machine: %v", err)
	}
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		flags []specs.LinuxSeccompFlag
		want  uint
	}{
		{nil, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		{[]specs.LinuxSeccompFlag{}, 0},
		{[]specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC"}, 0},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}, unix.SECCOMP_FILTER_FLAG_LOG | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
	} {
		f, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: test.flags})
		if err != nil || f.Flags != test.want {
			t.Errorf("%v: %+v, %v, want flags %#x", test.flags, f, err, test.want)
		}
	}
}

// TestLimits feeds what a stranger might.
func TestLimits(t *testing.T) {
	m := machineFor(t, "amd64")
	archs := []specs.Arch{specs.ArchX86, specs.ArchX32}
	many := func(n int, r func(i int) specs.LinuxSyscall) *specs.LinuxSeccomp {
		s := &specs.LinuxSeccomp{DefaultAction: specs.ActKill, Architectures: archs}
		for i := range n {
			s.Syscalls = append(s.Syscalls, r(i))
		}
		return s
	}
	scattered := func(i int) specs.LinuxSyscall {
		return with(allow("read"), equal(0, uint64(i)*0x1_0000_0003))
	}
	for _, test := range []struct {
		what string
		s    *specs.LinuxSeccomp
		want string // of the error
	}{
		{"as much as there is room for", many(500, scattered), ""},
		{"a bit too much", many(2000, scattered), "linux.seccomp: invalid value: the filter would have more than 4096 instructions"},
		{"the same again and again", many(1000, func(int) specs.LinuxSyscall { return allow(names[:]...) }), ""},
		{"a long range, value by value", many(4000, func(i int) specs.LinuxSyscall { return with(allow("read"), equal(1, uint64(i))) }), ""},
		{"conditions without end", many(100_000, scattered), "linux.seccomp.syscalls[4096].args: "},
		{"names times conditions", many(2, func(int) specs.LinuxSyscall {
			return with(allow(slices.Repeat(names[:], 10)...), slices.Repeat([]specs.LinuxSeccompArg{equal(0, 1)}, 5000)...)
		}), "linux.seccomp.syscalls[0].args: "},
	} {
		f, err := compile(test.s, m)
		switch {
		case test.want == "" && err == nil:
			if err := valid(f.Instructions); err != nil {
				t.Errorf("%s: %v", test.what, err)
			}
			t.Logf("%s: %d instructions", test.what, len(f.Instructions))
		case err == nil || test.want == "" || !strings.HasPrefix(err.Error(), test.want) || !errors.Is(err, ErrInvalid):
			t.Errorf("%s: %v, want %q", test.what, err, test.want)
		}
	}
}

// TestUnchanged sees to it that a profile may be used again, by several at a time.
func TestUnchanged(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		s := someProfile(r)
		before := text(s)
		first, err := Compile(s)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Compile(s)
		if err != nil || !slices.Equal(first.Instructions, second.Instructions) {
			t.Fatalf("another filter the second time: %v\n%s", err, before)
		}
		if text(s) != before {
			t.Fatalf("the profile has changed\n%s", before)
		}
	}
}

func FuzzCompile(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 30 {
		b, err := json.Marshal(someProfile(r))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint64(1))
	}
	b, err := json.Marshal(defaultProfile(f, nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint64(2))
	f.Fuzz(func(t *testing.T, spec []byte, seed uint64) {
		var s specs.LinuxSeccomp
		if json.Unmarshal(spec, &s) != nil {
			return
		}
		r := rand.New(rand.NewPCG(seed, 0))
		for _, goarch := range []string{"amd64", "arm64"} {
			m := machineFor(t, goarch)
			filter, err := compile(&s, m)
			if err != nil {
				if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNotSupported) {
					t.Errorf("an error of no kind: %v", err)
				}
				continue
			}
			if err := valid(filter.Instructions); err != nil {
				t.Fatal(err)
			}
			ref := newReference(&s, m)
			for range 5 {
				d := someData(r, &s, m)
				got, _ := run(filter.Instructions, d)
				if want := ref.judge(d); got != want {
					t.Fatalf("%+x: %#x, want %#x", d, got, want)
				}
			}
		}
	})
}
