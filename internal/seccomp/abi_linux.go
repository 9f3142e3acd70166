package seccomp

import (
	"fmt"
	"runtime"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:generate go test -run ^(TestTables|TestDockerRules)$ -update .

// A call is a system call of an architecture.
type call struct {
	nr   uint32
	name uint16 // index of names
}

// An abi is one way of making system calls.
type abi struct {
	arch  specs.Arch
	audit uint32 // what seccomp_data.arch says
	base  uint32 // added to the numbers in calls
	calls []call // by number
	// narrow says that the kernel takes the low half of each argument only.
	// The filter has to do the same: from 64-bit code, int $0x80 leaves in
	// seccomp_data what the caller had in the high halves.
	narrow bool
	muxes  []mux
}

// x32Bit is set in the numbers of x32 calls: __X32_SYSCALL_BIT.
const x32Bit = 1 << 30

var (
	amd64 = abi{arch: specs.ArchX86_64, audit: unix.AUDIT_ARCH_X86_64, calls: callsAMD64}
	// x32 is narrow for libseccomp, but its calls get 64-bit registers, and
	// most of them look at all of it.
	x32   = abi{arch: specs.ArchX32, audit: unix.AUDIT_ARCH_X86_64, base: x32Bit, calls: callsX32}
	i386  = abi{arch: specs.ArchX86, audit: unix.AUDIT_ARCH_I386, calls: calls386, narrow: true, muxes: muxes386}
	arm64 = abi{arch: specs.ArchAARCH64, audit: unix.AUDIT_ARCH_AARCH64, calls: callsARM64}
	arm   = abi{arch: specs.ArchARM, audit: unix.AUDIT_ARCH_ARM, calls: callsARM, narrow: true}
)

// A machine is what a kernel can run.
type machine struct {
	native *abi
	compat []*abi
}

var (
	amd64Machine = machine{native: &amd64, compat: []*abi{&i386, &x32}}
	arm64Machine = machine{native: &arm64, compat: []*abi{&arm}}
)

func machineOf(goarch string) (*machine, error) {
	switch goarch {
	case "amd64":
		return &amd64Machine, nil
	case "arm64":
		return &arm64Machine, nil
	}
	return nil, fmt.Errorf("seccomp filter for %s: %w", goarch, ErrNotSupported)
}

func host() (*machine, error) { return machineOf(runtime.GOARCH) }

// A mux is a call whose first argument says which of several calls is meant. Those
// may exist on their own as well. What they are given is in memory, out of a
// filter's sight.
type mux struct {
	name string
	mask uint64   // the part of the first argument that the kernel looks at
	subs []string // by that part
}

// The high half of ipc's first argument is a version, which the kernel takes apart
// before it looks: ipc/syscall.c. Who compares all of it lets through ipc(1<<16|23)
// where shmget is forbidden.
var muxes386 = []mux{{
	name: "socketcall", mask: 0xffff_ffff,
	subs: []string{
		1: "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv",
		"sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
	},
}, {
	name: "ipc", mask: 0xffff,
	subs: []string{
		1: "semop", "semget", "semctl", "semtimedop", 11: "msgsnd", "msgrcv", "msgget", "msgctl",
		21: "shmat", "shmdt", "shmget", "shmctl",
	},
}}

// find returns the index of a name in names.
func find(name string) (int, bool) { return slices.BinarySearch(names[:], name) }

// foreign are the other architectures of the OCI runtime specification. Calls of
// theirs cannot be made here, so a profile may name them to no effect.
var foreign = []specs.Arch{
	specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM,
	specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
	specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchPARISC,
	specs.ArchPARISC64, specs.ArchRISCV64, specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB,
}

// abis returns the native abi, and those of the profile's architectures that the
// machine has.
func (m *machine) abis(archs []specs.Arch) ([]*abi, error) {
	all := append(make([]*abi, 0, 3), m.native)
	for _, a := range m.compat {
		if slices.Contains(archs, a.arch) {
			all = append(all, a)
		}
	}
	for i, arch := range archs {
		if !slices.Contains(foreign, arch) {
			return nil, fmt.Errorf("linux.seccomp.architectures[%d] %q: %w: no such architecture", i, arch, ErrInvalid)
		}
	}
	return all, nil
}
