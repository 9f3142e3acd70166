package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Interface is the name of a pod's link inside the pod.
const Interface = "eth0"

// Gateway and Gateway6 are the addresses of the host's end of every pod's link.
// They mean the host, from inside any pod.
var (
	Gateway  = netip.MustParseAddr("169.254.1.1")
	Gateway6 = netip.MustParseAddr("fe80::1")
)

// gatewayMAC is the hardware address of the host's end of every pod's link. Each
// link has two ends and nothing else, so one for all will do.
var gatewayMAC = net.HardwareAddr{0x02, 0x70, 0x6f, 0x64, 0x62, 0x78}

// Connect wires a namespace to the host: link is the name of the host's end, mtu
// is in bytes. On error, Disconnect removes what was made.
func Connect(ns *NS, link string, a Address, mtu int) error {
	mac, err := net.ParseMAC(a.MAC)
	if err != nil {
		return fmt.Errorf("mac %q: %w", a.MAC, ErrInvalid)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	host, err := addPair(h, ns, link, mac, mtu)
	if err != nil {
		return fmt.Errorf("wire %s: %w", link, err)
	}
	if err := ignoreRouters(link); err != nil {
		return fmt.Errorf("wire %s: %w", link, err)
	}
	// The host's end is up, so the pod's end has a carrier from the start.
	pod := make(chan error, 1)
	go func() { pod <- ns.Do(func() error { return connectPod(a) }) }()
	if err := connectHost(h, host, a, mac); err != nil {
		return errors.Join(fmt.Errorf("wire %s: %w", link, err), <-pod)
	}
	if err := <-pod; err != nil {
		return fmt.Errorf("wire %s in the pod: %w", Interface, err)
	}
	if err := awaitCarrier(h, host); err != nil {
		return fmt.Errorf("wire %s: %w", link, err)
	}
	return nil
}

// awaitCarrier makes the kernel take note that a link's other end is up. By itself
// it does so a little later, on a work queue, and drops what is sent until then:
// a first connection would wait a second for TCP to try again. The question
// whether there is a carrier settles it (linkwatch_sync_dev in ethtool_op_get_link).
func awaitCarrier(h *netlink.Handle, link *netlink.Veth) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	value := struct{ cmd, data uint32 }{cmd: unix.ETHTOOL_GLINK}
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(req.name[:unix.IFNAMSIZ-1], link.Name)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); e != 0 {
		return os.NewSyscallError("ioctl ETHTOOL_GLINK", e)
	}
	if value.data == 0 {
		return errors.New("no carrier")
	}
	// Before Linux 6.8 the question settles nothing. Then wait until the link is said to
	// be up, which is so from a little before it is, under a lock that this request takes
	// too. That it runs (IFF_RUNNING) says less: it does until the work queue has looked at it
	// for the first time.
	for range 1000 {
		l, err := h.LinkByIndex(link.Index)
		if err != nil {
			return err
		}
		if l.Attrs().OperState == netlink.OperUp {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return nil // it comes later
}

// Connected reports whether the host's end of a pod's link is there.
func Connected(link string) bool { return linkIndex(link) != 0 }

// linkIndex returns the index of a link of the host, 0 if there is none.
func linkIndex(link string) int {
	req, err := linkRequest(link, unix.SIOCGIFINDEX)
	if err != nil {
		return 0
	}
	return int(req.Uint32())
}

// linkRequest asks a question of netdevice(7) about a link: a system call or
// three, where netlink would tell everything about it.
func linkRequest(link string, request uint) (*unix.Ifreq, error) {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq(link)
	if err != nil {
		return nil, err
	}
	return req, os.NewSyscallError("ioctl", unix.IoctlIfreq(s, request, req))
}

// Leads reports whether the pair of the host's link ends in the network namespace
// of a process. The kernel answers without the namespace being entered.
func Leads(link string, pid int) bool {
	l, err := netlink.LinkByName(link)
	if err != nil || l.Attrs().NetNsID < 0 {
		return false
	}
	id, err := netlink.GetNetNsIdByPid(pid)
	return err == nil && id == l.Attrs().NetNsID
}

// addPair makes both ends with one request, the pod's end in the pod from the
// first moment: there is never a link to be moved, or left behind. The host's end
// it sets up.
func addPair(h *netlink.Handle, ns *NS, name string, mac net.HardwareAddr, mtu int) (*netlink.Veth, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = name, mtu, gatewayMAC
	// By itself the kernel gives each end a queue for each CPU there could be,
	// with files in /sys for each queue. Without XDP they serve nothing: a veth
	// hands packets to the receiving CPU's backlog.
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         Interface,
		PeerHardwareAddr: mac,
		PeerNamespace:    netlink.NsFd(ns.f.Fd()),
		PeerMTU:          uint32(mtu),
		PeerNumTxQueues:  1,
		PeerNumRxQueues:  1,
	}
	if err := h.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("add veth pair: %w", err)
	}
	if err := setUpHost(veth.Index); err != nil {
		return nil, fmt.Errorf("set up: %w", err)
	}
	return veth, nil
}

// connectHost gives the host's end what it needs to reach the pod.
func connectHost(h *netlink.Handle, veth *netlink.Veth, a Address, mac net.HardwareAddr) error {
	index := veth.Index
	for _, to := range families(a) {
		if err := addAddress(h, veth, to.gatewayAddr()); err != nil {
			return fmt.Errorf("add address %s: %w", to.gateway, err)
		}
		if err := h.NeighAdd(neighbour(index, to.pod, mac)); err != nil {
			return fmt.Errorf("add neighbour %s: %w", to.pod, err)
		}
		route := &netlink.Route{LinkIndex: index, Dst: host(to.pod), Scope: netlink.SCOPE_LINK}
		if err := h.RouteAdd(route); err != nil {
			if errors.Is(err, unix.EEXIST) {
				err = ErrInUse
			}
			return fmt.Errorf("add route to %s: %w", to.pod, err)
		}
	}
	if a.IP6.IsValid() {
		return forward6(veth.Name)
	}
	return nil
}

func connectPod(a Address) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := loopbackUp(); err != nil {
		return err
	}
	index := linkIndex(Interface)
	if index == 0 {
		return unix.ENODEV
	}
	eth0 := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index, Name: Interface}}
	if err := setUpPod(index, a.IP6.IsValid()); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	for _, to := range families(a) {
		addr := &netlink.Addr{IPNet: host(to.pod), Flags: to.flags}
		if err := addAddress(h, eth0, addr); err != nil {
			return fmt.Errorf("add address %s: %w", to.pod, err)
		}
		if err := h.NeighAdd(neighbour(index, to.gateway, gatewayMAC)); err != nil {
			return fmt.Errorf("add neighbour %s: %w", to.gateway, err)
		}
		route := &netlink.Route{LinkIndex: index, Gw: to.gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if err := h.RouteAdd(route); err != nil {
			return fmt.Errorf("add default route via %s: %w", to.gateway, err)
		}
	}
	return nil
}

// addAddress gives a link an address by which it is reached at once. For an IPv6
// address the kernel adds the route by which it receives packets for it on a work
// queue, even if there is no duplicate address detection, and refuses packets
// until then. Until then the route that is added here serves, of a lower preference
// than the kernel's own.
func addAddress(h *netlink.Handle, link netlink.Link, addr *netlink.Addr) error {
	if err := h.AddrAdd(link, addr); err != nil || addr.IP.To4() != nil {
		return err
	}
	// Appended, for other links have the gateway's address too.
	err := h.RouteAppend(&netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: addr.IPNet, Table: unix.RT_TABLE_LOCAL,
		Type: unix.RTN_LOCAL, Protocol: unix.RTPROT_STATIC,
	})
	if errors.Is(err, unix.EEXIST) {
		return nil // the work queue was faster
	}
	return err
}

// A family is the part of an Address that belongs to one IP version.
type family struct {
	pod, gateway netip.Addr
	flags        int // of addresses
}

func families(a Address) []family {
	var fs []family
	if a.IP.IsValid() {
		fs = append(fs, family{a.IP, Gateway, 0})
	}
	if a.IP6.IsValid() {
		// Nobody else can be on the link: no duplicate address detection.
		fs = append(fs, family{a.IP6, Gateway6, unix.IFA_F_NODAD})
	}
	return fs
}

func (f family) gatewayAddr() *netlink.Addr {
	return &netlink.Addr{IPNet: host(f.gateway), Flags: f.flags, Scope: int(netlink.SCOPE_LINK)}
}

// host returns the network that has a as its one address.
func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func neighbour(link int, a netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	return &netlink.Neigh{
		LinkIndex: link, Family: family, State: netlink.NUD_PERMANENT, Flags: 0,
		IP: a.AsSlice(), HardwareAddr: mac,
	}
}

func loopbackUp() error {
	const index = 1 // of the loopback link of every namespace
	return netlink.LinkSetUp(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}})
}

// setUpPod sets the pod's end up. The kernel looks at the flags of a request before
// its settings, and this end has a carrier: the settings need one before.
func setUpPod(index int, v6 bool) error {
	if err := setLink(index, 0, 0, v6); err != nil {
		return err
	}
	return setLink(index, unix.IFF_UP, unix.IFF_UP, false)
}

// setUpHost sets the host's end up, and IPv4 forwarding on for what comes in by
// it, which this way needs no /proc/sys to write to. There is nobody to find on
// the link by multicast; each link that has it costs all others a little.
func setUpHost(index int) error {
	const devconfForwarding = 1 // IPV4_DEVCONF_FORWARDING, linux/ip.h
	inet := nl.NewRtAttr(unix.AF_INET|unix.NLA_F_NESTED, nil)
	conf := inet.AddRtAttr(unix.IFLA_INET_CONF|unix.NLA_F_NESTED, nil)
	conf.AddRtAttr(devconfForwarding, nl.Uint32Attr(1))
	return setLink(index, unix.IFF_UP, unix.IFF_UP|unix.IFF_MULTICAST, IPv6(), inet)
}

// setLink changes those flags of a link that are in mask, and settings that belong
// to address families. It keeps IPv6 from giving the link an address of its own,
// which would send packets and wait for answers.
func setLink(index int, flags, mask uint32, v6 bool, settings ...*nl.RtAttr) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(index), flags, mask
	req.AddData(msg)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, nil)
	for _, s := range settings {
		spec.AddChild(s)
	}
	if v6 {
		inet6 := spec.AddRtAttr(unix.AF_INET6|unix.NLA_F_NESTED, nil)
		inet6.AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(nl.IN6_ADDR_GEN_MODE_NONE))
	}
	req.AddData(spec)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

const conf6 = "/proc/sys/net/ipv6/conf/"

// ignoreRouters makes the host deaf to router advertisements from a pod: whoever
// may send one there, CAP_NET_RAW is enough, would become the host's router.
func ignoreRouters(link string) error {
	if !IPv6() {
		return nil
	}
	return setSysctl(conf6+link+"/accept_ra", "0")
}

// forward6 turns on IPv6 forwarding of what comes in by a link. Before Linux
// 6.17 the kernel knows it for the whole host only, and then no longer listens to
// router advertisements unless told to: so the links that do are told to go on.
func forward6(link string) error {
	err := setSysctl(conf6+link+"/force_forwarding", "1")
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if b, err := os.ReadFile(conf6 + "all/forwarding"); err == nil && strings.TrimSpace(string(b)) == "1" {
		return nil
	}
	links, err := filepath.Glob(conf6 + "*/accept_ra")
	if err != nil {
		return err
	}
	for _, path := range links {
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == "1" {
			if err := setSysctl(path, "2"); err != nil {
				return err
			}
		}
	}
	return setSysctl(conf6+"all/forwarding", "1")
}

func setSysctl(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
