package cni

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/netns"
)

// An Attachment is one interface of a container in one network: what it takes to add it,
// to check it, and to delete it again. It is pure data, to be kept by whoever wants to be
// able to: it is enough even when the network's files are gone.
type Attachment struct {
	Container string `json:"container"` // its ID
	Network   string `json:"network"`
	Interface string `json:"interface"`
	// Config is the network's list of plugins, whole.
	Config json.RawMessage `json:"config"`
	// Capabilities are what plugins are told that take it, by capability.
	Capabilities map[string]any `json:"capabilities,omitempty"`
	// Result is what the plugins have made; nil as long as that is not known.
	Result *Result `json:"result,omitempty"`
}

// A Result is what of a plugin's answer is believed and used.
type Result struct {
	Network   string `json:"network"`
	Interface string `json:"interface"`
	MAC       string `json:"mac,omitempty"`
	MTU       int    `json:"mtu,omitempty"` // 0: not told; plugins tell it since version 1.1
	// IPs are the container's own; that of loopback is not among them.
	IPs []IP `json:"ips,omitempty"`
	DNS DNS  `json:"dns,omitzero"`
}

// An IP is an address with its network, and the gateway of that.
type IP struct {
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

// DNS is what a network says of resolv.conf(5).
type DNS struct {
	Servers []netip.Addr `json:"servers,omitempty"`
	Search  []string     `json:"search,omitempty"`
	Options []string     `json:"options,omitempty"`
}

// IsZero reports whether a network says nothing.
func (d DNS) IsZero() bool { return len(d.Servers)+len(d.Search)+len(d.Options) == 0 }

// Address returns what the container is reached by: of each family the first address.
func (r *Result) Address() netns.Address {
	a := netns.Address{MAC: r.MAC}
	for _, ip := range r.IPs {
		switch addr := ip.Address.Addr(); {
		case addr.Is4() && !a.IP.IsValid():
			a.IP = addr
		case addr.Is6() && !a.IP6.IsValid():
			a.IP6 = addr
		}
	}
	return a
}

// The limits of what is kept of a result.
const (
	maxIPs = 64
	maxDNS = 32
)

// Validate reports the first value that cannot be, or that could do harm where it is
// shown or written to.
func (r *Result) Validate() error {
	wrong := func(what, value string) error {
		return fmt.Errorf("result of network %s: %s %q: %w", r.Network, what, value, ErrInvalid)
	}
	if !netns.IsNetworkName(r.Network) {
		return wrong("name", r.Network)
	}
	if !isInterface(r.Interface) {
		return wrong("interface", r.Interface)
	}
	if r.MAC != "" {
		if _, err := net.ParseMAC(r.MAC); err != nil {
			return wrong("mac", r.MAC)
		}
	}
	if r.MTU < 0 {
		return wrong("mtu", fmt.Sprint(r.MTU))
	}
	if n := len(r.IPs); n > maxIPs {
		return wrong("number of addresses", fmt.Sprint(n))
	}
	for _, ip := range r.IPs {
		if a := ip.Address; !a.IsValid() || a.Addr().Is4In6() || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			return wrong("address", a.String())
		}
	}
	if n := max(len(r.DNS.Servers), len(r.DNS.Search), len(r.DNS.Options)); n > maxDNS {
		return wrong("number of DNS entries", fmt.Sprint(n))
	}
	for _, a := range r.DNS.Servers {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
			return wrong("DNS server", a.String())
		}
	}
	for _, s := range r.DNS.Search {
		if s != "." && !names.IsDomain(s) {
			return wrong("DNS search domain", s)
		}
	}
	for _, o := range r.DNS.Options {
		if o == "" || len(o) > 255 || strings.ContainsFunc(o, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return wrong("DNS option", o)
		}
	}
	return nil
}

// isInterface reports whether s may be the name of a link; dev_valid_name of Linux, but
// ASCII only.
func isInterface(s string) bool {
	return s != "" && len(s) <= 15 && s != "." && s != ".." &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' || r == ':' })
}

// Validate reports why an Attachment that was read from a file cannot be that of the
// container.
func (a *Attachment) Validate(container string) error {
	switch {
	case a.Container != container:
		return fmt.Errorf("attachment of container %q: %w: not of %q", a.Container, ErrInvalid, container)
	case !netns.IsNetworkName(a.Network):
		return fmt.Errorf("attachment to network %q: %w", a.Network, ErrInvalid)
	case !isInterface(a.Interface):
		return fmt.Errorf("attachment of interface %q: %w", a.Interface, ErrInvalid)
	case a.Result != nil && (a.Result.Network != a.Network || a.Result.Interface != a.Interface):
		return fmt.Errorf("attachment to network %s: %w: its result is of another", a.Network, ErrInvalid)
	case a.Result != nil:
		return a.Result.Validate()
	}
	return nil
}

// A Request is what a container wants of a network, beyond an interface. What no plugin of
// the network takes is an error, but for Addresses and MAC: whether these were
// given is in the Result.
type Request struct {
	// Addresses are those that the container would like to have: with the size of the
	// network, if that is known, or as single ones.
	Addresses []netip.Prefix
	// MAC is the hardware address that it would like to have.
	MAC string
	// Ports are those of the host that shall lead to the container.
	Ports []netns.Port
	// Bandwidth limits what passes the interface.
	Bandwidth netns.Bandwidth
	// DNS is told to plugins that want to know; others do without.
	DNS DNS
}

// A portMapping is one of the capability portMappings; see CONVENTIONS.md of CNI.
type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

func portMappings(ports []netns.Port) []portMapping {
	var all []portMapping
	for _, p := range ports {
		p = p.WithDefaults()
		host := ""
		if p.HostIP.IsValid() {
			host = p.HostIP.String()
		}
		for i := range int(p.Count) {
			all = append(all, portMapping{int(p.HostPort) + i, int(p.Port) + i, string(p.Protocol), host})
		}
	}
	return all
}

// bandwidth is the value of the capability of the same name: rates in bits per second,
// bursts in bits.
type bandwidth struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// burst is what may come at once, in bits: what comes in an eighth of a second, and never less
// than two of the largest packets that the kernel makes, or none would ever pass.
func burst(rate uint64) uint64 {
	if rate == 0 {
		return 0
	}
	return min(max(rate/8, 2*64<<10*8), 1<<32-1)
}

// capabilities returns what plugins are told, and under which key of their configuration
// those that have not the capability are told of addresses.
func (r *Request) capabilities(has func(string) bool) (known, args map[string]any, err error) {
	known, args = map[string]any{}, map[string]any{}
	put := func(capability string, value any) {
		if has(capability) {
			known[capability] = value
		} else {
			args[capability] = value
		}
	}
	if len(r.Addresses) > 0 {
		var ips []string
		for _, a := range r.Addresses {
			if a.IsSingleIP() {
				ips = append(ips, a.Addr().String())
			} else {
				ips = append(ips, a.String())
			}
		}
		put("ips", ips)
	}
	if r.MAC != "" {
		put("mac", r.MAC)
	}
	if len(r.Ports) > 0 {
		if !has("portMappings") {
			return nil, nil, fmt.Errorf("port %s: %w: none of its plugins has the capability portMappings", r.Ports[0], ErrNotSupported)
		}
		known["portMappings"] = portMappings(r.Ports)
	}
	if b := r.Bandwidth; b != (netns.Bandwidth{}) {
		if !has("bandwidth") {
			return nil, nil, fmt.Errorf("bandwidth: %w: none of its plugins has the capability bandwidth", ErrNotSupported)
		}
		known["bandwidth"] = bandwidth{b.Ingress, burst(b.Ingress), b.Egress, burst(b.Egress)}
	}
	if !r.DNS.IsZero() && has("dns") {
		known["dns"] = map[string]any{"servers": r.DNS.Servers, "searches": r.DNS.Search, "options": r.DNS.Options}
	}
	return known, args, nil
}

// Gave reports whether the result has all the addresses.
func (r *Result) Gave(addresses []netip.Prefix) bool {
	return !slices.ContainsFunc(addresses, func(want netip.Prefix) bool {
		return !slices.ContainsFunc(r.IPs, func(has IP) bool { return has.Address.Addr() == want.Addr() })
	})
}
