package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// protocol is who has made a route; the kernel makes nothing of it. ip(8) shows the number.
const protocol = 'p'

// Refuse makes the host refuse what is sent to addresses of ranges that nobody has. It may be
// repeated.
func (u Unassigned) Refuse(ranges ...netip.Prefix) error {
	for _, r := range ranges {
		if err := netlink.RouteAdd(u.route(r)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("refuse what nobody has of %s: %w", r, err)
		}
	}
	return nil
}

// Leave ends what Refuse has begun. It may be repeated.
func (u Unassigned) Leave(ranges ...netip.Prefix) error {
	for _, r := range ranges {
		if err := netlink.RouteDel(u.route(r)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("refuse no more what nobody has of %s: %w", r, err)
		}
	}
	return nil
}

func (u Unassigned) route(r netip.Prefix) *netlink.Route {
	return &netlink.Route{
		Dst:  &net.IPNet{IP: r.Addr().AsSlice(), Mask: net.CIDRMask(r.Bits(), r.Addr().BitLen())},
		Type: unix.RTN_UNREACHABLE, Protocol: protocol, Priority: int(u.metric()),
	}
}
