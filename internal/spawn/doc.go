// Package spawn starts a process by clone3(2) and a list of raw system calls.
//
// os/exec and syscall.ForkExec cannot express what a member of a pod needs
// between fork and exec: executing a file by descriptor, changing identity
// after the last privileged step, asking for a death signal from a parent in
// another PID namespace, trying several paths the way execvp(3) does. The usual
// way out, re-executing the own binary as a helper, costs a second start of the
// Go runtime and lends that binary to the child (CVE-2019-5736). Here the parent
// writes down every system call in a [Program]; a few lines of assembly make
// them in the child, one after the other, until one of them executes the new
// program.
//
// The child shares the memory of its parent until it executes its program, as one
// of the Go runtime's own fork does: nothing is copied, so a start costs the same
// from a small command and from a server with a large heap, and the result of each
// call is left where the parent can read it. The child runs no Go code and uses no
// stack, so that its parent need not be suspended meanwhile.
//
// The sharpest trap: what a new process inherits (namespaces, root, working
// directory, no_new_privs, seccomp filters, the parent-death signal) comes from
// the calling thread. Prepare a thread with package nsthread, and call
// [Program.Start] on it. A death signal asked for by a Program is sent when that
// thread ends, so the thread has to outlive the child.
//
// Kernel floor: Linux 5.11 (close_range with CLOSE_RANGE_CLOEXEC; clone3 is 5.3).
package spawn
