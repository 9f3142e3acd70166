package ebpf

import (
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An AttachType says when a program that is attached to a control group runs.
type AttachType uint32

const (
	Connect6     AttachType = unix.BPF_CGROUP_INET6_CONNECT // connect(2) of an IPv6 socket
	SendMsg6     AttachType = unix.BPF_CGROUP_UDP6_SENDMSG  // sendmsg(2) with an address
	RecvMsg6     AttachType = unix.BPF_CGROUP_UDP6_RECVMSG
	GetPeerName6 AttachType = unix.BPF_CGROUP_INET6_GETPEERNAME
)

// A Program is one of addresses of sockets (BPF_PROG_TYPE_CGROUP_SOCK_ADDR).
type Program struct {
	f  *os.File
	at AttachType
}

// Load loads a program that can be attached.
func Load(name string, at AttachType, code *Code) (*Program, error) {
	b, err := code.assemble()
	if err != nil {
		return nil, err
	}
	f, err := load(unix.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, at, name, b)
	if err != nil {
		return nil, err
	}
	return &Program{f, at}, nil
}

// Close closes the handle, not what is attached. It may be called again.
func (p *Program) Close() error {
	if p == nil || p.f == nil {
		return nil
	}
	f := p.f
	p.f = nil
	return f.Close()
}

// Attach attaches the program to a control group of v2, an open directory, beside others.
func (p *Program) Attach(cgroup *os.File) error {
	return p.attach(unix.BPF_PROG_ATTACH, "attach program", cgroup, unix.BPF_F_ALLOW_MULTI)
}

// Detach detaches the program. That it is not attached is no error.
func (p *Program) Detach(cgroup *os.File) error {
	err := p.attach(unix.BPF_PROG_DETACH, "detach program", cgroup, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (p *Program) attach(cmd int, name string, cgroup *os.File, flags uint32) error {
	attr := struct{ target, program, at, flags, replace uint32 }{
		uint32(cgroup.Fd()), uint32(p.f.Fd()), uint32(p.at), flags, 0,
	}
	_, err := bpf(cmd, name, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	runtime.KeepAlive(p)
	runtime.KeepAlive(cgroup)
	return err
}

// maxAttached is more than the kernel attaches to one control group, 64 of a type.
const maxAttached = 128

// Attached returns the programs of a name that are attached to a control group.
func Attached(cgroup *os.File, at AttachType, name string) (ps []*Program, err error) {
	defer func() {
		if err != nil {
			for _, p := range ps {
				p.Close()
			}
			ps = nil
		}
	}()
	var pin runtime.Pinner
	defer pin.Unpin()
	ids := make([]uint32, maxAttached)
	attr := struct {
		target, at, queryFlags, attachFlags uint32
		ids                                 uint64
		count                               uint32
	}{target: uint32(cgroup.Fd()), at: uint32(at), ids: address(&pin, ids), count: maxAttached}
	_, err = bpf(unix.BPF_PROG_QUERY, "look for programs", unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	runtime.KeepAlive(cgroup)
	if err != nil {
		return nil, err
	}
	for _, id := range ids[:min(attr.count, maxAttached)] {
		f, err := byID(unix.BPF_PROG_GET_FD_BY_ID, "open program", id)
		if errors.Is(err, unix.ENOENT) {
			continue // detached meanwhile
		}
		if err != nil {
			return ps, err
		}
		p := &Program{f, at}
		var i progInfo
		if err := info(f, &i); err != nil {
			p.Close()
			return ps, err
		}
		if unix.ByteSliceToString(i.name[:]) != name {
			p.Close()
			continue
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// maxMaps bounds how many maps a program is believed to use.
const maxMaps = 8

// Maps returns the maps of one kind that the program uses.
func (p *Program) Maps(kind MapType) (ms []*Map, err error) {
	defer func() {
		if err != nil {
			for _, m := range ms {
				m.Close()
			}
			ms = nil
		}
	}()
	var pin runtime.Pinner
	defer pin.Unpin()
	ids := make([]uint32, maxMaps)
	i := progInfo{mapCount: maxMaps, maps: address(&pin, ids)}
	if err := info(p.f, &i); err != nil {
		return nil, err
	}
	for _, id := range ids[:min(i.mapCount, maxMaps)] {
		f, err := byID(unix.BPF_MAP_GET_FD_BY_ID, "open map", id)
		if err != nil {
			return ms, err
		}
		var mi mapInfo
		if err := info(f, &mi); err != nil {
			f.Close()
			return ms, err
		}
		if MapType(mi.kind) != kind {
			f.Close()
			continue
		}
		ms = append(ms, &Map{f})
	}
	return ms, nil
}
