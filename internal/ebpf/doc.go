// Package ebpf has what it takes to have small programs of eBPF run at a control group: an
// assembler, and the few commands of bpf(2) that load programs, attach them, and find them
// again by their names.
//
// What is attached belongs to the control group, not to the process that attached it: it
// stays until it is detached. Nothing is pinned in a filesystem. A program is found by the
// name that it was given, and its maps by the program.
//
// It needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, in the initial user namespace, and
// is not for kernels before 5.11, which count maps against RLIMIT_MEMLOCK.
package ebpf
