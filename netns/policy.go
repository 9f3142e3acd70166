package netns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podbox/podbox/internal/names"
)

// A Policy says with whom a pod may begin connections, and who with it. The zero value
// is no restriction. What answers a connection, and the errors that belong to it, always
// passes. A pod always reaches itself, and the host always reaches its pods: what probes
// them, and what forwards ports to them, is there.
//
// A pod's policy sees what is connected when published ports have been translated: the
// address and the port of the pod, and the client's own address. A client on this host
// that uses 127.0.0.1 is the host.
type Policy struct {
	// From are those who may connect to the pod. Nil: everybody; empty: nobody.
	From []Peer `json:"from,omitzero"`
	// To are those to whom the pod may connect, the host and resolvers among them.
	// Nil: everybody; empty: nobody.
	To []Peer `json:"to,omitzero"`
	// Isolate is the key of a label of the pod. If it is given, of all pods only those
	// whose label has the same value reach the pod, and are reached by it; who is not
	// a pod is not concerned.
	Isolate string `json:"isolate,omitempty"`
}

// IsZero reports whether p restricts nothing.
func (p Policy) IsZero() bool { return p.From == nil && p.To == nil && p.Isolate == "" }

// A Peer is somebody that a policy allows: one of a network, pods, the host; the zero
// value is anybody. In JSON it is the text that ParsePeer reads.
type Peer struct {
	// Prefix is a network, or an address.
	Prefix netip.Prefix
	// Pod is the name of a pod, which need not be there yet.
	Pod string
	// Label is key=value: that of all pods that have it, and of those to come.
	Label string
	// Host is the host itself, by whatever address.
	Host bool
	// Port is the port that is connected to. 0: all ports, and protocols without
	// ports.
	Port uint16
	// Count is the number of ports of a range. 0: one.
	Count uint16
	// Protocol is that of Port, by default TCP.
	Protocol Protocol
}

// most are how many peers of each kind one pod can allow, each way. Each is a rule that
// a new connection to or from a pod with a policy may have to pass.
var most = [kinds]int{far: 16, near: 8, self: 4}

// Validate reports the first wrong value; it looks at nothing but p.
func (p Policy) Validate() error {
	for _, way := range []struct {
		name  string
		peers []Peer
	}{{"allow from", p.From}, {"allow to", p.To}} {
		var n [kinds]int
		for _, peer := range way.peers {
			if err := peer.Validate(); err != nil {
				return fmt.Errorf("%s %w", way.name, err)
			}
			n[peer.kind()]++
		}
		for k, what := range [kinds]string{far: "networks", near: "pods and labels, of which pods can have one in common", self: "ports of the host, which can be ranges"} {
			if n[k] > most[k] {
				return fmt.Errorf("%s: %w: %d %s, want at most %d", way.name, ErrInvalid, n[k], what, most[k])
			}
		}
	}
	if p.Isolate != "" && !isLabelKey(p.Isolate) {
		return fmt.Errorf("isolate %q: %w: want the key of a label", p.Isolate, ErrInvalid)
	}
	return nil
}

// withDefaults returns p with its zero values replaced by what they stand for.
func (p Peer) withDefaults() Peer {
	if p.Port != 0 {
		p.Count = max(p.Count, 1)
		if p.Protocol == "" {
			p.Protocol = TCP
		}
	}
	return p
}

// Validate reports the first wrong value; it looks at nothing but p.
func (p Peer) Validate() error {
	p = p.withDefaults()
	wrong := func(why string) error { return fmt.Errorf("%q: %w: %s", p, ErrInvalid, why) }
	kinds := 0
	for _, is := range []bool{p.Prefix != netip.Prefix{}, p.Pod != "", p.Label != "", p.Host} {
		if is {
			kinds++
		}
	}
	key, value, isLabel := strings.Cut(p.Label, "=")
	switch {
	case kinds > 1:
		return wrong("want one of network, pod, label and host")
	case p.Prefix != netip.Prefix{} && (!p.Prefix.IsValid() || p.Prefix.Addr().Is4In6() || p.Prefix.Addr().Zone() != ""):
		return wrong("want a network such as 10.0.0.0/8")
	case p.Prefix != netip.Prefix{} && p.Prefix != p.Prefix.Masked():
		return wrong("the network is " + p.Prefix.Masked().String())
	case p.Prefix.IsSingleIP() && p.Prefix.Addr().IsUnspecified():
		return wrong("nobody has that address")
	case p.Pod != "" && !names.IsLabel(p.Pod):
		return wrong("want the name of a pod")
	case p.Label != "" && (!isLabel || !isLabelKey(key) || value != "" && !names.IsQualified(value)):
		return wrong("want label:key=value")
	case p.Port == 0 && (p.Count != 0 || p.Protocol != ""):
		return wrong("want a port from 1 to 65535")
	case p.Port != 0 && p.Protocol.number() == 0:
		return wrong("want protocol tcp, udp or sctp")
	case int(p.Port)+int(p.Count) > 1<<16:
		return wrong("the range goes beyond 65535")
	}
	return nil
}

// isLabelKey reports whether k may be the key of a label.
func isLabelKey(k string) bool {
	domain, name, found := strings.Cut(k, "/")
	if !found {
		return names.IsQualified(k)
	}
	return names.IsQualified(name) && names.IsSubdomain(domain)
}

// String returns the form that ParsePeer reads.
func (p Peer) String() string {
	p = p.withDefaults()
	var who string
	switch {
	case p.Prefix != netip.Prefix{}:
		who = p.Prefix.String()
		if p.Port != 0 && p.Prefix.Addr().Is6() {
			who = "[" + who + "]"
		}
	case p.Pod != "":
		who = "pod:" + p.Pod
	case p.Label != "":
		who = "label:" + p.Label
	case p.Host:
		who = "host"
	default:
		who = "any"
	}
	if p.Port == 0 {
		return who
	}
	return who + ":" + span(p.Port, p.Count) + "/" + string(p.Protocol)
}

// MarshalText returns what String does.
func (p Peer) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what ParsePeer does.
func (p *Peer) UnmarshalText(b []byte) error {
	var err error
	*p, err = ParsePeer(string(b))
	return err
}

const maxPeerText = 512 // bytes: a label has at most 381

// ParsePeer reads the form that users write: a network or an address, the name of a pod,
// pod:NAME, label:KEY=VALUE, host or any, and after a colon a port or a range of them,
// with /tcp, which is the default, /udp or /sctp. An IPv6 network that is followed by a
// port is in brackets.
func ParsePeer(s string) (Peer, error) {
	wrong := func(why string) (Peer, error) {
		if len(s) > maxPeerText {
			s = s[:maxPeerText] + "…"
		}
		return Peer{}, fmt.Errorf("%q: %w: %s", s, ErrInvalid, why)
	}
	const form = "want a network, a pod, label:key=value, host or any, and :port[/tcp|/udp|/sctp] if need be"
	if len(s) > maxPeerText {
		return wrong(form)
	}
	var p Peer
	var who, ports string
	var hasPorts bool
	if prefix, ok := parsePrefix(s); ok {
		p.Prefix = prefix
		return p, p.Validate()
	}
	switch {
	case strings.HasPrefix(s, "["):
		var closed bool
		if who, ports, closed = strings.Cut(s[1:], "]"); !closed {
			return wrong("want an IPv6 network in brackets")
		}
		if ports, hasPorts = strings.CutPrefix(ports, ":"); !hasPorts {
			return wrong("want a port after the brackets")
		}
		var ok bool
		if p.Prefix, ok = parsePrefix(who); !ok || !p.Prefix.Addr().Is6() {
			return wrong("want an IPv6 network in brackets")
		}
	case strings.HasPrefix(s, "pod:"):
		if p.Pod, ports, hasPorts = strings.Cut(s[len("pod:"):], ":"); p.Pod == "" {
			return wrong("want the name of a pod")
		}
	case strings.HasPrefix(s, "label:"):
		if p.Label, ports, hasPorts = strings.Cut(s[len("label:"):], ":"); p.Label == "" {
			return wrong("want label:key=value")
		}
	default:
		who, ports, hasPorts = strings.Cut(s, ":")
		prefix, isPrefix := parsePrefix(who)
		switch {
		case isPrefix:
			p.Prefix = prefix
		case who == "host":
			p.Host = true
		case who == "any":
		case strings.Contains(ports, ":"):
			return wrong("want an IPv6 network, in brackets before a port")
		case !names.IsLabel(who):
			return wrong(form)
		default:
			p.Pod = who
		}
	}
	if hasPorts {
		var protocol string
		var has bool
		if ports, protocol, has = strings.Cut(ports, "/"); has {
			if p.Protocol = Protocol(protocol); p.Protocol.number() == 0 {
				return wrong("want protocol tcp, udp or sctp")
			}
		}
		var ok bool
		if p.Port, p.Count, ok = parseSpan(ports); !ok {
			return wrong("want ports from 1 to 65535, or ranges such as 8000-8010")
		}
	}
	p = p.withDefaults()
	return p, p.Validate()
}

// parsePrefix reads a network, or an address as one.
func parsePrefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil
}

// ParsePeers reads what is given for one way: nothing is no restriction, as is any
// without a port, and the word none alone is nobody.
func ParsePeers(words []string) ([]Peer, error) {
	if len(words) == 1 && words[0] == "none" {
		return []Peer{}, nil
	}
	var peers []Peer
	for _, w := range words {
		if w == "none" {
			return nil, fmt.Errorf("%q: %w: want it alone, or pod:none", w, ErrInvalid)
		}
		p, err := ParsePeer(w)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(peers, p) {
			peers = append(peers, p)
		}
	}
	if slices.Contains(peers, Peer{}) {
		return nil, nil
	}
	return peers, nil
}

// A Group is pods that policies name together: those that have a label, or the one that
// has a name. It is the text of a peer without a port.
type Group string

// group returns the peer's, "" if it names no pods.
func (p Peer) group() Group {
	switch {
	case p.Pod != "":
		return Group("pod:" + p.Pod)
	case p.Label != "":
		return Group("label:" + p.Label)
	}
	return ""
}

// Groups returns those that a pod belongs to.
func Groups(name string, labels map[string]string) []Group {
	groups := []Group{Peer{Pod: name}.group()}
	for k, v := range labels {
		groups = append(groups, LabelGroup(k, v))
	}
	return groups
}

// LabelGroup returns the group of the pods that have a label.
func LabelGroup(key, value string) Group { return Peer{Label: key + "=" + value}.group() }

// HasGroups reports whether it depends on p which groups others belong to.
func (p Policy) HasGroups() bool {
	names := func(q Peer) bool { return q.group() != "" }
	return p.Isolate != "" || slices.ContainsFunc(p.From, names) || slices.ContainsFunc(p.To, names)
}
