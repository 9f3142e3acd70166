package netns

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What waits is bounded, in time if the rate is high and in packets if it is low: else a
// sender would fill a queue that everything else waits behind, or TCP would have too few
// packets under way to learn of a loss.
const (
	burstTime, queueTime       = 0.010, 0.050 // seconds
	burstPackets, queuePackets = 2, 8
	maxQueue                   = 256 << 20 // bytes
	frameHeader                = 18        // bytes: of Ethernet, with a VLAN's tag
	tick                       = 64        // nanoseconds, PSCHED_TICKS_PER_SEC in net/pkt_sched.h
)

// SetBandwidth limits what passes the host's end of a pod's link, or lifts limits that b
// does not have. It may be repeated; what waits in a queue stays there.
//
// What the pod receives the host's end sends, through a token bucket. What the pod sends
// is turned aside as it comes in, to a link that is there for that, whose token bucket
// it leaves on its way on: nothing of it is in the pod. (Whoever has CAP_NET_ADMIN in the
// host's user namespace can take it away all the same: by the pod's link the host's
// namespace has a number in the pod's, and so a name for RTM_DELLINK.) That link is not
// removed with the pod's: see [RemoveShaper].
//
// The error matches ErrNotSupported, and names what is missing, if the kernel cannot.
func SetBandwidth(link string, b Bandwidth) error {
	err := setBandwidth(link, b)
	if err != nil {
		return fmt.Errorf("limit link %s: %w", link, err)
	}
	return nil
}

func setBandwidth(name string, b Bandwidth) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	attrs := link.Attrs()
	if b.Ingress == 0 {
		err = removeQdisc(&netlink.Tbf{QdiscAttrs: root(attrs.Index)})
	} else {
		err = netlink.QdiscReplace(bucket(attrs.Index, attrs.MTU, b.Ingress))
	}
	if err := lacking(err, "CONFIG_NET_SCH_TBF"); err != nil {
		return err
	}
	aside := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: attrs.Index, Parent: netlink.HANDLE_INGRESS, Handle: netlink.MakeHandle(0xffff, 0),
	}}
	if b.Egress == 0 {
		if err := removeQdisc(aside); err != nil {
			return err
		}
		// What is in its queue is lost, as on any way that changes.
		wait, err := RemoveShaper(name)
		if wait != nil {
			wait()
		}
		return err
	}
	shaper, err := ensureShaper(name, attrs.MTU)
	if err != nil {
		return err
	}
	if err := lacking(netlink.QdiscReplace(bucket(shaper, attrs.MTU, b.Egress)), "CONFIG_NET_SCH_TBF"); err != nil {
		return err
	}
	if err := netlink.QdiscAdd(aside); err != nil && !errors.Is(err, unix.EEXIST) {
		return lacking(err, "CONFIG_NET_SCH_INGRESS")
	}
	all := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: attrs.Index, Parent: aside.Handle, Priority: 1, Protocol: unix.ETH_P_ALL, Handle: firstFilter,
		},
		Actions: []netlink.Action{netlink.NewMirredAction(shaper)},
	}
	err = netlink.FilterAdd(all)
	if errors.Is(err, unix.EEXIST) {
		// Of a shaper that is gone, maybe.
		err = netlink.FilterReplace(all)
	}
	return lacking(err, "CONFIG_NET_CLS_U32, CONFIG_NET_CLS_ACT or CONFIG_NET_ACT_MIRRED")
}

// firstFilter is the handle that the kernel gives the first filter of kind u32: in hash
// table 800, which it makes itself, in bucket 0, number 800. Given, so that to add it
// twice is an error.
const firstFilter = 0x800<<20 | 0x800

// bucket is a queue by which a link sends at a rate.
func bucket(link, mtu int, rate uint64) *netlink.Tbf {
	bytes, frame := float64(rate)/8, float64(mtu+frameHeader)
	burst := min(max(bytes*burstTime, burstPackets*frame), maxQueue/4)
	queue := min(max(bytes*queueTime, queuePackets*frame), maxQueue/2)
	return &netlink.Tbf{
		QdiscAttrs: root(link), Rate: uint64(bytes),
		Buffer: uint32(burst / bytes * 1e9 / tick), Limit: uint32(burst + queue),
	}
}

func root(link int) netlink.QdiscAttrs {
	return netlink.QdiscAttrs{LinkIndex: link, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0)}
}

// removeQdisc removes a queue. If it is not there that is no error.
func removeQdisc(q netlink.Qdisc) error {
	err := netlink.QdiscDel(q)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil // the kernel's own is there, or none
	}
	return err
}

// shaperPrefix begins the names of links through which goes what pods send.
const shaperPrefix = "pbs"

func shaperOf(link string) string { return shaperPrefix + strings.TrimPrefix(link, linkPrefix) }

// isPods reports whether a link of the host is there for a pod.
func isPods(link string) bool {
	return strings.HasPrefix(link, linkPrefix) || strings.HasPrefix(link, shaperPrefix)
}

// ensureShaper returns the index of the link through which goes what the pod sends.
func ensureShaper(link string, mtu int) (int, error) {
	name := shaperOf(link)
	index := linkIndex(name)
	if index == 0 {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, mtu
		attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
		if err := netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
			return 0, fmt.Errorf("add link %s: %w", name, lacking(err, "CONFIG_IFB"))
		}
		if index = linkIndex(name); index == 0 {
			return 0, fmt.Errorf("link %s: %w", name, os.ErrNotExist)
		}
	}
	// It is nobody's neighbour, and has no address.
	if err := setLink(index, 0, 0, IPv6()); err != nil {
		return 0, err
	}
	return index, setLink(index, unix.IFF_UP, unix.IFF_UP|unix.IFF_MULTICAST, false)
}

// RemoveShaper removes what SetBandwidth has made beside a pod's link, as Disconnect does
// the link. What is not there is no error.
func RemoveShaper(link string) (wait func(), err error) { return Disconnect(shaperOf(link)) }

// ReadBandwidth returns the limits that the kernel has for a pod's link.
func ReadBandwidth(link string) (Bandwidth, error) {
	var b Bandwidth
	for _, l := range []struct {
		name string
		rate *uint64
	}{{link, &b.Ingress}, {shaperOf(link), &b.Egress}} {
		index := linkIndex(l.name)
		if index == 0 {
			continue
		}
		queues, err := netlink.QdiscList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}})
		if err != nil {
			return b, fmt.Errorf("limits of link %s: %w", l.name, err)
		}
		for _, q := range queues {
			if tbf, is := q.(*netlink.Tbf); is {
				*l.rate = tbf.Rate * 8
			}
		}
	}
	return b, nil
}

// lacking tells what the kernel was built without if that is what the error means.
func lacking(err error, config string) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w by this kernel: it lacks %s: %w", ErrNotSupported, config, err)
	}
	return err
}
