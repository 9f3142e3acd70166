package netns

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
)

// Choose returns p with a HostPort at random, out of those that the kernel itself gives
// to sockets that ask for any (net.ipv4.ip_local_port_range), without those that are
// reserved (ip_local_reserved_ports). That nobody has it, it does not promise.
func Choose(p Port) (Port, error) {
	p = p.WithDefaults()
	const dir = "/proc/sys/net/ipv4/"
	first, last := uint16(32768), uint16(60999) // the kernel's default
	if b, err := os.ReadFile(dir + "ip_local_port_range"); err == nil {
		words := strings.Fields(string(b))
		if from, n, ok := parseSpan(strings.Join(words, "-")); ok {
			first, last = from, from+n-1
		}
	}
	var reserved []Port
	if b, err := os.ReadFile(dir + "ip_local_reserved_ports"); err == nil {
		for word := range strings.SplitSeq(strings.TrimSpace(string(b)), ",") {
			if from, n, ok := parseSpan(word); ok {
				reserved = append(reserved, Port{HostPort: from, Count: n, Protocol: p.Protocol})
			}
		}
	}
	room := int(last) - int(first) + 2 - int(p.Count) // places where it may begin
	if room <= 0 {
		return p, fmt.Errorf("port %s: %w: more than there are in net.ipv4.ip_local_port_range, %d-%d", p, ErrInvalid, first, last)
	}
next:
	for range 1000 {
		p.HostPort = first + uint16(rand.IntN(room))
		for _, r := range reserved {
			if p.Overlaps(r) {
				continue next
			}
		}
		return p, nil
	}
	return p, fmt.Errorf("port %s: %w: they are reserved by net.ipv4.ip_local_reserved_ports", p, ErrInUse)
}
