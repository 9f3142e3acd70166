package launcher

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/seccomp"
)

// defaultCapabilities are those that a container has unless it is told otherwise:
// enough for a package manager or a server that gives up being root, and nothing
// that reaches out of the container. They are those of podman.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
	"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// DefaultCapabilities returns the names of the capabilities that a container has by
// default.
func DefaultCapabilities() []string { return slices.Clone(defaultCapabilities) }

// Default returns what to run args in a container with the usual isolation takes:
// namespaces of its own for processes and cgroups, a /dev of its own, hidden and
// read-only what tells of the host or changes it, the default capabilities and
// no_new_privs. The filter of system calls depends on the capabilities:
// [SetDefaultSeccomp] adds it when these are settled.
func Default(rootfs string, args ...string) *specs.Spec {
	caps := DefaultCapabilities()
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: rootfs},
		Process: &specs.Process{
			Args: args, Cwd: "/",
			Env:             []string{"PATH=" + DefaultPath},
			NoNewPrivileges: true,
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Mounts: defaultMounts(),
		Linux: &specs.Linux{
			Namespaces:    []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.CgroupNamespace}},
			MaskedPaths:   slices.Clone(maskedPaths),
			ReadonlyPaths: slices.Clone(readonlyPaths),
			Resources:     &specs.LinuxResources{Devices: deviceRules()},
		},
	}
}

// Privilege takes all isolation from a container but its namespaces and its root:
// what runs in it can do to the host what root can. The devices of the host are its
// too.
func Privilege(spec *specs.Spec) {
	all := AvailableCapabilities()
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	spec.Process.NoNewPrivileges = false
	l := spec.Linux
	l.MaskedPaths, l.ReadonlyPaths, l.Seccomp = nil, nil, nil
	if l.Resources != nil {
		l.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		switch {
		case m.Destination == "/dev" && m.Type == "tmpfs":
			*m = specs.Mount{Destination: "/dev", Type: "bind", Source: "/dev", Options: []string{"rbind", "rslave", "nosuid", "noexec"}}
		case m.Type == "sysfs" || m.Type == "cgroup":
			m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" })
		}
	}
}

// deviceRules let a container use its own devices, and make any.
func deviceRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Access: "m"},
		{Allow: true, Type: "b", Access: "m"},
	}
	allow := func(major, minor int64) {
		r := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Access: "rwm"}
		if minor >= 0 {
			r.Minor = &minor
		}
		rules = append(rules, r)
	}
	for _, d := range defaultDevices {
		allow(int64(unix.Major(d.number)), int64(unix.Minor(d.number)))
	}
	allow(5, 1)    // console
	allow(5, 2)    // ptmx
	allow(136, -1) // terminals
	return rules
}

// SetDefaultSeccomp gives a container the default filter of system calls for the
// capabilities that it has.
func SetDefaultSeccomp(spec *specs.Spec) error {
	var caps []string
	if spec.Process.Capabilities != nil {
		caps = spec.Process.Capabilities.Bounding
	}
	var err error
	spec.Linux.Seccomp, err = seccomp.Default(caps)
	return err
}

// SetCgroup gives a container a cgroup, with these limits unless they are nil, and
// lets it see that at /sys/fs/cgroup.
func SetCgroup(spec *specs.Spec, path string, limits *specs.LinuxResources) {
	spec.Linux.CgroupsPath, spec.Linux.Resources = path, limits
	if slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/sys/fs/cgroup" }) {
		return
	}
	spec.Mounts = append(spec.Mounts, specs.Mount{
		Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
		Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"},
	})
}

func defaultMounts() []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
	}
}

var maskedPaths = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
	"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux",
}

var readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
