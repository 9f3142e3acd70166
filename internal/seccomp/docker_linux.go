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
	rule  specs.LinuxSyscall
}

// enosys is what some of Docker's rules return.
var enosys = uint(unix.ENOSYS)

// Default returns the profile that Docker gives to a container on this machine. It
// allows more to a process with more capabilities (CAP_…) in its bounding set.
//
// The caller may change the profile and append to its lists. The rules share their
// lists with those of other profiles.
//
// It is github.com/moby/profiles/seccomp, set down by go generate: to have that
// library make it takes a new process 90 µs, and not 15.
func Default(caps []string) (*specs.LinuxSeccomp, error) {
	return dockerProfile(caps, runtime.GOARCH)
}

func dockerProfile(caps []string, goarch string) (*specs.LinuxSeccomp, error) {
	m, err := machineOf(goarch)
	if err != nil {
		return nil, err
	}
	eperm := uint(unix.EPERM)
	s := &specs.LinuxSeccomp{
		DefaultAction:   specs.ActErrno,
		DefaultErrnoRet: &eperm,
		Architectures:   make([]specs.Arch, 0, 3),
		Syscalls:        make([]specs.LinuxSyscall, 0, len(dockerRules)),
	}
	for _, a := range append([]*abi{m.native}, m.compat...) {
		s.Architectures = append(s.Architectures, a.arch)
	}
	for i := range dockerRules {
		r := &dockerRules[i]
		if (r.arch == "" || r.arch == goarch) &&
			(r.needs == "" || slices.Contains(caps, r.needs)) &&
			(r.lacks == "" || !slices.Contains(caps, r.lacks)) {
			s.Syscalls = append(s.Syscalls, r.rule)
		}
	}
	return s, nil
}
