package seccomp

import (
	"runtime"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A dockerRule is a rule of Docker's profile, and says when it is part of it.
type dockerRule struct {
	needs string // a capability
	lacks string // a capability
	arch  string // GOARCH
	errno uint   // the rule's, if it has one
	rule  specs.LinuxSyscall
}

func (r *dockerRule) applies(caps []string, goarch string) bool {
	return (r.arch == "" || r.arch == goarch) &&
		(r.needs == "" || slices.Contains(caps, r.needs)) &&
		(r.lacks == "" || !slices.Contains(caps, r.lacks))
}

// Default returns the profile that Docker gives to a container on this machine. It
// allows more to a process with more capabilities (CAP_…) in its bounding set. The
// profile is the caller's, but for the names and arguments of its rules, which are
// not to be written to.
//
// It is what github.com/moby/profiles/seccomp makes. A process that is to start one
// container would spend more on making it there than on all the rest of this
// package.
//
// What Docker keeps from 64-bit programs by the family of a socket is open to 32-bit
// ones, since socketcall(2) is allowed.
func Default(caps []string) (*specs.LinuxSeccomp, error) {
	m, err := host()
	if err != nil {
		return nil, err
	}
	errno := uint(unix.EPERM)
	s := &specs.LinuxSeccomp{
		DefaultAction:   specs.ActErrno,
		DefaultErrnoRet: &errno,
		Architectures:   append(make([]specs.Arch, 0, 3), m.native.arch),
		Syscalls:        make([]specs.LinuxSyscall, 0, len(dockerRules)),
	}
	for _, a := range m.compat {
		s.Architectures = append(s.Architectures, a.arch)
	}
	for i := range dockerRules {
		r := &dockerRules[i]
		if !r.applies(caps, runtime.GOARCH) {
			continue
		}
		s.Syscalls = append(s.Syscalls, r.rule)
		if r.errno != 0 {
			errno := r.errno
			s.Syscalls[len(s.Syscalls)-1].ErrnoRet = &errno
		}
	}
	return s, nil
}
