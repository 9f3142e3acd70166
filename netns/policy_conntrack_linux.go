package netns

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ForgetRefused makes the kernel forget connections from or to the addresses of a pod
// that are not admitted by the policies of both ends. pod returns what is known of the
// pod that has an address, nil if none has it. It takes the time that a look at all
// connections of the host does, at least some milliseconds.
func ForgetRefused(a Address, pod func(netip.Addr) *Policed) error {
	all, err := again(func() ([]*netlink.ConntrackFlow, error) {
		return netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_UNSPEC)
	})
	if err != nil {
		return fmt.Errorf("look for connections: %w", err)
	}
	refused := &refusedFlows{own: a, pod: pod, local: flows{local: make(map[netip.Addr]bool)}}
	found := make(map[uint8]bool) // by family
	for _, flow := range all {
		found[flow.FamilyType] = found[flow.FamilyType] || refused.MatchConntrackFlow(flow)
	}
	for family, any := range found {
		if !any {
			continue
		}
		_, err := again(func() (uint, error) {
			return netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(family), refused)
		})
		if err != nil {
			return fmt.Errorf("forget connections: %w", err)
		}
	}
	return nil
}

// refusedFlows matches connections of a pod that are not admitted.
type refusedFlows struct {
	own   Address
	pod   func(netip.Addr) *Policed
	local flows
}

// MatchConntrackFlow is called for each connection that the kernel knows.
func (r *refusedFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	// As the rules see it: who has begun, and whom it has reached.
	from, to := addrOf(flow.Forward.SrcIP), addrOf(flow.Reverse.SrcIP)
	if !from.IsValid() || !to.IsValid() {
		return false
	}
	own := func(a netip.Addr) bool { return a == r.own.IP || a == r.own.IP6 }
	if !own(from) && !own(to) {
		return false
	}
	end := func(a netip.Addr) End {
		e := End{Addr: a, Pod: r.pod(a)}
		e.Host = e.Pod == nil && r.local.isLocal(a)
		return e
	}
	return !Admits(end(from), end(to), flow.Forward.Protocol, flow.Reverse.SrcPort)
}
