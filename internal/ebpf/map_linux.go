package ebpf

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A MapType is a kind of map, linux/bpf.h.
type MapType uint32

const (
	// Trie finds the longest prefix: a key is a uint32, how many bits of the rest count,
	// and the rest.
	Trie MapType = unix.BPF_MAP_TYPE_LPM_TRIE
	// SocketStorage has a value for each socket, which ends with it.
	SocketStorage MapType = unix.BPF_MAP_TYPE_SK_STORAGE
)

// A Map is a map of the kernel. It lives as long as somebody has it open or a program that
// is attached uses it.
type Map struct{ f *os.File }

// CreateMap makes a map. Sizes are in bytes; those of a SocketStorage are a key of 4 and a
// value of a multiple of 4. most is how many elements it can have, 0 for a SocketStorage.
func CreateMap(kind MapType, name string, key, value, most uint32) (*Map, error) {
	attr := struct {
		kind, key, value, max, flags, inner, numa uint32
		name                                      objName
		ifindex, btf, btfKey, btfValue            uint32
	}{kind: uint32(kind), key: key, value: value, max: most, flags: unix.BPF_F_NO_PREALLOC, name: nameOf(name)}
	if kind == SocketStorage {
		btf, err := loadTypes(value / 4)
		if err != nil {
			return nil, err
		}
		defer btf.Close()
		attr.btf, attr.btfKey, attr.btfValue = uint32(btf.Fd()), typeInt, typeArray
		defer runtime.KeepAlive(btf)
	}
	fd, err := bpf(unix.BPF_MAP_CREATE, "create map", unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return nil, err
	}
	return &Map{os.NewFile(uintptr(fd), "bpf-map")}, nil
}

// The types that the kernel wants to know of a SocketStorage.
const (
	typeInt   = 1
	typeArray = 2
)

// loadTypes tells the kernel of an int and an array of words: linux/btf.h.
func loadTypes(words uint32) (*os.File, error) {
	const (
		kindInt, kindArray = 1 << 24, 3 << 24
		headerSize         = 24
	)
	types := []uint32{
		1, kindInt, 4, 32, // named by the string at 1, 4 bytes, 32 bits
		0, kindArray, 0, typeInt, typeInt, words,
	}
	text := "\x00int\x00"
	b := binary.NativeEndian.AppendUint16(nil, 0xeb9f)
	b = append(b, 1, 0) // version, flags
	for _, n := range []int{headerSize, 0, 4 * len(types), 4 * len(types), len(text)} {
		b = binary.NativeEndian.AppendUint32(b, uint32(n))
	}
	for _, n := range types {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	b = append(b, text...)
	var pin runtime.Pinner
	defer pin.Unpin()
	attr := struct {
		btf, log                uint64
		size, logSize, logLevel uint32
	}{btf: address(&pin, b), size: uint32(len(b))}
	fd, err := bpf(unix.BPF_BTF_LOAD, "load types", unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "btf"), nil
}

type elem struct {
	fd, _             uint32
	key, value, flags uint64
}

func (m *Map) do(cmd int, name string, key, value []byte) error {
	var pin runtime.Pinner
	defer pin.Unpin()
	attr := elem{fd: uint32(m.f.Fd()), key: address(&pin, key), value: address(&pin, value)}
	_, err := bpf(cmd, name, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	runtime.KeepAlive(m)
	return err
}

// Put sets the value of a key.
func (m *Map) Put(key, value []byte) error {
	return m.do(unix.BPF_MAP_UPDATE_ELEM, "update map", key, value)
}

// Delete deletes a key. That it is not there is no error.
func (m *Map) Delete(key []byte) error {
	err := m.do(unix.BPF_MAP_DELETE_ELEM, "delete from map", key, nil)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Close closes the handle. It may be called again.
func (m *Map) Close() error {
	if m == nil || m.f == nil {
		return nil
	}
	f := m.f
	m.f = nil
	return f.Close()
}
