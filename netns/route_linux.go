package netns

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A ConflictError says that the host routes an address elsewhere. It matches
// ErrConflict.
type ConflictError struct {
	Addr  netip.Addr
	Route netip.Prefix
	Link  string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("address %s %v: %s on %s", e.Addr, ErrConflict, e.Route, e.Link)
}

// Is makes a ConflictError match ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// splitDefault is the longest prefix that is taken for a default route: VPN
// clients have two of this length instead of one, to override it.
const splitDefault = 1

// Free reports whether addr may be given to a pod: a *ConflictError if the host
// routes it elsewhere than by its default route, ErrInUse if the route is that of
// another pod. It asks the kernel one question, however many routes there are.
func Free(addr netip.Addr) error {
	routes, err := netlink.RouteGetWithOptions(addr.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return nil // no route at all
	case err != nil:
		return fmt.Errorf("look up route to %s: %w", addr, err)
	case len(routes) == 0 || routes[0].Dst == nil:
		return nil
	}
	ones, _ := routes[0].Dst.Mask.Size()
	if ones <= splitDefault && routes[0].Type != unix.RTN_LOCAL {
		return nil
	}
	dev := "an unknown link"
	if link, err := netlink.LinkByIndex(routes[0].LinkIndex); err == nil {
		dev = link.Attrs().Name
	}
	if strings.HasPrefix(dev, linkPrefix) {
		return fmt.Errorf("%s: %w by another pod (%s)", addr, ErrInUse, dev)
	}
	route, _ := netip.AddrFromSlice(routes[0].Dst.IP)
	return &ConflictError{addr, netip.PrefixFrom(route.Unmap(), ones), dev}
}

// Routed reports whether the host routes a pod's addresses to the host's end of
// its link. A link that was set down and up again has lost its routes.
func Routed(a Address, link string) bool {
	index := linkIndex(link)
	for _, addr := range []netip.Addr{a.IP, a.IP6} {
		if !addr.IsValid() {
			continue
		}
		routes, err := netlink.RouteGet(addr.AsSlice())
		if err != nil || len(routes) == 0 || routes[0].LinkIndex != index {
			return false
		}
	}
	return index != 0
}

// IPv6 reports whether the host uses IPv6.
func IPv6() bool {
	for _, conf := range []string{"all", "default"} {
		b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + conf + "/disable_ipv6")
		if err != nil || strings.TrimSpace(string(b)) != "0" {
			return false
		}
	}
	return true
}

// HostMTU returns the MTU of the link of the host's default route, in bytes, or
// 1500 if the host has none.
func HostMTU() int {
	dev := defaultLink()
	if dev == "" {
		return 1500
	}
	req, err := linkRequest(dev, unix.SIOCGIFMTU)
	if err != nil {
		return 1500
	}
	// IPv6 needs 1280 bytes (RFC 8200), and a veth can do 65535.
	return min(max(int(req.Uint32()), 1280), 65535)
}

// defaultLink returns the link of the IPv4 default route with the lowest metric,
// or else of the IPv6 one. /proc/net/route begins with the default routes; asking
// the kernel for them by netlink would walk all routes.
func defaultLink() string {
	f, err := os.Open("/proc/thread-self/net/route")
	if err == nil {
		defer f.Close()
		best, metric := "", uint64(0)
		s := bufio.NewScanner(f)
		s.Scan() // titles
		for s.Scan() {
			// Iface Destination Gateway Flags RefCnt Use Metric Mask …
			w := strings.Fields(s.Text())
			if len(w) < 8 || w[1] != "00000000" {
				break
			}
			if w[7] != "00000000" || w[0] == "lo" {
				continue
			}
			m, _ := strconv.ParseUint(w[6], 10, 32)
			if best == "" || m < metric {
				best, metric = w[0], m
			}
		}
		if best != "" {
			return best
		}
	}
	// For IPv6 there is no such order; but the route to an address that nobody
	// has (RFC 3849) is the default one.
	nowhere := netip.MustParseAddr("2001:db8::1")
	routes, err := netlink.RouteGetWithOptions(nowhere.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil || len(routes) == 0 {
		return ""
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil || link.Attrs().Name == "lo" {
		return ""
	}
	return link.Attrs().Name
}
