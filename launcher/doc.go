// Package launcher starts programs in a pod.
//
// What to run is an OCI runtime-spec configuration (*specs.Spec); a field that
// the launcher does not act on is an error that names it, never ignored. Today a
// program runs on the host's filesystem: Spec.Root must be nil. It joins the
// namespaces that the pod shares and has a mount namespace of its own, a copy of
// the host's in which /dev/shm, /dev/mqueue, /sys, /etc/hosts, /etc/resolv.conf
// and /etc/hostname are the pod's (as far as the host has these files to mount
// on), and /proc if the pod shares its PID namespace. Mounts made on the host
// later appear in it, its own do not appear on the host.
//
// A program is started from a thread that has been moved into the pod, by a list
// of system calls (package spawn): no helper binary, no second start of Go. Its
// parent is the calling process; it is killed if that dies. The death signal does
// not survive a program that gains privileges by a set-user-ID file
// (PR_SET_PDEATHSIG(2const)), nor does it reach the program's own children.
//
// The package needs what package sandbox needs. It prints nothing and installs no
// signal handler. Start and the methods of Process may be called from any
// goroutine.
package launcher
