package netns

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ReachLoopback makes 127.0.0.1 of the host reach a pod by its link, or no longer.
// The kernel keeps packets from or to 127.0.0.0/8 off links otherwise; those that a
// pod would send there, Rules drop. A link that is not there is no error.
func ReachLoopback(link string, yes bool) error {
	const devconfRouteLocalnet = 26 // IPV4_DEVCONF_ROUTE_LOCALNET, linux/ip.h
	index := linkIndex(link)
	if index == 0 {
		return nil
	}
	value := uint32(0)
	if yes {
		value = 1
	}
	inet := nl.NewRtAttr(unix.AF_INET|unix.NLA_F_NESTED, nil)
	conf := inet.AddRtAttr(unix.IFLA_INET_CONF|unix.NLA_F_NESTED, nil)
	conf.AddRtAttr(devconfRouteLocalnet, nl.Uint32Attr(value))
	if err := setLink(index, 0, 0, false, inet); err != nil && err != unix.ENODEV {
		return fmt.Errorf("let 127.0.0.1 reach link %s: %w", link, err)
	}
	return nil
}
