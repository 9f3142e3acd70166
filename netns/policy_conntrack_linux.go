package netns

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ForgetRefused makes the kernel forget connections from or to the addresses of a pod
// that are not admitted by the policies of both ends. pod returns what is known of the
// pod that has an address, nil if none has it. It takes the time that a look at all
// connections of the host does, at least some milliseconds.
func ForgetRefused(a Address, pod func(netip.Addr) *Policed) error {
	return forgetMatching(unix.AF_UNSPEC, &refusedFlows{own: a, pod: pod, local: flows{local: make(map[netip.Addr]bool)}})
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
