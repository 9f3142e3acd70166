// Package volumes makes, opens, updates and removes the volumes of a pod. It
// knows nothing of pods: the caller says where a volume's directory or mount
// belongs, and mounts what it gets.
//
// A [Volume] is pure data. What is made of it is handed out as an open file that
// a mount can be made of, never as a path:
//
//   - a disk volume is a directory: [Volume.Make], [Remove]
//   - a claim is a directory that outlives pods: [Volume.Make],
//     [Volume.ApplyFSGroup], [Remove]
//   - a memory volume is a tmpfs that is attached nowhere and ends with its last
//     user: [Volume.NewTmpfs]
//   - a host path is what the administrator says, checked by the handle that is
//     then used: [HostPath.Open]
//   - files (configMap, secret, downwardAPI, projected) are either of the first
//     two, filled and updated by [Volume.Write] so that a reader finds all of the
//     old or all of the new contents
//   - a part of any of them is opened by [OpenBeneath]
//
// # What is refused
//
// Whoever runs in a pod may put anything into a volume and change it at any time.
// So nothing below a volume's directory is reached by a path that is looked up
// twice, no symbolic link is followed that leads out of the volume, and nothing is
// removed from beneath a mount. The sharpest trap: a mount must be made from the
// handle (open_tree(2) with AT_EMPTY_PATH), not from the path by which it could
// also be found.
//
// The size of a disk volume is not limited: that takes quotas, which few hosts
// have. [Usage] measures it. The kernel keeps tmpfs out of swap from Linux 6.4 on only; before that,
// what is in memory may be swapped to the disk.
//
// # Rules
//
// All functions may be called from any goroutine and leave its thread as it is. A
// path that a function takes is one in the mount namespace of the calling thread.
// Calls that change one and the same volume must not overlap, but for OpenBeneath;
// the caller has a lock for that. Files that
// are returned are the caller's to close. Mounts, and files of other owners, need
// root (CAP_SYS_ADMIN, CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER; and
// CAP_LINUX_IMMUTABLE to remove what was made immutable). Kernel floor: Linux 5.12.
package volumes
