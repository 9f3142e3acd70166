// Package launcher starts programs in a pod.
//
// What to run is an OCI runtime-spec configuration (*specs.Spec); a field that
// the launcher does not act on is an error that names it, never ignored.
// [Default] is a good one to begin with.
//
// # Programs
//
// A program without Spec.Root runs on the host's filesystem. It joins the
// namespaces that the pod shares and has a mount namespace of its own, a copy of
// the host's in which /dev/shm, /dev/mqueue, /sys, /etc/hosts, /etc/resolv.conf
// and /etc/hostname are the pod's (as far as the host has these files to mount
// on), and /proc if the pod shares its PID namespace. Mounts made on the host
// later appear in it, its own do not appear on the host.
//
// # Containers
//
// With Spec.Root it has that directory for its root, and nothing of the host but what
// Spec.Mounts names. Namespaces that Spec.Linux.Namespaces does not list are the
// pod's where the pod shares them, else the host's. What is mounted of the kinds
// sysfs, mqueue, proc, and tmpfs on /dev/shm, is the pod's own if the namespace
// behind it is, and the tmpfs on /dev/shm is the host's if the IPC namespace is. The
// devices of a container are in a tmpfs on /dev; those in its root
// are dead. Its cgroup, Spec.Linux.CgroupsPath, is made if it is not there; the
// caller removes it when the program has ended.
//
// A user namespace is entered last, by the program alone: the mounts, and the other
// namespaces, also new ones, stay those of the user namespace of the calling
// process. So root in such a container has no power over its network (not even to
// bind a port below 1024) and can mount nothing.
//
// Nothing of a container's root is trusted, nor of what its programs have done to a
// container that [Exec] enters. Two things only are given away to those in the same PID
// namespace, while a program is on its way in: the command line of the calling process;
// and, to those who have CAP_SYS_PTRACE and no user namespace of their own, everything,
// since they may trace it. Do not give that capability to whom you do not trust.
//
// # How
//
// A program is started from a thread that has been moved into the pod, by a list
// of system calls (package spawn): no second start of Go. A container's is executed by
// way of a sealed program of 700 bytes, so that the container cannot execute, and later
// write to, the file of the calling process. Its
// parent is the calling process; it is killed if that dies. The death signal does
// not survive a program that gains privileges by a set-user-ID file
// (PR_SET_PDEATHSIG(2const)), nor does it reach the program's own children.
//
// The package needs what package sandbox needs. It prints nothing and installs no
// signal handler. Its functions and the methods of Process may be called from any
// goroutine.
package launcher
