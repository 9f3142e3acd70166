package seccomp

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

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
