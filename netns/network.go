package netns

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/podbox/podbox/internal/fault"
)

var (
	// ErrInvalid is matched by errors about wrong values.
	ErrInvalid = fault.ErrInvalid
	// ErrNotSupported is matched by errors about things that are not done yet.
	ErrNotSupported = fault.ErrNotSupported
	// ErrInUse is matched when an address belongs to somebody else.
	ErrInUse = errors.New("address in use")
	// ErrExhausted is matched when a range has no free address.
	ErrExhausted = errors.New("no free address")
	// ErrConflict is matched when an address range is routed elsewhere.
	ErrConflict = errors.New("conflicts with a route of the host")
)

// A Mode says where a pod's network namespace comes from.
type Mode string

const (
	ModePod  Mode = "pod"  // a namespace of its own, wired to the host
	ModeNone Mode = "none" // a namespace of its own with loopback only
	ModeHost Mode = "host" // the host's
	ModePath Mode = "ns"   // an existing one, by path
	ModeCNI  Mode = "cni"  // a namespace of its own, connected by CNI plugins
)

// A Network says what network a pod gets. The zero value is that of [Pod].
type Network struct {
	Mode Mode `json:"mode,omitempty"`
	// Path is the namespace of mode ns, such as /run/netns/blue.
	Path string `json:"path,omitempty"`
	// Names are the CNI networks of mode cni: the pod's eth0 is in the first of them, eth1
	// in the second, and so on.
	Names []string `json:"names,omitempty"`
	// IP and IP6 are the pod's addresses in mode pod, and in the first network of mode
	// cni. Zero: the next free ones of Range and Range6, or those that the network gives.
	IP  netip.Addr `json:"ip,omitzero"`
	IP6 netip.Addr `json:"ip6,omitzero"`
	// MAC is the hardware address of the pod's eth0. Empty: derived from the
	// pod's ID, or what the network gives.
	MAC string `json:"mac,omitempty"`
	// Range and Range6 are where addresses are taken from. Zero:
	// DefaultRange and DefaultRange6.
	Range  netip.Prefix `json:"range,omitzero"`
	Range6 netip.Prefix `json:"range6,omitzero"`
}

// DefaultRange and DefaultRange6 are where pods' addresses come from.
var (
	DefaultRange  = netip.MustParsePrefix("10.88.0.0/16")
	DefaultRange6 = netip.MustParsePrefix("fd70:6f64:626f:7800::/64") // "podbox" in a ULA, RFC 4193
)

// Pod returns the default network: a namespace of the pod's own, wired to the
// host.
func Pod() Network { return Network{Mode: ModePod} }

// None returns a network with loopback only.
func None() Network { return Network{Mode: ModeNone} }

// Host returns the host's network.
func Host() Network { return Network{Mode: ModeHost} }

// Path returns the network of an existing namespace.
func Path(path string) Network { return Network{Mode: ModePath, Path: path} }

// CNI returns a network of a namespace that is connected to CNI networks.
func CNI(names ...string) Network { return Network{Mode: ModeCNI, Names: names} }

// Parse reads the form that users write: pod, none, host, ns:PATH, cni:NAME[,NAME].
func Parse(s string) (Network, error) {
	mode, arg, has := strings.Cut(s, ":")
	switch {
	case mode == string(ModeCNI) && has:
		n := CNI(strings.Split(arg, ",")...)
		return n, n.Validate()
	case mode == string(ModePath) && has:
		n := Path(arg)
		return n, n.Validate()
	case !has && (s == "pod" || s == "none" || s == "host"):
		return Network{Mode: Mode(s)}, nil
	}
	return Network{}, fmt.Errorf("network %q: %w: want pod, none, host, ns:PATH or cni:NAME", s, ErrInvalid)
}

func (n Network) String() string {
	switch n.Mode {
	case ModePath:
		return "ns:" + n.Path
	case ModeCNI:
		return "cni:" + strings.Join(n.Names, ",")
	}
	return string(n.WithDefaults().Mode)
}

// IsZero reports whether nothing is said: it stands for [Pod].
func (n Network) IsZero() bool {
	return n.Mode == "" && n.Path == "" && len(n.Names) == 0 && n.MAC == "" &&
		!n.IP.IsValid() && !n.IP6.IsValid() && !n.Range.IsValid() && !n.Range6.IsValid()
}

// WithDefaults returns n with its zero values replaced by what they stand for.
func (n Network) WithDefaults() Network {
	if n.Mode == "" {
		n.Mode = ModePod
	}
	if n.Mode == ModePod {
		if !n.Range.IsValid() {
			n.Range = DefaultRange
		}
		if !n.Range6.IsValid() {
			n.Range6 = DefaultRange6
		}
	}
	return n
}

// Validate reports the first wrong value; it looks at nothing but n.
func (n Network) Validate() error {
	n = n.WithDefaults()
	if len(n.Names) > 0 && n.Mode != ModeCNI {
		return fmt.Errorf("network %s: %w: names need network cni", n, ErrInvalid)
	}
	switch n.Mode {
	case ModePod:
		if n.Path != "" {
			return fmt.Errorf("network pod: %w: a path needs network ns", ErrInvalid)
		}
		if err := n.validateRanges(); err != nil {
			return err
		}
		return n.validateAddresses()
	case ModeCNI:
		if err := n.validateNames(); err != nil {
			return err
		}
		return n.validateAddresses()
	case ModeNone, ModeHost:
	case ModePath:
		if !filepath.IsAbs(n.Path) || strings.ContainsRune(n.Path, 0) {
			return fmt.Errorf("network namespace path %q: %w: want an absolute path", n.Path, ErrInvalid)
		}
	default:
		return fmt.Errorf("network mode %q: %w: want pod, none, host, ns or cni", n.Mode, ErrInvalid)
	}
	if n.IP.IsValid() || n.IP6.IsValid() || n.MAC != "" || n.Range.IsValid() || n.Range6.IsValid() {
		return fmt.Errorf("network %s: %w: addresses need network pod or cni", n, ErrInvalid)
	}
	return nil
}

// The limits of the names of CNI networks: a name becomes part of a file's, and eth0 to eth15
// are enough.
const (
	MaxNetworkName = 128
	maxNetworks    = 16
)

func (n Network) validateNames() error {
	switch {
	case n.Path != "" || n.Range.IsValid() || n.Range6.IsValid():
		return fmt.Errorf("network %s: %w: its addresses are the CNI network's to give: want no range and no path", n, ErrInvalid)
	case len(n.Names) == 0 || len(n.Names) > maxNetworks:
		return fmt.Errorf("network %s: %w: want 1 to %d names", n, ErrInvalid, maxNetworks)
	}
	for i, name := range n.Names {
		if !IsNetworkName(name) {
			return fmt.Errorf("network %s: name %q: %w: want at most %d of A-Z, a-z, 0-9, -, _ and ., beginning with a letter or digit", n, name, ErrInvalid, MaxNetworkName)
		}
		if slices.Contains(n.Names[:i], name) {
			return fmt.Errorf("network %s: name %q: %w: given twice", n, name, ErrInvalid)
		}
	}
	return nil
}

// IsNetworkName reports whether s may be the name of a CNI network.
func IsNetworkName(s string) bool {
	if s == "" || len(s) > MaxNetworkName || strings.ContainsRune("_.-", rune(s[0])) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.-", r)
	})
}

func (n Network) validateAddresses() error {
	if n.IP.IsValid() && (!n.IP.Is4() || !usable(n.IP)) {
		return fmt.Errorf("ip %s: %w: want a unicast IPv4 address", n.IP, ErrInvalid)
	}
	if n.IP6.IsValid() && (!n.IP6.Is6() || n.IP6.Is4In6() || n.IP6.Zone() != "" || !usable(n.IP6)) {
		return fmt.Errorf("ip6 %s: %w: want a unicast IPv6 address", n.IP6, ErrInvalid)
	}
	if n.MAC == "" {
		return nil
	}
	mac, err := net.ParseMAC(n.MAC)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || mac.String() == "00:00:00:00:00:00" {
		return fmt.Errorf("mac %q: %w: want a unicast address such as 02:00:5e:10:00:01", n.MAC, ErrInvalid)
	}
	return nil
}

func (n Network) validateRanges() error {
	for _, r := range []netip.Prefix{n.Range, n.Range6} {
		if r != r.Masked() {
			return fmt.Errorf("range %s: %w: the network is %s", r, ErrInvalid, r.Masked())
		}
	}
	if r := n.Range; !r.Addr().Is4() || r.Bits() > 30 || r.Bits() < 8 || !usable(r.Addr()) {
		return fmt.Errorf("ip range %s: %w: want an IPv4 network between /8 and /30", r, ErrInvalid)
	}
	if r := n.Range6; !r.Addr().Is6() || r.Addr().Is4In6() || r.Bits() > 126 || r.Bits() < 48 || !usable(r.Addr()) {
		return fmt.Errorf("ip6 range %s: %w: want an IPv6 network between /48 and /126", r, ErrInvalid)
	}
	return nil
}

func usable(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && !(a.Is4() && a.As4()[0] == 0)
}

// An Address is what a wired pod is reached by. It stays the same for the life
// of the pod's record.
type Address struct {
	IP  netip.Addr `json:"ip,omitzero"`
	IP6 netip.Addr `json:"ip6,omitzero"` // zero on a host without IPv6
	MAC string     `json:"mac,omitempty"`
}

// LinkName returns the name of the host's end of a pod's veth pair. id is the
// pod's ID in hexadecimal.
func LinkName(id string) string { return linkPrefix + id[:12] }

const linkPrefix = "pbx" // with 12 digits as long as a link's name may be

// MACFor derives a locally administered hardware address from a pod's ID.
func MACFor(id string) string {
	b, err := hex.DecodeString(id[:10])
	if err != nil {
		panic("netns: pod ID is not hexadecimal: " + id)
	}
	return net.HardwareAddr(append([]byte{0x02}, b...)).String()
}
