package netns

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A ListenerError says that a process of the host receives what is sent to a port. It
// matches ErrInUse.
type ListenerError struct {
	Port Port
	// PID and Name are those of the process, 0 and "" if it cannot be seen from here:
	// it may be in another PID namespace, or the kernel itself.
	PID  int
	Name string
}

func (e *ListenerError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("port %s: the host listens on it", e.Port)
	}
	return fmt.Sprintf("port %s: process %d (%s) listens on it", e.Port, e.PID, e.Name)
}

// Is makes a ListenerError match ErrInUse.
func (e *ListenerError) Is(target error) bool { return target == ErrInUse }

// Unheard returns a *ListenerError if a process of the host listens on a port: what is
// sent there would reach the pod instead. It asks the kernel for a socket at each
// port, which takes the same time however many sockets there are, and looks for the
// process only if it is refused. The host must have the port's address.
func Unheard(p Port) error {
	p = p.WithDefaults()
	for i := range p.Count {
		one := p
		one.HostPort, one.Port, one.Count = p.HostPort+i, p.Port+i, 1
		for _, addr := range bindable(p.HostIP) {
			if err := tryBind(addr, one); err != nil {
				return err
			}
		}
	}
	return nil
}

// bindable returns the addresses to listen at to hear all that is sent to ip.
func bindable(ip netip.Addr) []netip.Addr {
	if ip.IsValid() {
		return []netip.Addr{ip}
	}
	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
}

func tryBind(addr netip.Addr, p Port) error {
	err := bind(addr, p)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		inode, found, err := listening(addr, p)
		if err != nil || !found {
			return err // a connection that goes out from the port is no listener
		}
		e := &ListenerError{Port: p}
		e.PID, e.Name = ownerOf(inode)
		return e
	case errors.Is(err, unix.EADDRNOTAVAIL) && !addr.IsUnspecified():
		return fmt.Errorf("port %s: %w: the host has no address %s", p, ErrInvalid, addr)
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.ESOCKTNOSUPPORT):
		return nil // then nobody can listen
	case err != nil:
		return fmt.Errorf("port %s: %w", p, err)
	}
	return nil
}

// bind takes an address and a port as a listener would, and lets go again.
func bind(addr netip.Addr, p Port) error {
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	if addr.Is6() {
		family = unix.AF_INET6
	}
	if p.Protocol == UDP {
		kind = unix.SOCK_DGRAM
	}
	s, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, int(p.Protocol.number()))
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	if addr.Is4() {
		return os.NewSyscallError("bind", unix.Bind(s, &unix.SockaddrInet4{Addr: addr.As4(), Port: int(p.HostPort)}))
	}
	if err := unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
		return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
	}
	return os.NewSyscallError("bind", unix.Bind(s, &unix.SockaddrInet6{Addr: addr.As16(), Port: int(p.HostPort)}))
}

// listening looks in the kernel's table of sockets for one that receives, from
// anybody, what is sent to addr and the port.
func listening(addr netip.Addr, p Port) (inode string, found bool, err error) {
	const tcpListen, udpUnconnected = "0A", "07" // TCP_LISTEN and TCP_CLOSE, net/tcp_states.h
	state := tcpListen
	if p.Protocol == UDP {
		state = udpUnconnected
	}
	if p.Protocol == SCTP {
		return "", true, nil
	}
	for _, table := range []string{"", "6"} { // one that listens at [::] hears IPv4 too
		f, err := os.Open("/proc/thread-self/net/" + string(p.Protocol) + table)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", false, err
		}
		inode := findSocket(f, addr, p.HostPort, state)
		f.Close()
		if inode != "" {
			return inode, true, nil
		}
	}
	return "", false, nil
}

func findSocket(f *os.File, addr netip.Addr, port uint16, state string) (inode string) {
	s := bufio.NewScanner(f)
	s.Scan() // titles
	for s.Scan() {
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …
		w := strings.Fields(s.Text())
		if len(w) < 10 || w[3] != state {
			continue
		}
		ip, hexPort, _ := strings.Cut(w[1], ":")
		n, err := strconv.ParseUint(hexPort, 16, 16)
		if err != nil || uint16(n) != port {
			continue
		}
		local := hexAddr(ip)
		// At an address that stands for all of IPv6, it may hear all of IPv4.
		if local == netip.IPv6Unspecified() || sameHost(addr, local.Unmap()) {
			return w[9]
		}
	}
	return ""
}

// hexAddr reads an address as /proc/net has it: words of the host's byte order.
func hexAddr(s string) netip.Addr {
	b := make([]byte, len(s)/2)
	for i := 0; i+8 <= len(s); i += 8 {
		n, err := strconv.ParseUint(s[i:i+8], 16, 32)
		if err != nil {
			return netip.Addr{}
		}
		binary.NativeEndian.PutUint32(b[i/2:], uint32(n))
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// ownerOf looks for a process that has a socket open.
func ownerOf(inode string) (pid int, name string) {
	want := "socket:[" + inode + "]"
	dirs, _ := filepath.Glob("/proc/[0-9]*/fd")
	for _, dir := range dirs {
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue // ended meanwhile
		}
		for _, fd := range fds {
			if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err != nil || to != want {
				continue
			}
			process := filepath.Dir(dir)
			pid, _ = strconv.Atoi(filepath.Base(process))
			comm, _ := os.ReadFile(filepath.Join(process, "comm"))
			return pid, strings.TrimSpace(string(comm))
		}
	}
	return 0, ""
}
