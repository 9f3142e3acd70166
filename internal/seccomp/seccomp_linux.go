// Package seccomp turns the seccomp part of an OCI runtime configuration into a
// program for seccomp(2), without libseccomp.
//
// [Compile] is pure: it asks the kernel nothing, and installs nothing. Who installs
// a filter needs no_new_privs or CAP_SYS_ADMIN. A filter holds for the thread that
// installs it and what that becomes, so it comes last before the execution of a
// program; the profile has to allow that, and what else comes in between.
//
// # What a profile means
//
// What runc and libseccomp make of a profile, this package does, too. Where it does
// not, it is stricter, with one exception (x32):
//
//   - A call is looked up by name. A name that no table here has is skipped, as
//     those of newer kernels must be; so is one that an architecture does not have.
//   - The native architecture always counts, others where the profile names them.
//     Calls of another architecture kill the process, also those of x32 that come
//     with the architecture of x86_64. (libseccomp kills the thread.)
//   - Of the rules for one call that have no args the first counts. Where several
//     match, the strictest counts, in the kernel's order: kill process, kill thread,
//     trap, errno, trace, log, allow; of equally strict ones the first. (libseccomp
//     ignores rules with args beside one without, and orders the others by itself.)
//   - The args of a rule must all match; but if two of them look at the same
//     argument, one of all is enough. That is a trap, and runc's.
//   - Arguments have 64 bits. A call that takes an int does not look at the high half;
//     a rule that is to forbid must not either (SCMP_CMP_MASKED_EQ).
//   - On i386 and ARM arguments have 32 bits. What a caller leaves in the high half is
//     not looked at, a negative value means the negative number, and no argument is
//     equal to a value that does not fit. (libseccomp cuts values off, and takes x32
//     for such an architecture, which it is not.)
//   - On i386, rules for socket calls and System V IPC also hold for socketcall(2)
//     and ipc(2), whose arguments a filter cannot see. A rule with args that may
//     allow does not allow there, one that may forbid does forbid. (For libseccomp
//     both hold.) A rule for socketcall or ipc itself is taken at its word.
//   - Numbers above the highest that the profile names get ENOSYS, unless the default
//     action is to allow, log or trace: programs then fall back to an older call,
//     whereas EPERM or death would stop them.
//
// SCMP_ACT_NOTIFY and what belongs to it is refused: [ErrNotSupported].
//
// Kernel floor: Linux 4.14 (SECCOMP_RET_KILL_PROCESS). Since 5.11 the kernel notes
// which calls a filter always allows, and runs it for the others only.
package seccomp

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/fault"
)

var (
	// ErrInvalid is matched by errors about wrong values.
	ErrInvalid = fault.ErrInvalid
	// ErrNotSupported is matched by errors about fields that are not acted on.
	ErrNotSupported = fault.ErrNotSupported
)

// A Filter is what seccomp(2) is given.
type Filter struct {
	Instructions []unix.SockFilter // at least one, at most 4096
	Flags        uint              // SECCOMP_FILTER_FLAG_…
}

// Program returns the instructions in the form that seccomp(2) takes. It refers to
// those of the Filter, which came from Compile.
func (f *Filter) Program() unix.SockFprog {
	return unix.SockFprog{Len: uint16(len(f.Instructions)), Filter: &f.Instructions[0]}
}

// Compile makes the filter of a profile for this machine. Its errors name the field
// that is at fault, and match ErrInvalid or ErrNotSupported. The profile is not
// changed, and not referred to afterwards.
func Compile(s *specs.LinuxSeccomp) (*Filter, error) {
	m, err := host()
	if err != nil {
		return nil, err
	}
	return compile(s, m)
}

func compile(s *specs.LinuxSeccomp, m *machine) (*Filter, error) {
	p, err := read(s, m)
	if err != nil {
		return nil, err
	}
	code, err := p.program()
	if err != nil {
		return nil, err
	}
	return &Filter{Instructions: code, Flags: p.flags}, nil
}
