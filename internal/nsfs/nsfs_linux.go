// Package nsfs compares namespaces.
//
// The inode number of a namespace (namespaces(7)) is unique while the namespace
// lives, and the lowest free number is given to the next one: a number from a
// record proves nothing once its namespace may have ended. Since Linux 6.18
// every namespace also has an ID that is never reused during a boot (ioctl
// NS_GET_ID). An [ID] holds both.
package nsfs

import (
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An ID tells a namespace from others. The zero value is none.
type ID struct {
	Inode uint64 `json:"inode"`
	// Unique is the ID that is never reused, 0 if the kernel gives none.
	Unique uint64 `json:"unique,omitempty"`
}

// Of returns the ID of the namespace that f, opened from /proc/PID/ns, refers to.
func Of(f *os.File) (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return ID{}, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	id := ID{Inode: st.Ino}
	const getID = 0x8008b70d // NS_GET_ID, _IOR(0xb7, 13, __u64)
	var unique uint64
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), getID, uintptr(unsafe.Pointer(&unique))); e == 0 {
		id.Unique = unique
	}
	return id, nil
}

// Path returns the /proc file of a namespace of a process; kind is net, ipc,
// uts, pid or mnt.
func Path(pid int, kind string) string {
	return "/proc/" + strconv.Itoa(pid) + "/ns/" + kind
}

// OfProcess returns the ID of a namespace of a process.
func OfProcess(pid int, kind string) (ID, error) {
	f, err := os.Open(Path(pid, kind))
	if err != nil {
		return ID{}, err
	}
	defer f.Close()
	return Of(f)
}

// Inode returns the inode number alone. It opens nothing, and reads the link
// "net:[4026531840]": to stat(2) it would make the kernel set up an inode.
func Inode(pid int, kind string) (uint64, error) {
	path := Path(pid, kind)
	var buf [64]byte
	n, err := unix.Readlink(path, buf[:])
	if err != nil {
		return 0, &os.PathError{Op: "readlink", Path: path, Err: err}
	}
	digits := strings.TrimSuffix(strings.TrimPrefix(string(buf[:n]), kind+":["), "]")
	inode, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, &os.PathError{Op: "parse", Path: path, Err: err}
	}
	return inode, nil
}

// Type returns the CLONE_NEW… constant of the namespace that f refers to, or an
// error if f is no namespace.
func Type(f *os.File) (int, error) {
	const getType = 0xb703 // NS_GET_NSTYPE, ioctl_ns(2)
	n, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), getType, 0)
	if e != 0 {
		return 0, &os.PathError{Op: "ioctl NS_GET_NSTYPE", Path: f.Name(), Err: e}
	}
	return int(n), nil
}
