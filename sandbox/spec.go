package sandbox

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/ipcns"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/volumes"
)

// A Namespace is a kind of namespace that the members of a pod may share.
type Namespace string

const (
	Net Namespace = "net"
	IPC Namespace = "ipc"
	UTS Namespace = "uts"
	PID Namespace = "pid"
)

// allNamespaces is in the order in which they are joined and shown.
var allNamespaces = []Namespace{Net, IPC, UTS, PID}

func (n Namespace) flag() int {
	switch n {
	case Net:
		return unix.CLONE_NEWNET
	case IPC:
		return unix.CLONE_NEWIPC
	case UTS:
		return unix.CLONE_NEWUTS
	case PID:
		return unix.CLONE_NEWPID
	}
	panic("sandbox: unknown namespace " + n)
}

// A Spec says what a pod shall be. The zero value is a pod with a generated
// name, a network of its own and the defaults of each field.
type Spec struct {
	// Name is an RFC 1123 label. Empty: the first 12 digits of the ID.
	Name string `json:"name"`
	// Hostname is what members see as theirs. Empty: Name.
	Hostname string `json:"hostname,omitempty"`
	// Domain is that of Hostname: the two together are in /etc/hosts.
	Domain string `json:"domain,omitempty"`
	// HostnameIsFQDN has members see host name and domain together as their
	// host name, of which the kernel allows 64 characters.
	HostnameIsFQDN bool `json:"hostnameIsFQDN,omitempty"`
	// Labels are for the user; keys and values have Kubernetes' syntax.
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations are for programs: keys have the syntax of those of labels,
	// values are any text, and all together have at most 256 KiB. Nothing is
	// found by them.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Share lists the namespaces that members share. Empty: net, ipc and uts.
	// A program on the host's filesystem keeps the host's namespace of each
	// kind that is not shared.
	Share []Namespace `json:"share,omitempty"`
	// Network is by default netns.Pod, or netns.Host if net is not shared.
	Network netns.Network `json:"network"`
	// Ports are those of the host at which ports of the pod are reached. They need
	// network pod, and can be changed later: see Sandbox.Publish; or network cni, with a plugin
	// that has the capability portMappings, and stay what they are.
	Ports []netns.Port `json:"ports,omitempty"`
	// Bandwidth limits what passes the pod's link. It needs network pod, and can be
	// changed later: see Sandbox.Update; or network cni, with a plugin that has the capability
	// bandwidth, and stays what it is.
	Bandwidth netns.Bandwidth `json:"bandwidth,omitzero"`
	// Policy says with whom the pod may begin connections, and who with it. It needs
	// network pod, and can be changed later: see Sandbox.Update.
	Policy netns.Policy `json:"policy,omitzero"`
	// ShmSize limits the pod's /dev/shm, in bytes. 0: ipcns.DefaultShmSize.
	ShmSize int64 `json:"shmSize,omitempty"`
	// Sysctls are set in the pod's namespaces when they are made: those of
	// the IPC namespace and net.*, by their dotted names.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// DNS is what members find in resolv.conf. Empty: what the host has,
	// without resolvers on the host's loopback.
	DNS DNS `json:"dns,omitzero"`
	// Hosts are added to the members' /etc/hosts, a line for each address with
	// its names in this order. A pod that uses the host's network has what is
	// in the host's file before them.
	Hosts []Host `json:"hosts,omitempty"`
	// Volumes are the pod's: containers mount them, and may come and go.
	Volumes []volumes.Volume `json:"volumes,omitempty"`
	// Limits are those of all programs in the pod together.
	Limits Limits `json:"limits,omitzero"`
}

// DNS is the content of a resolv.conf(5). What is not given is the host's, as it is
// when the pod is made or started: see Change.Names. C libraries ask the first
// three servers.
type DNS struct {
	Servers []netip.Addr `json:"servers,omitempty"`
	Search  []string     `json:"search,omitempty"`
	// Options are names, or names and values with a colon between them. The
	// host's that have other names stay.
	Options []string `json:"options,omitempty"`
	// Only takes nothing from the host, whatever is not given.
	Only bool `json:"only,omitempty"`
	// Merge adds servers and search domains to the host's, behind them, rather
	// than to put them in their place.
	Merge bool `json:"merge,omitempty"`
}

func (d *DNS) isZero() bool {
	return len(d.Servers) == 0 && len(d.Search) == 0 && len(d.Options) == 0 && !d.Only
}

// Host is a line of hosts(5).
type Host struct {
	Name string     `json:"name"`
	IP   netip.Addr `json:"ip"`
}

// withDefaults returns a copy of s that says everything, for a pod of this ID.
func (s Spec) withDefaults(id string) Spec {
	if s.Name == "" {
		s.Name = id[:12]
	}
	if len(s.Share) == 0 {
		s.Share = []Namespace{Net, IPC, UTS}
	}
	if !s.shares(Net) && s.Network.IsZero() {
		s.Network = netns.Host()
	}
	s.Network = s.Network.WithDefaults()
	if s.Network.Mode == netns.ModeHost {
		s.Share = without(s.Share, Net)
	}
	s.Share = slices.DeleteFunc(slices.Clone(allNamespaces), func(n Namespace) bool { return !s.shares(n) })
	if s.Hostname == "" && s.shares(UTS) {
		s.Hostname = s.Name
	}
	if s.ShmSize == 0 && s.shares(IPC) {
		s.ShmSize = ipcns.DefaultShmSize
	}
	s.Ports = slices.Clone(s.Ports)
	for i := range s.Ports {
		s.Ports[i] = s.Ports[i].WithDefaults()
	}
	if s.Network.Mode == netns.ModePod && s.Network.MAC == "" {
		s.Network.MAC = netns.MACFor(id)
	}
	return s
}

// hostname returns what members see as theirs.
func (s *Spec) hostname() string {
	if s.HostnameIsFQDN && s.Domain != "" {
		return s.Hostname + "." + s.Domain
	}
	return s.Hostname
}

func without(share []Namespace, n Namespace) []Namespace {
	return slices.DeleteFunc(slices.Clone(share), func(m Namespace) bool { return m == n })
}

func (s *Spec) shares(n Namespace) bool { return slices.Contains(s.Share, n) }

// owns reports whether the pod has a namespace of its own of kind n: not all
// that it shares are, a network namespace may be a stranger's.
func (s *Spec) owns(n Namespace) bool {
	return s.shares(n) && (n != Net || slices.Contains(ownNetworks, s.Network.Mode))
}

// ownNetworks are the modes in which a pod has a network namespace of its own.
var ownNetworks = []netns.Mode{netns.ModePod, netns.ModeNone, netns.ModeCNI}

// owned returns the kinds of namespace that the pod owns.
func (s *Spec) owned() []Namespace {
	return slices.DeleteFunc(slices.Clone(s.Share), func(n Namespace) bool { return !s.owns(n) })
}

// noID stands for the ID of a pod that there is not yet.
var noID = strings.Repeat("0", 64)

// Validate reports the first wrong value by the name of its field. It looks at
// nothing but s.
func (s Spec) Validate() error {
	for _, n := range s.Share {
		if !slices.Contains(allNamespaces, n) {
			return invalid("share", string(n), "want net, ipc, uts or pid")
		}
	}
	s = s.withDefaults(noID)
	if !names.IsLabel(s.Name) {
		return invalid("name", s.Name, "want an RFC 1123 label: at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")
	}
	if err := s.Network.Validate(); err != nil {
		return err
	}
	if len(s.Ports) > 0 && s.Network.Mode != netns.ModePod && s.Network.Mode != netns.ModeCNI {
		return invalid("port", s.Ports[0].String(), fmt.Sprintf("ports need network pod or cni, not %s", s.Network))
	}
	if err := netns.ValidatePorts(s.Ports); err != nil {
		return err
	}
	if err := s.validateBandwidth(); err != nil {
		return err
	}
	if err := s.validatePolicy(); err != nil {
		return err
	}
	if !s.shares(Net) && s.Network.Mode != netns.ModeHost {
		return invalid("share", join(s.Share), fmt.Sprintf("network %s needs net to be shared", s.Network))
	}
	if len(s.owned()) == 0 {
		return invalid("share", join(s.Share), "the pod would have no namespace of its own")
	}
	if s.Hostname != "" {
		if !s.shares(UTS) {
			return invalid("hostname", s.Hostname, "needs uts to be shared")
		}
		if len(s.Hostname) > maxHostname || !names.IsSubdomain(s.Hostname) {
			return invalid("hostname", s.Hostname, "want at most 64 of a-z, 0-9, - and .")
		}
	}
	if err := s.validateDomain(); err != nil {
		return err
	}
	if s.ShmSize != 0 && (!s.shares(IPC) || s.ShmSize < 4096) {
		return invalid("shm size", fmt.Sprint(s.ShmSize), "want at least 4096 bytes, and ipc to be shared")
	}
	if err := validateLabels(s.Labels); err != nil {
		return err
	}
	if err := validateAnnotations(s.Annotations); err != nil {
		return err
	}
	if err := s.validateSysctls(); err != nil {
		return err
	}
	if err := s.DNS.validate(); err != nil {
		return err
	}
	for _, h := range s.Hosts {
		if !h.IP.IsValid() || h.IP.Zone() != "" {
			return invalid("host address", h.IP.String(), "want an IP address")
		}
		if !names.IsDomain(h.Name) {
			return invalid("host name", h.Name, "want a domain name")
		}
	}
	if err := validateVolumes(s.Volumes); err != nil {
		return err
	}
	return s.Limits.Validate()
}

// maxHostname is what the kernel takes, in bytes; see sethostname(2).
const maxHostname = 64

func (s *Spec) validateDomain() error {
	switch {
	case s.Domain == "" && s.HostnameIsFQDN:
		return invalid("domain", "", "want one for a host name that is a FQDN")
	case s.Domain == "":
		return nil
	case s.Hostname == "":
		return invalid("domain", s.Domain, "needs a hostname, and uts to be shared")
	case !names.IsSubdomain(s.Domain):
		return invalid("domain", s.Domain, "want a domain name of a-z, 0-9, - and .")
	case s.HostnameIsFQDN && len(s.hostname()) > maxHostname:
		return invalid("hostname", s.hostname(), fmt.Sprintf("want at most 64 characters with the domain, it has %d", len(s.hostname())))
	}
	return nil
}

func (d *DNS) validate() error {
	if d.Only && d.Merge {
		return invalid("dns merge", "true", "want nothing from the host, or something")
	}
	for _, a := range d.Servers {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
			return invalid("dns server", a.String(), "want an IP address")
		}
		if a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "" {
			return invalid("dns server", a.String(), "want the pod's link with it, such as fe80::1%eth0")
		}
	}
	for _, s := range d.Search {
		if s != "." && !names.IsDomain(s) {
			return invalid("dns search domain", s, "want a domain name")
		}
	}
	for _, o := range d.Options {
		if o == "" || len(o) > 255 || strings.ContainsFunc(o, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return invalid("dns option", o, "want one word of at most 255 bytes, such as ndots:5")
		}
	}
	return nil
}

func validateVolumes(vs []volumes.Volume) error {
	seen := map[string]bool{}
	for _, v := range vs {
		if err := v.Validate(); err != nil {
			return err
		}
		if seen[v.Name] {
			return invalid("volume", v.Name, "given twice")
		}
		seen[v.Name] = true
	}
	return nil
}

func validateLabels(labels map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if !isKey(k) {
			return invalid("label", k, wantKey)
		}
		if v := labels[k]; v != "" && !names.IsQualified(v) {
			return invalid("value of label "+k, v, "want at most 63 of A-Z, a-z, 0-9, -, _ and .")
		}
	}
	return nil
}

const wantKey = "want [domain/]name of at most 63 of A-Z, a-z, 0-9, -, _ and ."

// isKey reports whether k may be the key of a label or an annotation.
func isKey(k string) bool {
	domain, name, found := strings.Cut(k, "/")
	if !found {
		return names.IsQualified(k)
	}
	return names.IsQualified(name) && names.IsSubdomain(domain)
}

// maxAnnotations is Kubernetes' limit, in bytes, of all keys and values together.
const maxAnnotations = 256 << 10

func validateAnnotations(annotations map[string]string) error {
	size := 0
	for _, k := range slices.Sorted(maps.Keys(annotations)) {
		// Kubernetes has always taken upper case in the domain of an annotation.
		if !isKey(strings.ToLower(k)) {
			return invalid("annotation", k, wantKey)
		}
		if !utf8.ValidString(annotations[k]) {
			return fmt.Errorf("annotation %s: %w: want UTF-8", k, ErrInvalid)
		}
		size += len(k) + len(annotations[k])
	}
	if size > maxAnnotations {
		return fmt.Errorf("annotations: %w: want at most %d bytes, they have %d", ErrInvalid, maxAnnotations, size)
	}
	return nil
}

func (s *Spec) validateSysctls() error {
	for _, k := range slices.Sorted(maps.Keys(s.Sysctls)) {
		ns, known := Net, strings.HasPrefix(k, "net.")
		if ipcns.IsSysctl(k) {
			ns, known = IPC, true
		}
		switch v := s.Sysctls[k]; {
		case !names.IsSysctl(k):
			return invalid("sysctl", k, "want a dotted name such as net.core.somaxconn")
		case !known:
			return invalid("sysctl", k, "not a pod's own: want net.*, kernel.shm*, kernel.msg*, kernel.sem or fs.mqueue.*")
		case !s.owns(ns):
			return invalid("sysctl", k, fmt.Sprintf("the pod has no %s namespace of its own", ns))
		case v == "" || len(v) > 256 || strings.ContainsAny(v, "\x00\n"):
			return invalid("value of sysctl "+k, v, "want one line of at most 256 bytes")
		}
	}
	return nil
}

func invalid(field, value, want string) error {
	return fmt.Errorf("%s %q: %w: %s", field, value, ErrInvalid, want)
}

func join(ns []Namespace) string {
	var b strings.Builder
	for i, n := range ns {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(string(n))
	}
	return b.String()
}
