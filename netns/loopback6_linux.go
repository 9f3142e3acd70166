package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	mathbits "math/bits"
	"os"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/ebpf"
)

// Present reports whether the programs are there, once.
func (l Loopback6) Present() (bool, error) {
	cgroup, err := l.open()
	if err != nil {
		return false, err
	}
	defer cgroup.Close()
	// Where this one is, all are.
	ps, err := ebpf.Attached(cgroup, ebpf.Connect6, l.Name)
	closeAll(ps)
	return len(ps) == 1, l.wrap(err)
}

// Usable reports, as an error that matches ErrNotSupported, why this host cannot have it.
func (l Loopback6) Usable() error {
	cgroup, err := l.open()
	if err != nil {
		return err
	}
	defer cgroup.Close()
	ps, err := ebpf.Attached(cgroup, ebpf.Connect6, l.Name)
	closeAll(ps)
	if err != nil {
		return l.wrap(err)
	}
	if _, err := netCookie(); err != nil {
		return l.wrap(err)
	}
	ps, err = l.load(nil)
	closeAll(ps)
	return err
}

// Replace makes programs and map anew, with what all pods publish; none if that is
// nothing. In between there are both.
func (l Loopback6) Replace(pods []Publication) error {
	cgroup, err := l.open()
	if err != nil {
		return err
	}
	defer cgroup.Close()
	old, err := l.attached(cgroup)
	if err != nil {
		return err
	}
	defer closeAll(old)
	wanted := false
	for _, p := range pods {
		wanted = wanted || l.Wants(p)
	}
	if wanted {
		if err := l.attachNew(cgroup, pods); err != nil {
			return err
		}
	}
	return l.detach(cgroup, old)
}

// Add has ports of a pod reached by ::1 too. Present says whether the programs are there;
// if they are not, Replace makes them.
func (l Loopback6) Add(p Publication) (present bool, err error) {
	n, err := l.change(p, func(m *ebpf.Map, key, value []byte) error { return m.Put(key, value) })
	return n == 1, err
}

// Delete ends that. What is not there is no error.
func (l Loopback6) Delete(p Publication) error {
	_, err := l.change(p, func(m *ebpf.Map, key, _ []byte) error { return m.Delete(key) })
	if errors.Is(err, ErrNotSupported) {
		return nil
	}
	return err
}

// Remove detaches the programs. If there are none that is no error.
func (l Loopback6) Remove() error {
	err := l.Replace(nil)
	if errors.Is(err, ErrNotSupported) {
		return nil
	}
	return err
}

// change calls f for each key of p and each map that there is, normally one.
func (l Loopback6) change(p Publication, f func(m *ebpf.Map, key, value []byte) error) (maps int, err error) {
	cgroup, err := l.open()
	if err != nil {
		return 0, err
	}
	defer cgroup.Close()
	all, err := l.maps(cgroup)
	if err != nil {
		return 0, err
	}
	defer closeAll(all)
	for _, m := range all {
		if err := eachKey(p, func(key, value []byte) error { return f(m, key, value) }); err != nil {
			return len(all), l.wrap(err)
		}
	}
	return len(all), nil
}

// attachTypes are when the programs run, in the order in which they are attached. They are
// detached the other way round: whenever one is killed, the last of them is there only if
// all are.
var attachTypes = [...]ebpf.AttachType{ebpf.RecvMsg6, ebpf.GetPeerName6, ebpf.SendMsg6, ebpf.Connect6}

// open opens the root of the host's control groups, as far as it is to be seen from here.
func (l Loopback6) open() (*os.File, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) != nil || int64(st.Type) != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		f, err := os.Open(dir)
		if err != nil {
			return nil, l.wrap(err)
		}
		return f, nil
	}
	return nil, fmt.Errorf("ports at ::1: %w: no cgroup v2 at /sys/fs/cgroup: %w", ErrNotSupported, fs.ErrNotExist)
}

// attached returns all programs of this name.
func (l Loopback6) attached(cgroup *os.File) ([]*ebpf.Program, error) {
	var all []*ebpf.Program
	for _, at := range attachTypes {
		ps, err := ebpf.Attached(cgroup, at, l.Name)
		if err != nil {
			closeAll(all)
			return nil, l.wrap(err)
		}
		all = append(all, ps...)
	}
	return all, nil
}

// detach detaches programs, those that turn sockets first.
func (l Loopback6) detach(cgroup *os.File, ps []*ebpf.Program) error {
	var errs []error
	for i := len(ps) - 1; i >= 0; i-- {
		errs = append(errs, ps[i].Detach(cgroup))
	}
	return l.wrap(errors.Join(errs...))
}

// maps returns the maps of what is published, normally one.
func (l Loopback6) maps(cgroup *os.File) ([]*ebpf.Map, error) {
	ps, err := ebpf.Attached(cgroup, ebpf.Connect6, l.Name)
	if err != nil {
		return nil, l.wrap(err)
	}
	defer closeAll(ps)
	var all []*ebpf.Map
	for _, p := range ps {
		maps, err := p.Maps(ebpf.Trie)
		if err != nil {
			closeAll(all)
			return nil, l.wrap(err)
		}
		all = append(all, maps...)
	}
	return all, nil
}

func (l Loopback6) attachNew(cgroup *os.File, pods []Publication) error {
	ps, err := l.load(pods)
	if err != nil {
		return err
	}
	defer closeAll(ps)
	for i, p := range ps {
		if err := p.Attach(cgroup); err != nil {
			return errors.Join(l.wrap(err), l.detach(cgroup, ps[:i]))
		}
	}
	return nil
}

// load loads the programs, in the order in which they are attached, with a map of what
// pods publish.
func (l Loopback6) load(pods []Publication) (ps []*ebpf.Program, err error) {
	cookie, err := netCookie()
	if err != nil {
		return nil, l.wrap(err)
	}
	ports, err := ebpf.CreateMap(ebpf.Trie, l.Name, keySize, valueSize, maxPrefixes)
	if err != nil {
		return nil, l.wrap(err)
	}
	defer ports.Close()
	turned, err := ebpf.CreateMap(ebpf.SocketStorage, l.Name, 4, valueSize, 0)
	if err != nil {
		return nil, l.wrap(err)
	}
	defer turned.Close()
	for _, p := range pods {
		if err := eachKeyOf(cookie, p, ports.Put); err != nil {
			return nil, l.wrap(err)
		}
	}
	for _, at := range attachTypes {
		code := turnBack(turned)
		if at == ebpf.Connect6 || at == ebpf.SendMsg6 {
			code = turn(ports, turned)
		}
		p, err := ebpf.Load(l.Name, at, code)
		if err != nil {
			closeAll(ps)
			return nil, l.wrap(err)
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// wrap says what an error is about. A kernel or a container that cannot do it answers by
// one of many errors.
func (l Loopback6) wrap(err error) error {
	if err == nil {
		return nil
	}
	for _, e := range []error{
		unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.E2BIG, unix.ENOPROTOOPT, unix.EROFS,
	} {
		if errors.Is(err, e) {
			return fmt.Errorf("ports at ::1: %w: %w", ErrNotSupported, err)
		}
	}
	return fmt.Errorf("ports at ::1: %w", err)
}

func closeAll[T interface{ Close() error }](all []T) {
	for _, c := range all {
		c.Close()
	}
}

// netCookie returns the number of the calling thread's network namespace, which is never
// reused.
func netCookie() (uint64, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	cookie, err := unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie, os.NewSyscallError("getsockopt SO_NETNS_COOKIE", err)
}

// A key of the map is a prefix of what follows its length in bits: which network, which
// protocol, and which port of the host, in the byte order of networks. So that a range
// takes few keys, however long it is. A value is the pod's address, and the first port of
// the range, of the host and of the pod.
const (
	keySize   = 4 + 8 + 2 + 2
	valueSize = 16 + 2 + 2
	allBits   = 8 * (8 + 2 + 2)
	// maxPrefixes bounds the map; it takes memory only for what is in it.
	maxPrefixes = 1 << 20
)

func eachKey(p Publication, f func(key, value []byte) error) error {
	cookie, err := netCookie()
	if err != nil {
		return err
	}
	return eachKeyOf(cookie, p, f)
}

func eachKeyOf(cookie uint64, p Publication, f func(key, value []byte) error) error {
	for _, port := range p.Ports {
		port = port.WithDefaults()
		if !port.atLoopback6(p.Address) {
			continue
		}
		value := p.Address.IP6.AsSlice()
		value = binary.NativeEndian.AppendUint16(value, port.HostPort)
		value = binary.NativeEndian.AppendUint16(value, port.Port)
		for first, left := uint32(port.HostPort), uint32(port.Count); left > 0; {
			// As many as begin here: a power of two by which the first is divisible.
			n := min(mathbits.TrailingZeros32(first), mathbits.Len32(left)-1)
			key := binary.NativeEndian.AppendUint32(nil, uint32(allBits-n))
			key = binary.NativeEndian.AppendUint64(key, cookie)
			key = binary.NativeEndian.AppendUint16(key, uint16(port.Protocol.number()))
			key = binary.BigEndian.AppendUint16(key, uint16(first))
			if err := f(key, value); err != nil {
				return err
			}
			first, left = first+1<<n, left-1<<n
		}
	}
	return nil
}

// Of struct bpf_sock_addr and struct bpf_sock, linux/bpf.h.
const (
	addrIP6      = 8
	addrPort     = 24
	addrProtocol = 36
	addrSock     = 64
	sockSrcIP6   = 28
)

// Functions of the kernel, linux/bpf.h, and a flag of one.
const (
	mapLookup    = 1
	storageOf    = 107 // bpf_sk_storage_get
	netnsCookie  = 122 // bpf_get_netns_cookie
	storeIfNone  = 1   // BPF_SK_STORAGE_GET_F_CREATE
	stackKey     = -keySize
	stackValue   = stackKey - 24
	valueHost    = 16 // where in a value the port of the host is
	valuePod     = 18
	addressWords = 4
)

// one is the last word of ::1 as it is in memory.
var one = int32(binary.NativeEndian.Uint32([]byte{0, 0, 0, 1}))

// turn is the program that gives who goes to ::1 the pod's address.
func turn(ports, turned *ebpf.Map) *ebpf.Code {
	const ctx, sock, value, port = ebpf.R6, ebpf.R9, ebpf.R7, ebpf.R8
	c := new(ebpf.Code)
	c.Mov(ctx, ebpf.R1)
	for i := range int16(addressWords) {
		c.Load(ebpf.Word, ebpf.R1, ctx, addrIP6+4*i)
		if i < addressWords-1 {
			c.If(ebpf.R1, ebpf.NotEqual, 0, "out")
		} else {
			c.If(ebpf.R1, ebpf.NotEqual, one, "out")
		}
	}
	// What is sent from ::1 would get no further than the loopback link.
	c.Load(ebpf.Double, sock, ctx, addrSock)
	c.Load(ebpf.Word, ebpf.R1, sock, sockSrcIP6)
	c.If(ebpf.R1, ebpf.NotEqual, 0, "look")
	c.Load(ebpf.Word, ebpf.R1, sock, sockSrcIP6+12)
	c.If(ebpf.R1, ebpf.Equal, one, "out")

	c.Label("look")
	c.StoreImm(ebpf.Word, ebpf.R10, stackKey, allBits)
	c.Mov(ebpf.R1, ctx)
	c.Call(netnsCookie)
	// In two halves: the stack is aligned, the key is not. The first in memory first.
	low, high := int16(stackKey+4), int16(stackKey+8)
	if one == 1 { // a big-endian machine
		low, high = high, low
	}
	c.Store(ebpf.Word, ebpf.R10, low, ebpf.R0)
	c.DoImm(ebpf.Shr, ebpf.R0, 32)
	c.Store(ebpf.Word, ebpf.R10, high, ebpf.R0)
	c.Load(ebpf.Word, ebpf.R1, ctx, addrProtocol)
	c.Store(ebpf.Half, ebpf.R10, stackKey+12, ebpf.R1)
	c.Load(ebpf.Word, port, ctx, addrPort)
	c.Store(ebpf.Half, ebpf.R10, stackKey+14, port)
	c.LoadMap(ebpf.R1, ports)
	c.Mov(ebpf.R2, ebpf.R10)
	c.DoImm(ebpf.Add, ebpf.R2, stackKey)
	c.Call(mapLookup)
	c.If(ebpf.R0, ebpf.Equal, 0, "out")
	c.Mov(value, ebpf.R0)

	// The value for the socket: where it goes now, and to which port it meant to.
	c.Store(ebpf.Half, ebpf.R10, stackValue+valueHost, port)
	c.NetHalf(port)
	c.Load(ebpf.Half, ebpf.R1, value, valueHost)
	c.Do(ebpf.Sub, port, ebpf.R1)
	c.Load(ebpf.Half, ebpf.R1, value, valuePod)
	c.Do(ebpf.Add, port, ebpf.R1)
	c.NetHalf(port)
	c.Store(ebpf.Half, ebpf.R10, stackValue+valuePod, port)
	for i := range int16(addressWords) {
		c.Load(ebpf.Word, ebpf.R1, value, 4*i)
		c.Store(ebpf.Word, ebpf.R10, stackValue+4*i, ebpf.R1)
	}
	c.LoadMap(ebpf.R1, turned)
	c.Mov(ebpf.R2, sock)
	c.MovImm(ebpf.R3, 0)
	c.MovImm(ebpf.R4, storeIfNone)
	c.Call(storageOf)
	c.If(ebpf.R0, ebpf.Equal, 0, "go") // no memory: it is not told that it is ::1
	for i := range int16(valueSize / 4) {
		c.Load(ebpf.Word, ebpf.R1, ebpf.R10, stackValue+4*i)
		c.Store(ebpf.Word, ebpf.R0, 4*i, ebpf.R1)
	}

	c.Label("go")
	for i := range int16(addressWords) {
		c.Load(ebpf.Word, ebpf.R1, ebpf.R10, stackValue+4*i)
		c.Store(ebpf.Word, ctx, addrIP6+4*i, ebpf.R1)
	}
	c.Store(ebpf.Word, ctx, addrPort, port)
	c.Label("out")
	c.MovImm(ebpf.R0, 1) // let it go on
	c.Exit()
	return c
}

// turnBack is the program that tells who was turned that it is ::1.
func turnBack(turned *ebpf.Map) *ebpf.Code {
	const ctx = ebpf.R6
	c := new(ebpf.Code)
	c.Mov(ctx, ebpf.R1)
	c.LoadMap(ebpf.R1, turned)
	c.Load(ebpf.Double, ebpf.R2, ctx, addrSock)
	c.MovImm(ebpf.R3, 0)
	c.MovImm(ebpf.R4, 0)
	c.Call(storageOf)
	c.If(ebpf.R0, ebpf.Equal, 0, "out")
	for i := range int16(addressWords) {
		c.Load(ebpf.Word, ebpf.R1, ctx, addrIP6+4*i)
		c.Load(ebpf.Word, ebpf.R2, ebpf.R0, 4*i)
		c.IfReg(ebpf.R1, ebpf.NotEqual, ebpf.R2, "out")
	}
	c.Load(ebpf.Word, ebpf.R1, ctx, addrPort)
	c.Load(ebpf.Half, ebpf.R2, ebpf.R0, valuePod)
	c.IfReg(ebpf.R1, ebpf.NotEqual, ebpf.R2, "out")
	c.Load(ebpf.Half, ebpf.R7, ebpf.R0, valueHost)
	for i := range int16(addressWords) {
		c.MovImm(ebpf.R1, 0)
		if i == addressWords-1 {
			c.MovImm(ebpf.R1, one)
		}
		c.Store(ebpf.Word, ctx, addrIP6+4*i, ebpf.R1)
	}
	c.Store(ebpf.Word, ctx, addrPort, ebpf.R7)
	c.Label("out")
	c.MovImm(ebpf.R0, 1)
	c.Exit()
	return c
}
