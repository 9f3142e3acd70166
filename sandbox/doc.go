// Package sandbox makes pod sandboxes and keeps them: namespaces held by a pause
// process, an address that is the pod's for life, and a record of it all.
//
// A [Spec] says what a pod shall be; it is pure data. A [Runtime] is an
// installation: a directory of records, by default on /run, so that a reboot
// forgets what it ended. A [Sandbox] is one pod of it. The work of bringing a pod
// up, stopping and removing it is done as a list of named steps, each with its
// undo.
//
// # What a pod is made of
//
// The pause process is born in the namespaces that it holds. It is process 1 of
// a PID namespace of its own, has no privileges and no files, and leaves when its
// creator dies before the pod is recorded: a crash while a pod is made leaves at
// most a record and a lease, never a namespace, a link or a process. Memory that
// members share (/dev/shm) is mounted in the pause's mount namespace and nowhere
// else, and lent to members as detached mounts.
//
// The record names the pause by PID, start time and boot, and its namespaces by
// number. Every use opens a pidfd and compares first: see package proc.
//
// # States
//
//	created   its creation is under way, or was cut short; Create under the same
//	          name, Remove and Sweep clear it away
//	running   the pause holds the namespaces
//	degraded  the pause is gone but programs still run in the pod, or its link is
//	          gone; Start heals it, with the same address and namespaces
//	stopped   nothing of it runs; record and address are kept; Start brings it up
//	removing  its removal was cut short; Remove finishes it
//	broken    undoing a failed operation failed too; the record's error says how,
//	          Remove finishes it
//
// # Rules
//
// A Runtime and its Sandboxes may be used from many goroutines, and one directory
// from many processes, at once. The package needs root: CAP_SYS_ADMIN,
// CAP_NET_ADMIN, CAP_SYS_PTRACE and what they imply. It prints nothing, installs
// no signal handler, changes nothing of the calling process and leaves no thread
// behind. Kernel floor: Linux 5.12. Before Linux 6.18, which numbers
// namespaces for good, programs that survive their pause are recognised by the
// pod's link or /dev/shm only; one that has neither runs on, unnoticed, in a pod
// that reads stopped.
//
// A pause is a child of the process that brought its pod up and outlives it. While
// that process lives it must not treat SIGCHLD as ignored with SA_NOCLDWAIT and
// may, but need not, reap pauses: Stop, Start and Remove do.
package sandbox
