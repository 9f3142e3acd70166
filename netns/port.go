package netns

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A Protocol is one that has ports.
type Protocol string

const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// number is the protocol's in the IP header, 0 if it is none of the above.
func (p Protocol) number() byte {
	switch p {
	case TCP:
		return 6
	case UDP:
		return 17
	case SCTP:
		return 132
	}
	return 0
}

// A Port publishes a port of a pod at one of the host, or a range of them: port
// HostPort+i of the host is port Port+i of the pod.
type Port struct {
	// HostIP is the address of the host at which the port is published; 0.0.0.0
	// and :: are all of their family. Zero: all of both.
	HostIP netip.Addr `json:"hostIP,omitzero"`
	// HostPort is 0 as long as none has been chosen: see Choose.
	HostPort uint16 `json:"hostPort"`
	Port     uint16 `json:"port"`
	// Count is the number of ports of a range. 0: one.
	Count uint16 `json:"count,omitempty"`
	// Protocol is by default TCP.
	Protocol Protocol `json:"protocol,omitempty"`
}

// WithDefaults returns p with its zero values replaced by what they stand for.
func (p Port) WithDefaults() Port {
	if p.Protocol == "" {
		p.Protocol = TCP
	}
	p.Count = max(p.Count, 1)
	p.HostIP = p.HostIP.Unmap()
	return p
}

// Validate reports the first wrong value; it looks at nothing but p.
func (p Port) Validate() error {
	p = p.WithDefaults()
	wrong := func(why string) error { return fmt.Errorf("port %s: %w: %s", p, ErrInvalid, why) }
	switch {
	case p.Protocol.number() == 0:
		return wrong("want protocol tcp, udp or sctp")
	case p.Port == 0:
		return wrong("want ports from 1 to 65535")
	case int(p.HostPort)+int(p.Count) > 1<<16 || int(p.Port)+int(p.Count) > 1<<16:
		return wrong("the range goes beyond 65535")
	case p.HostIP.Zone() != "" || p.HostIP.IsMulticast() || p.HostIP.IsLinkLocalUnicast() && p.HostIP.Is6() || p.HostIP == broadcast:
		return wrong("want an address of the host")
	case p.HostIP == netip.IPv6Loopback() && p.Protocol == SCTP:
		return wrong("the kernel hands on nothing that is sent to ::1, and of SCTP no program may: want 127.0.0.1 or another address of the host")
	}
	return nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// String returns the form that ParsePort reads.
func (p Port) String() string {
	p = p.WithDefaults()
	s := span(p.Port, p.Count) + "/" + string(p.Protocol)
	switch {
	case p.HostPort != 0:
		s = span(p.HostPort, p.Count) + ":" + s
	case p.HostIP.IsValid():
		s = ":" + s
	}
	switch {
	case p.HostIP.Is6():
		return "[" + p.HostIP.String() + "]:" + s
	case p.HostIP.IsValid():
		return p.HostIP.String() + ":" + s
	}
	return s
}

func span(first, count uint16) string {
	s := strconv.Itoa(int(first))
	if count > 1 {
		s += "-" + strconv.Itoa(int(first)+int(count)-1)
	}
	return s
}

// ParsePort reads the form that users write: [[hostIP:][hostPort]:]port[/protocol],
// where an IPv6 address is in brackets and both ports may be ranges of the same
// length, such as 8000-8010. Without a hostPort, or if that is 0, it is one that has
// not been chosen yet.
func ParsePort(s string) (Port, error) {
	wrong := func(why string) (Port, error) {
		return Port{}, fmt.Errorf("port %q: %w: %s", s, ErrInvalid, why)
	}
	const form = "want [hostIP:][hostPort:]port[/tcp|/udp|/sctp]"
	var p Port
	rest, protocol, has := strings.Cut(s, "/")
	if p.Protocol = Protocol(protocol); has && p.Protocol.number() == 0 {
		return wrong("want protocol tcp, udp or sctp")
	}
	port, host := rest, ""
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		host, port = rest[:i], rest[i+1:]
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		ip := host[:i]
		host = host[i+1:]
		inner, open := strings.CutPrefix(ip, "[")
		inner, closed := strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if err != nil || open != closed || open != addr.Is6() {
			return wrong(form + ", an IPv6 address in brackets")
		}
		p.HostIP = addr
	}
	to, count, ok := parseSpan(port)
	first, length := uint16(0), count
	if host != "" && host != "0" {
		var isSpan bool
		first, length, isSpan = parseSpan(host)
		ok = ok && isSpan
	}
	switch {
	case !ok:
		return wrong("want ports from 1 to 65535, or ranges such as 8000-8010")
	case count != length:
		return wrong(fmt.Sprintf("%d ports of the host, but %d of the pod", length, count))
	}
	p.HostPort, p.Port, p.Count = first, to, count
	p = p.WithDefaults()
	if p.Validate() != nil {
		return Port{}, p.Validate()
	}
	return p, nil
}

func parseSpan(s string) (first, count uint16, ok bool) {
	a, b, ranged := strings.Cut(s, "-")
	if !ranged {
		b = a
	}
	from, ok := parsePortNumber(a)
	to, ok2 := parsePortNumber(b)
	return from, to - from + 1, ok && ok2 && from <= to
}

func parsePortNumber(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0 && s[0] != '0' && s[0] != '+'
}

// Overlaps reports whether a packet to the host may be for both.
func (p Port) Overlaps(q Port) bool {
	p, q = p.WithDefaults(), q.WithDefaults()
	return p.HostPort != 0 && q.HostPort != 0 && p.Protocol == q.Protocol && sameHost(p.HostIP, q.HostIP) &&
		int(p.HostPort) < int(q.HostPort)+int(q.Count) && int(q.HostPort) < int(p.HostPort)+int(p.Count)
}

// sameHost reports whether two host addresses, each of which may stand for all, have
// one in common.
func sameHost(a, b netip.Addr) bool {
	switch {
	case !a.IsValid() || !b.IsValid() || a == b:
		return true
	case a.Is4() != b.Is4():
		return false
	}
	return a.IsUnspecified() || b.IsUnspecified()
}

// ValidatePorts reports the first wrong value, and ports that two of ps publish.
func ValidatePorts(ps []Port) error {
	if len(ps) > maxPorts {
		return fmt.Errorf("ports: %w: %d, want at most %d", ErrInvalid, len(ps), maxPorts)
	}
	for i, p := range ps {
		if err := p.Validate(); err != nil {
			return err
		}
		for _, q := range ps[:i] {
			if p.Overlaps(q) {
				return fmt.Errorf("port %s: %w: given twice: %s", p, ErrInvalid, q)
			}
		}
	}
	return nil
}

// maxPorts bounds what is compared and published for one pod.
const maxPorts = 256

// reaches reports whether p publishes anything by the family of pod, which is an
// address of the pod.
func (p Port) reaches(pod netip.Addr) bool {
	return pod.IsValid() && (!p.HostIP.IsValid() || p.HostIP.Is4() == pod.Is4())
}

// anywhere reports whether p is published at all addresses of its families.
func (p Port) anywhere() bool { return !p.HostIP.IsValid() || p.HostIP.IsUnspecified() }
