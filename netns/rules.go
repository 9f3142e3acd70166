package netns

import (
	"errors"
	"net/netip"
	"strings"
)

// Rules are the nftables of one installation: a table of family inet, which nobody
// else writes to. It has the same few rules however many pods there are; what is
// published are elements of maps.
//
//	prerouting, output    sent to an address of the host, to a port that is in a map:
//	                      on to the pod (DNAT)
//	postrouting           from a pod to elsewhere than the host and its pods: by the
//	                      host's address (masquerade). From 127.0.0.1, or from a pod
//	                      to itself by a published port: by the gateway's address,
//	                      for the pod could not answer. All else keeps its address.
//	prerouting            from or to 127.0.0.0/8 on any link but lo: dropped
//	prerouting            from a pod, but by an address that is not its own: dropped
//	forward               what begins a connection that a pod's policy does not allow:
//	                      dropped. input: the same from a pod to the host.
//	                      output: answers of the host in what was ended so
//	forward               from a link that forwards for the sake of pods only, and
//	                      not to a published port: dropped
//
// Each change is one transaction: it is there whole or not at all.
type Rules struct {
	// Table is the table's name.
	Table string
	// Key returns what nobody else knows, and what stays the same for as long as
	// policies do. Whoever knew it could find labels that are taken for others. Nil: no key.
	Key func() ([]byte, error)
	// Later is given functions that wait until the kernel has freed what was
	// removed, some 10 ms. They need not be called. Nil: nobody waits.
	Later func(wait func())
}

// A Publication is what a pod publishes.
type Publication struct {
	Address Address
	Ports   []Port
}

// addrs returns the pod's addresses with the rules' names for their families.
func (p Publication) addrs() map[string]netip.Addr {
	m := make(map[string]netip.Addr, 2)
	if p.Address.IP.IsValid() {
		m["4"] = p.Address.IP
	}
	if p.Address.IP6.IsValid() {
		m["6"] = p.Address.IP6
	}
	return m
}

// key returns what Key does.
func (r Rules) key() ([]byte, error) {
	if r.Key == nil {
		return nil, nil
	}
	return r.Key()
}

// ErrAbsent is matched if the rules are not what they were thought to be.
var ErrAbsent = errors.New("not as it was")

// DefaultTable is the table of the installation that has the default directory. Others
// have names that begin with it and a dash.
const DefaultTable = "podbox"

// isOurs reports whether a table is that of some installation.
func isOurs(table string) bool {
	return table == DefaultTable || strings.HasPrefix(table, DefaultTable+"-")
}
