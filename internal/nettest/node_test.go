package nettest

import (
	"errors"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

// A node is whoever sends and receives: the host, the router, a machine, a pod.
type node struct {
	name    string
	ns      *netns.NS // nil: the host's, which the process is in
	ip, ip6 netip.Addr
}

// do runs f on a thread of the node. Sockets that f opens stay there.
func (n *node) do(f func() error) error {
	if n.ns == nil {
		return f()
	}
	return n.ns.Do(f)
}

// at returns an address of the node with a port.
func (n *node) at(port string) string  { return net.JoinHostPort(n.ip.String(), port) }
func (n *node) at6(port string) string { return net.JoinHostPort(n.ip6.String(), port) }

// A pod is a sandbox as a node.
type pod struct {
	*node
	*sandbox.Sandbox
}

// pod creates a pod with published ports.
func (l *lab) pod(name string, ports ...string) *pod {
	l.Helper()
	return l.podOf(l.rt, sandbox.Spec{Name: name, Ports: l.ports(ports...)})
}

// podOf creates a pod of an installation.
func (l *lab) podOf(rt *sandbox.Runtime, spec sandbox.Spec) *pod {
	l.Helper()
	sb, err := rt.Create(l.Context(), spec)
	l.must(err)
	// The test's context ends before what is cleaned up.
	l.Cleanup(func() { l.must(sb.Remove(background)) })
	p := &pod{Sandbox: sb, node: &node{name: spec.Name}}
	l.enter(p)
	return p
}

// enter opens the pod's namespace, which is another after a stop and a start.
func (l *lab) enter(p *pod) {
	l.Helper()
	i, err := p.Info()
	l.must(err)
	p.ip, _ = netip.ParseAddr(i.IP)
	p.ip6, _ = netip.ParseAddr(i.IP6)
	p.ns, err = netns.Of(i.PausePID)
	l.must(err)
	ns := p.ns
	l.Cleanup(func() { ns.Close() })
}

// leave closes what keeps the pod's namespace from going with the pod.
func (p *pod) leave() { p.ns.Close() }

func (l *lab) ports(forms ...string) []netns.Port {
	l.Helper()
	var ports []netns.Port
	for _, s := range forms {
		p, err := netns.ParsePort(s)
		l.must(err)
		ports = append(ports, p)
	}
	return ports
}

func dropLink(name string) error {
	it, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(it)
}

// awaitCarrier makes the kernel take note that a link's other end is up, which it does
// of its own accord within a second, and drops what is sent before: the question
// whether there is a carrier settles it at once since Linux 6.8.
func awaitCarrier(name string) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	value := struct{ cmd, data uint32 }{cmd: unix.ETHTOOL_GLINK}
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	for range 2000 {
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); e != 0 {
			return e
		}
		it, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if it.Attrs().OperState == netlink.OperUp {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return unix.ENETDOWN
}
