// Package pause holds the program that keeps a pod's namespaces alive: a
// freestanding ELF binary of 1.5 KB, built from pause.c and embedded for the
// architecture at hand, so that building podbox needs no C compiler.
//
// # What its creator provides
//
// The program is executed from a sealed memfd as PID 1 of a new PID namespace,
// in the network, IPC, UTS and mount namespaces that it is to hold, with all
// signals blocked, an empty environment, the null device as descriptors 0 to 2
// and the read end of a pipe as descriptor [Gate]. The root of its mount
// namespace should be empty and read-only, since it stays reachable for as long
// as the pod lives. argv[0] is what ps shows; a first argument "-p" tells that
// members of the pod share the PID namespace, any other argument is a label and
// means nothing.
//
// # What it does
//
// It drops every capability, makes itself undumpable and waits for one byte
// from the gate: that the pod is on record. If the gate closes first, its
// creator died, and it exits. Then it confines itself to two system calls and
// waits. Whatever is orphaned in its PID namespace, the kernel reaps. (A process
// put there from outside by setns(2) that loses its parent goes to the host's
// init instead.)
//
// With "-p" it first mounts a procfs at /proc, lifts its RLIMIT_SIGPENDING and
// makes prlimit(2) on it need CAP_SYS_RESOURCE: either would let a member forge
// a signal from the host. To lift a limit needs CAP_SYS_RESOURCE too. A creator
// without it must instead start members with a lower hard limit than the pause
// has; equal limits are not safe.
//
// SIGTERM and SIGINT end it if they come from outside its PID namespace, by
// kill(2) or by pidfd_send_signal(2) without siginfo. Only SIGKILL is certain,
// though: a signal that is already pending is not queued again, so members that
// keep sending SIGTERM can make the kernel drop the host's. Started outside a PID
// namespace of its own, it leaves on SIGKILL only.
//
// # What it refuses to do
//
// It heeds no signal from inside its namespace, runs nothing, opens nothing and
// keeps nothing open, and lends nothing of the host through /proc/1. It cannot
// resist members that hold CAP_SYS_PTRACE over it, nor members with its user ID
// that raise /proc/1/oom_score_adj and use up the memory of its cgroup.
//
// # Exit status
//
//	0  asked to leave by the host
//	1  the gate closed without a byte
//	2  start-up: signal mask, chdir, close_range(2) (Linux 5.9)
//	3  procfs not mounted at /proc
//	4  saved group ID not changed
//	5  capabilities not dropped
//	6  no_new_privs, undumpable or name not set
//	7  no seccomp filter
//	8  the wait for signals broke off
//
// "pause -v" prints "podbox-pause " and [Version].
package pause

//go:generate ../../hack/build-c.sh .

// Version is the version of the embedded program. It grows with each change of
// what the program promises.
const Version = "1"

// Gate is the descriptor from which the program reads one byte before it takes
// up its duty. It closes all above.
const Gate = 3

// Binary returns the program for this architecture, an ELF executable. The
// caller must not modify it.
func Binary() []byte { return binary }
