package netns

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ForgetAll makes the kernel forget all connections from and to the addresses of a pod that has
// no link any more. Those that are left would be the next one's who has an address: what
// still comes for them would be let in as an answer, by the port that it was once sent from,
// and a connection of UDP that had been translated would go on to be.
//
// Of IPv4 the kernel does it by itself since Linux 6.12, in less than a millisecond and 0.5 µs more for
// each connection of the host. Of IPv6, and before, it tells us of all of them first, which takes
// some milliseconds and 5 µs more for each.
func ForgetAll(a Address) error {
	for _, addr := range []netip.Addr{a.IP, a.IP6} {
		if !addr.IsValid() {
			continue
		}
		err := flush(addr)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			err = forgetWalking(addr)
		}
		if err != nil {
			return fmt.Errorf("forget connections of %s: %w", addr, err)
		}
	}
	return nil
}

// flush has the kernel delete the connections that an address has begun, and those that it was
// reached by: the source of one of the two ways is what was not translated.
//
// Not of IPv6: there the kernel takes an address that is the same for one that is not, and the
// other way round (ctnetlink_filter_match_tuple, to Linux 6.18 at least), and would delete all others.
func flush(addr netip.Addr) error {
	const (
		ctaFilter = 25     // CTA_FILTER, whose attributes are numbered as the two ways are; linux/netfilter/nfnetlink_conntrack.h
		source    = 1 << 0 // CTA_FILTER_FLAG(CTA_IP_SRC), net/netfilter/nf_internals.h
	)
	if addr.Is6() {
		return unix.EOPNOTSUPP
	}
	for _, way := range []int{nl.CTA_TUPLE_ORIG, nl.CTA_TUPLE_REPLY} {
		req := nl.NewNetlinkRequest(netlink.ConntrackTable<<8|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
		req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
		tuple := nl.NewRtAttr(unix.NLA_F_NESTED|way, nil)
		tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil).AddRtAttr(nl.CTA_IP_V4_SRC, addr.AsSlice())
		req.AddData(tuple)
		filter := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
		filter.AddRtAttr(way, nl.Uint32Attr(source))
		req.AddData(filter)
		if _, err := req.Execute(unix.NETLINK_NETFILTER, 0); err != nil {
			return err
		}
	}
	return nil
}

// forgetWalking is flush for a kernel that cannot, or that keeps track of nothing.
func forgetWalking(addr netip.Addr) error {
	if _, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_max"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	return forgetMatching(netlink.InetFamily(family), podFlows(addr))
}

// podFlows matches all connections of the pod that has an address.
type podFlows netip.Addr

// MatchConntrackFlow is called for each connection that the kernel knows.
func (p podFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	addr := netip.Addr(p)
	return addrOf(flow.Forward.SrcIP) == addr || addrOf(flow.Reverse.SrcIP) == addr
}

// Answered returns of a pod's addresses those by which it has sent anything since it has its
// link. By others it has no connection that the kernel takes for one, other than what is
// translated. If that cannot be told it returns all.
func Answered(link string, a Address) Address {
	// In this order: what is sent meanwhile counts rather twice than not at all.
	received6, toAll6, err := counters6(link)
	l, lerr := netlink.LinkByName(link)
	if err != nil || lerr != nil || l.Attrs().Statistics == nil {
		return a
	}
	if received6 <= toAll6 { // to ask who is on the link
		a.IP6 = netip.Addr{}
	}
	if l.Attrs().Statistics.RxPackets <= received6 {
		a.IP = netip.Addr{}
	}
	return a
}

// counters6 returns how many packets of IPv6 have come in by a link, and how many of them were for
// all who are on it.
func counters6(link string) (all, multicast uint64, err error) {
	f, err := os.Open("/proc/thread-self/net/dev_snmp6/" + link)
	if errors.Is(err, fs.ErrNotExist) && !IPv6() {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		name, value, _ := strings.Cut(s.Text(), " ")
		into := map[string]*uint64{"Ip6InReceives": &all, "Ip6InMcastPkts": &multicast}[strings.TrimSpace(name)]
		if into == nil {
			continue
		}
		if *into, err = strconv.ParseUint(strings.TrimSpace(value), 10, 64); err != nil {
			return 0, 0, err
		}
	}
	return all, multicast, s.Err()
}
