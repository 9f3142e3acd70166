package seccomp

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A verdict is what a filter returns: an action and 16 bits of data.
type verdict uint32

func (v verdict) action() verdict { return v & unix.SECCOMP_RET_ACTION_FULL }

// stricter reports whether v's action goes before w's where the kernel has both,
// from two filters: it compares them as signed numbers.
func (v verdict) stricter(w verdict) bool { return int32(v.action()) < int32(w.action()) }

// permits reports whether the call may take place.
func (v verdict) permits() bool { return !v.stricter(unix.SECCOMP_RET_TRACE) }

// A rule gives a verdict where all its conditions hold.
type rule struct {
	verdict verdict
	conds   []specs.LinuxSeccompArg
}

// A statement is what a profile says of one call.
type statement struct {
	plain       verdict // of the first rule without conditions
	always      bool    // there is one
	named       bool
	first, last uint16 // rules with conditions: indexes of profile.rules, plus one
}

// A profile is a specification that has been understood.
type profile struct {
	fallback verdict // for calls of which nothing is said
	flags    uint
	abis     []*abi // the native one comes first
	calls    [len(names)]statement
	rules    []listed
	next     int // where to look for a name first

	// Room for what a usual profile needs. A command that starts one
	// container meets all its memory for the first time, and finds it faster in
	// one piece.
	rulesRoom [64]listed
	spansRoom [256]span
}

// A listed rule is followed by another one for the same call.
type listed struct {
	rule
	next uint16 // as in statement
}

// maxRules bounds the rules with conditions. Hardly one of them takes less than an
// instruction.
const maxRules = unix.BPF_MAXINSNS

func read(s *specs.LinuxSeccomp, m *machine) (*profile, error) {
	if s == nil {
		return nil, fmt.Errorf("linux.seccomp: %w: want a profile", ErrInvalid)
	}
	if s.ListenerPath != "" {
		return nil, fmt.Errorf("linux.seccomp.listenerPath: %w", ErrNotSupported)
	}
	if s.ListenerMetadata != "" {
		return nil, fmt.Errorf("linux.seccomp.listenerMetadata: %w", ErrNotSupported)
	}
	p := new(profile)
	p.rules = p.rulesRoom[:0]
	var err error
	if p.fallback, err = parseAction(s.DefaultAction, s.DefaultErrnoRet, "defaultAction", "defaultErrnoRet"); err != nil {
		return nil, fmt.Errorf("linux.seccomp.%w", err)
	}
	if p.abis, err = m.abis(s.Architectures); err != nil {
		return nil, err
	}
	if p.flags, err = parseFlags(s.Flags); err != nil {
		return nil, err
	}
	for i := range s.Syscalls {
		if err := p.add(&s.Syscalls[i]); err != nil {
			return nil, fmt.Errorf("linux.seccomp.syscalls[%d].%w", i, err)
		}
	}
	return p, nil
}

func (p *profile) add(s *specs.LinuxSyscall) error {
	v, err := parseAction(s.Action, s.ErrnoRet, "action", "errnoRet")
	if err != nil {
		return err
	}
	apart, err := checkArgs(s.Args)
	if err != nil {
		return err
	}
	if len(s.Names) == 0 {
		return fmt.Errorf("names: %w: want a system call", ErrInvalid)
	}
	for i, name := range s.Names {
		if name == "" {
			return fmt.Errorf("names[%d]: %w: want a system call", i, ErrInvalid)
		}
		n, ok := p.find(name)
		if !ok {
			continue
		}
		if len(s.Args) > 0 && len(p.rules)+len(s.Args) > maxRules {
			return fmt.Errorf("args: %w: the profile has more than %d conditions", ErrInvalid, maxRules)
		}
		say := &p.calls[n]
		say.named = true
		switch {
		case len(s.Args) == 0:
			if !say.always {
				say.always, say.plain = true, v
			}
		case apart:
			for i := range s.Args {
				p.list(say, rule{v, s.Args[i : i+1]})
			}
		default:
			p.list(say, rule{v, s.Args})
		}
	}
	return nil
}

// find looks behind the name found last first: profiles have names in order.
func (p *profile) find(name string) (int, bool) {
	for i := p.next; i < min(p.next+4, len(names)); i++ {
		if names[i] == name {
			p.next = i + 1
			return i, true
		}
	}
	i, ok := find(name)
	p.next = i
	return i, ok
}

// list adds a rule to those of a call.
func (p *profile) list(s *statement, r rule) {
	p.rules = append(p.rules, listed{rule: r})
	n := uint16(len(p.rules))
	if s.first == 0 {
		s.first = n
	} else {
		p.rules[s.last-1].next = n
	}
	s.last = n
}

// checkArgs reports whether args are conditions for one rule, or each for a rule of
// its own, because two of them are about the same argument: so it was in runc first,
// and profiles rely on it.
func checkArgs(args []specs.LinuxSeccompArg) (apart bool, err error) {
	var seen [6]bool
	for i, a := range args {
		if a.Index >= uint(len(seen)) {
			return false, fmt.Errorf("args[%d].index %d: %w: want 0 to 5", i, a.Index, ErrInvalid)
		}
		switch a.Op {
		case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual,
			specs.OpGreaterThan, specs.OpMaskedEqual:
		default:
			return false, fmt.Errorf("args[%d].op %q: %w: no such operator", i, a.Op, ErrInvalid)
		}
		apart = apart || seen[a.Index]
		seen[a.Index] = true
	}
	return apart, nil
}

func parseAction(action specs.LinuxSeccompAction, data *uint, actionField, dataField string) (verdict, error) {
	var v verdict
	var limit uint
	switch action {
	case specs.ActKill, specs.ActKillThread:
		v = unix.SECCOMP_RET_KILL_THREAD
	case specs.ActKillProcess:
		v = unix.SECCOMP_RET_KILL_PROCESS
	case specs.ActTrap:
		v = unix.SECCOMP_RET_TRAP
	case specs.ActErrno:
		v, limit = unix.SECCOMP_RET_ERRNO, 4095 // the kernel takes larger ones for this: MAX_ERRNO
	case specs.ActTrace:
		v, limit = unix.SECCOMP_RET_TRACE, unix.SECCOMP_RET_DATA
	case specs.ActLog:
		v = unix.SECCOMP_RET_LOG
	case specs.ActAllow:
		v = unix.SECCOMP_RET_ALLOW
	case specs.ActNotify:
		return 0, fmt.Errorf("%s %s: %w", actionField, action, ErrNotSupported)
	default:
		return 0, fmt.Errorf("%s %q: %w: no such action", actionField, action, ErrInvalid)
	}
	switch {
	case data == nil && limit > 0:
		return v | verdict(unix.EPERM), nil
	case data == nil:
		return v, nil
	case limit == 0:
		return 0, fmt.Errorf("%s: %w: %s returns no error", dataField, ErrInvalid, action)
	case *data > limit:
		return 0, fmt.Errorf("%s %d: %w: want at most %d", dataField, *data, ErrInvalid, limit)
	}
	return v | verdict(*data), nil
}

// parseFlags returns the flags for seccomp(2). Where the profile has no list, not
// even an empty one, the default is that of runc.
func parseFlags(flags []specs.LinuxSeccompFlag) (uint, error) {
	if flags == nil {
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	var all uint
	for i, f := range flags {
		var err error
		switch f {
		case "SECCOMP_FILTER_FLAG_TSYNC":
			// A process that is about to execute a program has one
			// thread, or loses the others by that. And where the flag
			// fails, seccomp(2) does not return an error but a thread.
		case specs.LinuxSeccompFlagLog:
			all |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			all |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			err = ErrNotSupported
		default:
			err = ErrInvalid
		}
		if err != nil {
			return 0, fmt.Errorf("linux.seccomp.flags[%d] %q: %w", i, f, err)
		}
	}
	return all, nil
}
