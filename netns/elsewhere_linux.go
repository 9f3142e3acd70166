package netns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
)

// An ElsewhereError says that a pod of another installation publishes a port: one whose
// records are in another directory. It matches ErrInUse.
type ElsewhereError struct {
	Port  Port
	Table string // of the other one's rules
}

func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("port %s: a pod of another root directory publishes it (nftables %s)", e.Port, e.Table)
}

// Is makes an ElsewhereError match ErrInUse.
func (e *ElsewhereError) Is(target error) bool { return target == ErrInUse }

// Elsewhere returns an *ElsewhereError if the rules of another installation have one of
// ports. Two that take a port at the same moment may both get it; which of them is
// reached then is up to the kernel.
func (r Rules) Elsewhere(ports []Port) error {
	c := new(nftables.Conn)
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return r.wrap("look beside", err)
	}
	for _, t := range tables {
		if t.Name == r.Table || !isOurs(t.Name) {
			continue
		}
		for name, set := range newBatch(t).sets {
			if !publishes(name) {
				continue
			}
			elems, err := elementsOf(c, set)
			if err != nil {
				return Rules{Table: t.Name}.wrap("read", err)
			}
			for _, e := range elems {
				has, ok := portOf(name, e)
				for _, p := range ports {
					if ok && p.Overlaps(has) {
						return &ElsewhereError{p, t.Name}
					}
				}
			}
		}
	}
	return nil
}

// publishes reports whether a set has ports.
func publishes(set string) bool {
	return strings.HasPrefix(set, "any") || strings.HasPrefix(set, "one") || strings.HasPrefix(set, "range")
}

// portOf reads the host's side of an element of a map: the inverse of publish.
func portOf(set string, e nftables.SetElement) (Port, bool) {
	var p Port
	size := len(e.Key) - 8 // of the address
	if size != 0 && size != 4 && size != 16 {
		return p, false
	}
	for _, proto := range []Protocol{TCP, UDP, SCTP} {
		if proto.number() == e.Key[0] {
			p.Protocol = proto
		}
	}
	p.HostPort = binary.BigEndian.Uint16(e.Key[4+size:])
	p.Port, p.Count = p.HostPort, 1
	if len(e.KeyEnd) == len(e.Key) {
		p.Count = binary.BigEndian.Uint16(e.KeyEnd[4+size:]) - p.HostPort + 1
	}
	if size > 0 {
		p.HostIP, _ = netip.AddrFromSlice(e.Key[4 : 4+size])
	} else if set == "any6" {
		p.HostIP = netip.IPv6Unspecified()
	} else {
		p.HostIP = netip.IPv4Unspecified()
	}
	return p, p.Protocol != ""
}
