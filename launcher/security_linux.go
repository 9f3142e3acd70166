package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/seccomp"
	"github.com/podbox/podbox/internal/spawn"
)

// capabilityNames are those of capabilities(7), in the order of their numbers.
var capabilityNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
	"CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// Capabilities returns the names of all capabilities that there are.
func Capabilities() []string { return slices.Clone(capabilityNames) }

// AvailableCapabilities returns the names of those that the calling process can
// give, which are all on a host of one's own: capabilities(7), bounding set.
func AvailableCapabilities() []string {
	var names []string
	for n, name := range capabilityNames {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err == nil && has == 1 {
			names = append(names, name)
		}
	}
	return names
}

// capSets are sets of capabilities, a bit for each.
type capSets struct{ bounding, effective, permitted, inheritable, ambient uint64 }

// capabilitySets reads the sets of a spec; nil if it has none.
func capabilitySets(c *specs.LinuxCapabilities) (*capSets, error) {
	if c == nil {
		return nil, nil
	}
	var s capSets
	for _, set := range []struct {
		field string
		names []string
		bits  *uint64
	}{
		{"bounding", c.Bounding, &s.bounding},
		{"effective", c.Effective, &s.effective},
		{"permitted", c.Permitted, &s.permitted},
		{"inheritable", c.Inheritable, &s.inheritable},
		{"ambient", c.Ambient, &s.ambient},
	} {
		for _, name := range set.names {
			n := slices.Index(capabilityNames, name)
			if n < 0 {
				return nil, fmt.Errorf("process.capabilities.%s %q: %w: no such capability", set.field, name, ErrInvalid)
			}
			*set.bits |= 1 << n
		}
	}
	return &s, nil
}

// become makes the child the user that it shall be, with no more capabilities than
// it shall have.
func become(p *spawn.Program, u specs.User, caps *capSets) {
	if caps != nil {
		bound(p, caps.bounding)
		p.Call("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	}
	var groups uintptr
	if len(u.AdditionalGids) > 0 {
		groups = spawn.Pointer(p, &u.AdditionalGids[0])
	}
	uid, gid := uintptr(u.UID), uintptr(u.GID)
	p.Call("set supplementary groups", unix.SYS_SETGROUPS, uintptr(len(u.AdditionalGids)), groups)
	p.Call("set group ID", unix.SYS_SETRESGID, gid, gid, gid)
	p.Call("set user ID", unix.SYS_SETRESUID, uid, uid, uid)
	if caps == nil {
		return
	}
	p.Call("let go of capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0, 0, 0, 0)
	p.Call("clear ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := new([2]unix.CapUserData)
	for i := range data {
		shift := 32 * i
		data[i] = unix.CapUserData{
			Effective: uint32(caps.effective >> shift), Permitted: uint32(caps.permitted >> shift),
			Inheritable: uint32(caps.inheritable >> shift),
		}
	}
	p.Call("set capabilities", unix.SYS_CAPSET, spawn.Pointer(p, header), spawn.Pointer(p, data))
	for n := range capabilityNames {
		// Others cannot be ambient, capabilities(7): as with runc they are passed over.
		if caps.ambient&caps.permitted&caps.inheritable&(1<<n) != 0 {
			p.Call("raise ambient "+capabilityNames[n], unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n), 0, 0)
		}
	}
}

// bound takes from the child's bounding set what it shall not have, also what
// capabilities(7) has no name for yet: root gets all of that set when it executes a
// program.
func bound(p *spawn.Program, keep uint64) {
	for n := range 64 {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		if err != nil { // the kernel knows no more
			return
		}
		if has == 0 || keep&(1<<n) != 0 {
			continue
		}
		name := fmt.Sprint("number ", n)
		if n < len(capabilityNames) {
			name = capabilityNames[n]
		}
		p.Call("drop capability "+name, unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0)
	}
}

// newKeyring gives the calling thread, and what is born from it, a session keyring of
// its own: what is in that which it has is the host's; keyrings(7).
func newKeyring() error {
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	switch err {
	case nil, unix.ENOSYS, unix.EPERM: // without them, or where we may not have one
		return nil
	}
	return fmt.Errorf("new session keyring: %w", os.NewSyscallError("keyctl", err))
}

// A filter is a seccomp program in the form in which the kernel takes it.
type filter struct {
	flags uint
	prog  unix.SockFprog
}

func newFilter(s *specs.LinuxSeccomp) (*filter, error) {
	if s == nil {
		return nil, nil
	}
	f, err := seccomp.Compile(s)
	if err != nil {
		return nil, err
	}
	if len(f.Instructions) == 0 {
		return nil, nil
	}
	return &filter{f.Flags, unix.SockFprog{
		Len: uint16(len(f.Instructions)), Filter: (*unix.SockFilter)(unsafe.Pointer(&f.Instructions[0])),
	}}, nil
}

// install adds the system call that makes the child subject to the filter.
func (f *filter) install(p *spawn.Program) {
	if f != nil {
		p.Call("install seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(f.flags), spawn.Pointer(p, &f.prog))
	}
}

// setLabels asks the kernel's security modules, from the calling thread, to give
// the next program that it or its children execute their labels: see
// apparmor(7), aa_change_onexec(2), setexeccon(3).
func setLabels(s *specs.Process) error {
	if s.ApparmorProfile != "" {
		if err := setLabel("apparmor/exec", "exec "+s.ApparmorProfile); err != nil {
			return fmt.Errorf("process.apparmorProfile %q: %w", s.ApparmorProfile, err)
		}
	}
	if s.SelinuxLabel != "" {
		if err := setLabel("exec", s.SelinuxLabel); err != nil {
			return fmt.Errorf("process.selinuxLabel %q: %w", s.SelinuxLabel, err)
		}
	}
	return nil
}

func setLabel(attr, value string) error {
	err := os.WriteFile("/proc/thread-self/attr/"+attr, []byte(value), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w by this kernel, or the label is not loaded: %w", ErrNotSupported, err)
	}
	return err
}
