package netns

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const devconfRouteLocalnet = 26 // IPV4_DEVCONF_ROUTE_LOCALNET, linux/ip.h

// ReachLoopback makes 127.0.0.1 of the host reach a pod by its link, or no longer.
// The kernel keeps packets from or to 127.0.0.0/8 off links otherwise; those that a
// pod would send there, Rules drop. A link that is not there is no error.
func ReachLoopback(link string, yes bool) error {
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

// ReachLoopbackBy is ReachLoopback for many links: one look at all tells which of them 127.0.0.1
// does not reach yet.
func ReachLoopbackBy(links []string) error {
	if len(links) == 0 {
		return nil
	}
	reached, err := again(reachedByLoopback)
	if err != nil {
		return fmt.Errorf("let 127.0.0.1 reach links: %w", err)
	}
	for _, link := range links {
		if reached[link] {
			continue
		}
		if err := ReachLoopback(link, true); err != nil {
			return err
		}
	}
	return nil
}

// reachedByLoopback returns the names of the links that have route_localnet.
func reachedByLoopback() (map[string]bool, error) {
	const (
		skipStatistics = 1 << 3                         // RTEXT_FILTER_SKIP_STATS, linux/rtnetlink.h
		at             = 4 * (devconfRouteLocalnet - 1) // an array, from 1
	)
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStatistics)))
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	reached := make(map[string]bool)
	for _, m := range messages {
		if len(m) < unix.SizeofIfInfomsg {
			continue
		}
		attrs := attributes(m[unix.SizeofIfInfomsg:])
		conf := attributes(attributes(attrs[unix.IFLA_AF_SPEC])[unix.AF_INET])[unix.IFLA_INET_CONF]
		if len(conf) >= at+4 && nl.NativeEndian().Uint32(conf[at:]) != 0 {
			reached[unix.ByteSliceToString(attrs[unix.IFLA_IFNAME])] = true
		}
	}
	return reached, err
}

// attributes returns the values of attributes by their types; none if they make no sense.
func attributes(b []byte) map[uint16][]byte {
	parsed, err := nl.ParseRouteAttrAsMap(b)
	if err != nil {
		return nil
	}
	m := make(map[uint16][]byte, len(parsed))
	for kind, a := range parsed {
		m[kind&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)] = a.Value
	}
	return m
}
