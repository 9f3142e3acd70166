// Package cgroup makes the control groups of pods and containers, limits them,
// freezes, kills, measures and removes what is in them.
//
// A [Group] is one path, such as "/podbox/POD/CONTAINER", in every hierarchy that
// serves it: those of cgroup v1, the one of v2, or both on a machine that has both
// ("hybrid"). Each controller is used where the kernel has it. Where there is a v2
// hierarchy, with or without controllers, it is what freezes: its freezer stops groups
// that fork all the time, and what it has stopped can be killed.
//
// This is the cgroup filesystem, mounted below /sys/fs/cgroup as systemd(1), runc
// and the kernel's documentation have it, and not systemd's D-Bus interface. Paths
// count from the root of each hierarchy as it is mounted, not from the group that
// the caller is in, as with an absolute cgroupsPath of an OCI runtime: a pod outlives
// who made it, so it must not be part of a service that is stopped, nor share its
// limits.
//
// # Getting a process in
//
// A new process is put into its group by [Group.Entrance], not by moving a thread of
// ours there first and cloning from it, though v1 would let us. A thread in the
// group is frozen with the group, in the midst of Go code, and then the next garbage
// collection stops the whole program until somebody thaws it (measured: 2.0 s for a
// freeze of 2 s); and the group's list of processes names the program, so that who
// kills the group kills it as well.
//
// On v2 the groups that hold processes are leaves: a pod's group holds its
// containers' groups and no process. The kernel insists (EBUSY).
//
// # Limits
//
// A limit that cannot be enforced is a [MissingError] that names the field and the
// controller. Where no limit is asked for, missing controllers cost only the figures
// of [Stats]. Such is a container whose cgroup namespace begins at a group with
// processes of its own: on v2 no controller can be had below that.
//
// A memory limit without a limit of memory and swap allows as much swap as memory,
// as with podman run --memory, where the kernel accounts for swap. Values of zero
// count as not given, except linux.resources.pids.limit, for which 0 means 1;
// negative ones remove a limit.
//
// # Needs
//
// Root, with cgroup filesystems that are writable, and the mount namespace in which
// the program was started: from other threads nothing here may be called. For device
// rules on v2 CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN. Otherwise functions may be
// called from any goroutine; a Group holds nothing and needs no closing.
//
// Kernel floor: Linux 5.12. On v2 the peak of memory needs 5.19. A purely v1 machine
// freezes by the v1 freezer, which may need several attempts for a group that forks all
// the time.
package cgroup
