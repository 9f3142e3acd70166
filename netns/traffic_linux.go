package netns

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Traffic is what has passed a pod's link, as the pod sees it.
type Traffic struct {
	RxBytes   uint64 `json:"rxBytes"`
	RxPackets uint64 `json:"rxPackets"`
	TxBytes   uint64 `json:"txBytes"`
	TxPackets uint64 `json:"txPackets"`
	Dropped   uint64 `json:"dropped"` // both ways
}

// ReadTraffic reads the counters of the host's end of a link.
func ReadTraffic(link string) (*Traffic, error) {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return nil, fmt.Errorf("counters of link %s: %w", link, err)
	}
	s := l.Attrs().Statistics
	if s == nil {
		return nil, fmt.Errorf("counters of link %s: none", link)
	}
	// What the host's end sends, the pod receives.
	return &Traffic{RxBytes: s.TxBytes, RxPackets: s.TxPackets, TxBytes: s.RxBytes, TxPackets: s.RxPackets, Dropped: s.RxDropped + s.TxDropped}, nil
}
