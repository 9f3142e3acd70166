package netns

import (
	"net/netip"
	"strings"
)

// Loopback6 has ::1 of the host lead to what pods publish. Packets do not do it: from and
// to ::1 the kernel lets none out of the loopback link, and there is no route_localnet for
// IPv6. So connections are turned before there is a packet: programs of eBPF at the root
// of the host's control groups give who connects or sends to a published port of ::1 the
// pod's address instead, and tell who asks that it is ::1.
//
//	connect, sendmsg       to ::1 and a port that is in the map, from the host's
//	                       network: to the pod. The socket remembers where it meant to go.
//	recvmsg, getpeername   from where the socket was turned to: from ::1
//
// The pod sees the host's address. A socket that is bound to ::1 is left alone. One that
// is connected stays so whatever becomes of the port: it is the pod's that it is connected to.
//
// What is attached outlives whoever attached it, and is found by its name.
type Loopback6 struct {
	// Name is that of the programs; see LoopbackName.
	Name string
}

// LoopbackName is the name that goes with a table of Rules.
func LoopbackName(table string) string { return strings.ReplaceAll(table, "-", "_") }

// Wants reports whether there is anything of p that ::1 can lead to.
func (Loopback6) Wants(p Publication) bool {
	for _, q := range p.Ports {
		if q.atLoopback6(p.Address) {
			return true
		}
	}
	return false
}

// atLoopback6 reports whether p is published at ::1, among others.
func (p Port) atLoopback6(pod Address) bool {
	return p.HostPort != 0 && p.reaches(pod.IP6) && (p.anywhere() || p.HostIP == netip.IPv6Loopback()) && p.WithDefaults().Protocol != SCTP
}
