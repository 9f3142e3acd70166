// Package netns makes network namespaces and wires them: loopback, a veth pair
// to the host, addresses, routes, neighbours.
//
// A pod's network is one routed veth pair. The pod's end has a /32 and a /128
// and a default route to a link-local gateway; the host has a route to the pod
// and, like the pod, a permanent neighbour entry: no bridge, no ARP, no neighbour
// discovery, no duplicate address detection, and nothing shared that fills up
// when pods are many.
//
//	     pod                            host
//	lo   127.0.0.1, ::1
//	eth0 10.88.0.2/32  ──── veth ────  pbx1f0c…  169.254.1.1/32, fe80::1/128
//	     fd70:…::2/128                  route 10.88.0.2/32, fd70:…::2/128
//	default via 169.254.1.1, fe80::1    forwarding on for this link
//
// The host's end carries the gateway's addresses so that the host reaches its
// pods, from a known source address, even if it has no other address at all.
//
// [Rules] are the host's nftables: pods reach beyond the host by its address, and ports
// of the host are those of pods. [Claims] keep who has which port.
//
// The "host" is the network namespace of the calling process. Package netns
// needs CAP_NET_ADMIN and CAP_SYS_ADMIN there. Its functions may be called from
// any goroutine; they leave no thread changed. A [NS] is closed by whoever opened
// it.
package netns
