package netns

import (
	"net/netip"
	"slices"
)

// A Policed pod is one that has a policy, or whom those of others may name.
type Policed struct {
	Address Address
	Policy  Policy
	// Groups are those that the pod belongs to, if anybody's policy names groups.
	Groups []Group
	// Isolated is the group that Policy.Isolate comes to, by the pod's label.
	Isolated Group
}

// A fact is what an element of a set says of a peer that is no pod: a range of addresses,
// of protocols and of ports.
type fact struct {
	name        string // that of the peer
	first, last netip.Addr
	ports       ports
}

// ports are a range of protocols, and one of ports.
type ports struct {
	firstProto, lastProto byte
	first, last           uint16
}

// allPorts are those of all protocols, also of those that have none.
var allPorts = ports{0, 255, 0, 65535}

func (p Peer) ports() ports {
	if p.Port == 0 {
		return allPorts
	}
	p = p.withDefaults()
	n := p.Protocol.number()
	return ports{n, n, p.Port, p.Port + p.Count - 1}
}

// extent returns the first and the last address of one family that p has. ok is false
// for pods and the host, and for networks of the other family.
func (p Peer) extent(family netip.Addr) (first, last netip.Addr, ok bool) {
	switch {
	case p.group() != "" || p.Host:
		return first, last, false
	case p.Prefix == netip.Prefix{}:
		first, last = extremes(family)
		return first, last, true
	case p.Prefix.Addr().Is4() != family.Is4():
		return first, last, false
	}
	return p.Prefix.Addr(), lastOf(p.Prefix), true
}

// lastOf returns the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// fact returns what p says of addresses of one family, if it does.
func (p Peer) fact(family netip.Addr) (f fact, ok bool) {
	first, last, ok := p.extent(family)
	return fact{p.String(), first, last, p.ports()}, ok
}

// service returns what p says besides whom it names: its ports, of anybody.
func (p Peer) service() Peer {
	p.Prefix, p.Pod, p.Label, p.Host = netip.Prefix{}, "", "", false
	return p
}

// A kind is how a peer is looked for.
type kind int

const (
	far  kind = iota // a network
	near             // pods
	self             // the host
	kinds
)

// kind returns p's.
func (p Peer) kind() kind {
	switch {
	case p.Host:
		return self
	case p.group() != "":
		return near
	}
	return far
}

// An End is one end of a connection, as a policy sees it.
type End struct {
	Addr netip.Addr
	// Host says that the address is the host's.
	Host bool
	// Pod is what is known of the pod that has the address, nil if it is none.
	Pod *Policed
}

// Admits reports whether the policies of both ends allow a connection. Port is 0 for a
// protocol that has none. It says of one what the rules say of all, for those that exist
// when a policy changes.
func Admits(from, to End, protocol byte, port uint16) bool {
	if from.Addr == to.Addr {
		return true // a pod and itself
	}
	if to.Pod != nil && !from.Host && !allows(to.Pod.Policy.From, from, protocol, port) {
		return false
	}
	if from.Pod != nil && !allows(from.Pod.Policy.To, to, protocol, port) {
		return false
	}
	return from.Pod == nil || to.Pod == nil || from.Pod.keepsTo(to.Pod) && to.Pod.keepsTo(from.Pod)
}

// keepsTo reports whether p's isolation admits q.
func (p *Policed) keepsTo(q *Policed) bool {
	return p.Isolated == "" || slices.Contains(q.Groups, p.Isolated)
}

// allows reports whether peers, of one way, have an end among them.
func allows(peers []Peer, e End, protocol byte, port uint16) bool {
	if peers == nil {
		return true
	}
	for _, p := range peers {
		if q := p.ports(); protocol < q.firstProto || protocol > q.lastProto || port < q.first || port > q.last {
			continue
		}
		if g := p.group(); g != "" {
			if e.Pod != nil && slices.Contains(e.Pod.Groups, g) {
				return true
			}
			continue
		}
		if first, last, ok := p.extent(e.Addr); ok && first.Compare(e.Addr) <= 0 && last.Compare(e.Addr) >= 0 || p.Host && e.Host {
			return true
		}
	}
	return false
}
