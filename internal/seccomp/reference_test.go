package seccomp

import (
	"math"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// data is struct seccomp_data, but for the instruction pointer.
type data struct {
	nr, arch uint32
	args     [6]uint64
}

// A reference is the package doc once more, as plainly as it can be said.
type reference struct {
	*specs.LinuxSeccomp
	machine *machine
	highest map[*abi]int64 // the numbers that are named
}

func newReference(s *specs.LinuxSeccomp, m *machine) *reference {
	r := &reference{s, m, map[*abi]int64{}}
	for _, a := range append(m.compat, m.native) {
		r.highest[a] = highest(s, a)
	}
	return r
}

// judge returns what a filter has to answer.
func (ref *reference) judge(d data) verdict {
	s := ref.LinuxSeccomp
	a := caller(s, ref.machine, d)
	if a == nil {
		return unix.SECCOMP_RET_KILL_PROCESS
	}
	fallback := actionOf(s.DefaultAction, s.DefaultErrnoRet)
	name := nameOf(a, d.nr)
	if name == "" || !mentioned(s, a, name) {
		if top := ref.highest[a]; top >= 0 && top < int64(d.nr) && fallback.stricter(unix.SECCOMP_RET_TRACE) {
			return unix.SECCOMP_RET_ERRNO | verdict(unix.ENOSYS)
		}
		return fallback
	}

	plain, always := plainOf(s, name)
	var answers []verdict
	for _, r := range rulesOf(s, name) {
		if r.holds(a, d) {
			answers = append(answers, r.verdict)
		}
	}
	if v, ok := behind(s, a, name, d); ok {
		answers = append(answers, v)
	}
	if always {
		answers = slices.DeleteFunc(answers, func(v verdict) bool { return !v.stricter(plain) })
	}
	if v, ok := strictest(answers); ok {
		return v
	}
	if always {
		return plain
	}
	return fallback
}

// caller returns the abi by which a call is made, if the profile has it.
func caller(s *specs.LinuxSeccomp, m *machine, d data) *abi {
	if d.arch == m.native.audit {
		if m.native == &amd64 && d.nr>>30 == 1 {
			if slices.Contains(s.Architectures, specs.ArchX32) {
				return &x32
			}
			return nil
		}
		return m.native
	}
	for _, a := range m.compat {
		if a.audit == d.arch && slices.Contains(s.Architectures, a.arch) {
			return a
		}
	}
	return nil
}

func nameOf(a *abi, nr uint32) string {
	for _, c := range a.calls {
		if c.nr+a.base == nr {
			return names[c.name]
		}
	}
	return ""
}

// mentioned reports whether a rule is about a call, if only by way of those behind
// it.
func mentioned(s *specs.LinuxSeccomp, a *abi, name string) bool {
	for _, r := range s.Syscalls {
		if slices.Contains(r.Names, name) {
			return true
		}
	}
	for _, m := range a.muxes {
		for _, sub := range m.subs {
			if m.name != name {
				break
			}
			if _, ok := blindly(s, sub); ok {
				return true
			}
		}
	}
	return false
}

func highest(s *specs.LinuxSeccomp, a *abi) int64 {
	top := int64(-1)
	for _, c := range a.calls {
		if mentioned(s, a, names[c.name]) {
			top = max(top, int64(c.nr+a.base))
		}
	}
	return top
}

func plainOf(s *specs.LinuxSeccomp, name string) (verdict, bool) {
	for _, r := range s.Syscalls {
		if slices.Contains(r.Names, name) && len(r.Args) == 0 {
			return actionOf(r.Action, r.ErrnoRet), true
		}
	}
	return 0, false
}

func rulesOf(s *specs.LinuxSeccomp, name string) []rule {
	var rules []rule
	for _, r := range s.Syscalls {
		v := actionOf(r.Action, r.ErrnoRet)
		seen := map[uint]int{}
		for _, c := range r.Args {
			seen[c.Index]++
		}
		for range slices.DeleteFunc(slices.Clone(r.Names), func(n string) bool { return n != name }) {
			switch {
			case len(r.Args) == 0:
			case len(seen) == len(r.Args):
				rules = append(rules, rule{v, r.Args})
			default:
				for i := range r.Args {
					rules = append(rules, rule{v, r.Args[i : i+1]})
				}
			}
		}
	}
	return rules
}

func (r rule) holds(a *abi, d data) bool {
	for _, c := range r.conds {
		if !holds(a, c, d.args[c.Index]) {
			return false
		}
	}
	return true
}

func holds(a *abi, c specs.LinuxSeccompArg, arg uint64) bool {
	v, mask, want := c.Value, c.Value, c.ValueTwo&c.Value
	if a.arch == specs.ArchX86 || a.arch == specs.ArchARM {
		arg &= math.MaxUint32
		v, want = narrow(v), narrow(want)
		mask &= math.MaxUint32
	}
	switch c.Op {
	case specs.OpNotEqual:
		return arg != v
	case specs.OpLessThan:
		return arg < v
	case specs.OpLessEqual:
		return arg <= v
	case specs.OpEqualTo:
		return arg == v
	case specs.OpGreaterEqual:
		return arg >= v
	case specs.OpGreaterThan:
		return arg > v
	}
	return arg&mask == want
}

func narrow(v uint64) uint64 {
	if v >= 0xffff_ffff_8000_0000 {
		return v - 0xffff_ffff_0000_0000
	}
	return v
}

// behind returns what is said of the call that a multiplexer is asked for.
func behind(s *specs.LinuxSeccomp, a *abi, name string, d data) (verdict, bool) {
	for _, m := range a.muxes {
		for nr, sub := range m.subs {
			if m.name == name && sub != "" && d.args[0]&m.mask == uint64(nr) {
				return blindly(s, sub)
			}
		}
	}
	return 0, false
}

func blindly(s *specs.LinuxSeccomp, name string) (verdict, bool) {
	var all []verdict
	for _, r := range rulesOf(s, name) {
		all = append(all, r.verdict)
	}
	hard, some := strictest(all)
	plain, always := plainOf(s, name)
	switch {
	case always && some && hard.stricter(plain):
		return hard, true
	case always:
		return plain, true
	}
	return hard, some && hard.stricter(actionOf(s.DefaultAction, s.DefaultErrnoRet))
}

// strictest returns the first of the strictest verdicts.
func strictest(all []verdict) (verdict, bool) {
	order := []verdict{
		unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_KILL_THREAD, unix.SECCOMP_RET_TRAP, unix.SECCOMP_RET_ERRNO,
		unix.SECCOMP_RET_TRACE, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_ALLOW,
	}
	for _, action := range order {
		for _, v := range all {
			if v.action() == action {
				return v, true
			}
		}
	}
	return 0, false
}

func actionOf(action specs.LinuxSeccompAction, data *uint) verdict {
	n := verdict(unix.EPERM)
	if data != nil {
		n = verdict(*data)
	}
	switch action {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | n
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | n
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW
	}
	panic("no such action: " + action)
}

func hostMachine(t testing.TB) *machine {
	t.Helper()
	m, err := host()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func machineFor(t testing.TB, goarch string) *machine {
	t.Helper()
	m, err := machineOf(goarch)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// numberOf returns the number of a call, with all bits that the kernel sees.
func numberOf(a *abi, name string) (uint32, bool) {
	for _, c := range a.calls {
		if names[c.name] == name {
			return a.base + c.nr, true
		}
	}
	return 0, false
}

func number(t testing.TB, a *abi, name string) uint32 {
	t.Helper()
	nr, ok := numberOf(a, name)
	if !ok {
		t.Fatalf("%s has no %s", a.arch, name)
	}
	return nr
}
