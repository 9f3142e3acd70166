package ebpf

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bpf is bpf(2). attr is one of the structures of union bpf_attr, linux/bpf.h: the kernel
// takes what is not given for zeros.
func bpf(cmd int, name string, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		n, _, e := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(attr), size)
		// A program that is being verified is interrupted by signals.
		if e == unix.EAGAIN || e == unix.EINTR {
			continue
		}
		if e != 0 {
			return -1, fmt.Errorf("bpf %s: %w", name, e)
		}
		return int(n), nil
	}
}

// address returns where a slice is, as the structures have it: a number, by which neither
// the garbage collector nor a stack that grows knows of it. Until it is unpinned it stays.
func address[T any](pin *runtime.Pinner, s []T) uint64 {
	if len(s) == 0 {
		return 0
	}
	p := unsafe.SliceData(s)
	pin.Pin(p)
	return uint64(uintptr(unsafe.Pointer(p)))
}

type objName [unix.BPF_OBJ_NAME_LEN]byte

// MaxName is how long a name of a program or map may be, in bytes: letters, digits and _.
const MaxName = unix.BPF_OBJ_NAME_LEN - 1

func nameOf(s string) (n objName) {
	copy(n[:MaxName], s)
	return n
}

// load loads a program, and verifies it.
func load(kind uint32, at AttachType, name string, code []byte) (*os.File, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	license := []byte("Apache-2.0\x00")
	attr := struct {
		kind, count        uint32
		insns, license     uint64
		logLevel, logSize  uint32
		log                uint64
		kernVersion, flags uint32
		name               objName
		ifindex, expected  uint32
	}{kind: kind, count: uint32(len(code) / instructionLength), insns: address(&pin, code), license: address(&pin, license), name: nameOf(name), expected: uint32(at)}
	fd, err := bpf(unix.BPF_PROG_LOAD, "load program", unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err == nil {
		return os.NewFile(uintptr(fd), "bpf-prog"), nil
	}
	// Once more, for why.
	log := make([]byte, 64<<10)
	attr.logLevel, attr.logSize, attr.log = 1, uint32(len(log)), address(&pin, log)
	if fd, err := bpf(unix.BPF_PROG_LOAD, "load program", unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err == nil {
		return os.NewFile(uintptr(fd), "bpf-prog"), nil
	}
	if text := unix.ByteSliceToString(log); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return nil, err
}

// byID opens a program or map by its ID.
func byID(cmd int, name string, id uint32) (*os.File, error) {
	attr := struct{ id, next, flags uint32 }{id: id}
	fd, err := bpf(cmd, name, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "bpf"), nil
}

// A progInfo is what is wanted of struct bpf_prog_info, linux/bpf.h.
type progInfo struct {
	_        [52]byte
	mapCount uint32
	maps     uint64
	name     objName
}

// A mapInfo is what is wanted of struct bpf_map_info.
type mapInfo struct{ kind uint32 }

// info asks what the kernel has to tell of a program or map, a progInfo or mapInfo.
func info[T progInfo | mapInfo](f *os.File, about *T) error {
	var pin runtime.Pinner
	defer pin.Unpin()
	attr := struct {
		fd, size uint32
		info     uint64
	}{uint32(f.Fd()), uint32(unsafe.Sizeof(*about)), address(&pin, unsafe.Slice(about, 1))}
	_, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, "look at object", unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	runtime.KeepAlive(f)
	return err
}
