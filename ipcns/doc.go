// Package ipcns knows what belongs to an IPC namespace (ipc_namespaces(7)):
// System V shared memory, semaphores and message queues, POSIX message queues,
// their limits, and the mounts by which programs see them.
//
// /dev/shm, where POSIX shared memory lives, is not part of the namespace: it is
// a tmpfs, which the pod's members share by having the same one mounted.
//
// The functions need CAP_SYS_ADMIN. Those that speak of the calling thread belong
// on a thread of package nsthread. Kernel floor: Linux 5.2.
package ipcns
