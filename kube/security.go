package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/supervisor"
)

// defaultCapabilities are those that containerd gives to a pod's containers: three more
// than podbox run does.
var defaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
	"CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// maxProfile is how large a seccomp profile may be: the kernel takes 4096 instructions.
const maxProfile = 1 << 20

// security is what a container's programs may do.
func (t *translation) security(p place, s *supervisor.Spec) {
	c := p.c.SecurityContext
	if c == nil {
		c = &corev1.SecurityContext{}
	}
	o := s.OCI
	o.Process.NoNewPrivileges = c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation
	o.Root.Readonly = is(c.ReadOnlyRootFilesystem)
	o.Process.Capabilities = capabilities(c.Capabilities)
	if c.ProcMount != nil && *c.ProcMount == corev1.UnmaskedProcMount {
		o.Linux.MaskedPaths, o.Linux.ReadonlyPaths = nil, nil
	}
	if is(c.Privileged) {
		resources := *o.Linux.Resources
		launcher.Privilege(o)
		o.Linux.Resources.CPU, o.Linux.Resources.Memory = resources.CPU, resources.Memory
	} else {
		t.seccomp(p, c, s)
	}
	t.labels(p, c, o.Process)
}

// capabilities returns those by default, with what is added and without what is dropped.
// Dropping all and adding some is done in this order.
func capabilities(c *corev1.Capabilities) *specs.LinuxCapabilities {
	has := map[string]bool{}
	for _, name := range defaultCapabilities {
		has[name] = true
	}
	change := func(list []corev1.Capability, to bool) {
		for _, name := range list {
			full := capability(name)
			if full != "ALL" {
				has[full] = to
				continue
			}
			for _, each := range launcher.AvailableCapabilities() {
				has[each] = to
			}
		}
	}
	if c != nil {
		// The order of containerd: ALL first, then single ones.
		all := func(name corev1.Capability) bool { return capability(name) == "ALL" }
		if slices.ContainsFunc(c.Add, all) {
			change([]corev1.Capability{"ALL"}, true)
		}
		if slices.ContainsFunc(c.Drop, all) {
			change([]corev1.Capability{"ALL"}, false)
		}
		change(slices.DeleteFunc(slices.Clone(c.Add), all), true)
		change(slices.DeleteFunc(slices.Clone(c.Drop), all), false)
	}
	caps := slices.DeleteFunc(launcher.Capabilities(), func(name string) bool { return !has[name] })
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

// seccomp is which system calls a container has.
func (t *translation) seccomp(p place, c *corev1.SecurityContext, s *supervisor.Spec) {
	profile, at := c.SeccompProfile, p.at.Child("securityContext", "seccompProfile")
	if pod := t.pod.Spec.SecurityContext; profile == nil && pod != nil && pod.SeccompProfile != nil {
		profile, at = pod.SeccompProfile, specPath.Child("securityContext", "seccompProfile")
	}
	switch {
	case profile == nil || profile.Type == corev1.SeccompProfileTypeRuntimeDefault:
		s.DefaultSeccomp = true
	case profile.Type == corev1.SeccompProfileTypeLocalhost:
		filter, err := readProfile(t.profiles, *profile.LocalhostProfile)
		if err != nil {
			t.add(at.Child("localhostProfile"), err.Error())
			return
		}
		s.OCI.Linux.Seccomp = filter
	}
}

// readProfile reads a filter below dir, in the form of the OCI specification.
func readProfile(dir, unsafeName string) (*specs.LinuxSeccomp, error) {
	f, err := os.OpenInRoot(dir, unsafeName)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile in %s: %w", dir, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxProfile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxProfile {
		return nil, fmt.Errorf("seccomp profile %s: %w: larger than %d bytes", unsafeName, ErrInvalid, maxProfile)
	}
	filter := new(specs.LinuxSeccomp)
	if err := json.Unmarshal(b, filter); err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", unsafeName, err)
	}
	return filter, nil
}

// labels are what security modules know a container's programs by.
func (t *translation) labels(p place, c *corev1.SecurityContext, o *specs.Process) {
	pod := t.pod.Spec.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	armor := c.AppArmorProfile
	if armor == nil {
		armor = pod.AppArmorProfile
	}
	if armor != nil && armor.Type == corev1.AppArmorProfileTypeLocalhost {
		o.ApparmorProfile = *armor.LocalhostProfile
	}
	se := c.SELinuxOptions
	if se == nil {
		se = pod.SELinuxOptions
	}
	if se != nil && *se != (corev1.SELinuxOptions{}) {
		label := *se
		setDefault(&label.User, "system_u")
		setDefault(&label.Role, "system_r")
		setDefault(&label.Type, "container_t")
		setDefault(&label.Level, "s0")
		o.SelinuxLabel = strings.Join([]string{label.User, label.Role, label.Type, label.Level}, ":")
	}
}

// A User is whom a container runs as.
type User struct {
	// Name is a user of the image, by name or number, and maybe a group after a
	// colon. Empty: root.
	Name string
	// Group replaces the user's in the image.
	Group *uint32
	// Groups are further ones.
	Groups []uint32
	// Strict leaves out the further groups that the user has in the image.
	Strict bool
}

// user returns whom a container runs as. An error is one that keeps the container from being
// started.
func (t *translation) user(p place, image ImageConfig) (User, error) {
	c, pod := p.c.SecurityContext, t.pod.Spec.SecurityContext
	if c == nil {
		c = &corev1.SecurityContext{}
	}
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	u := User{Name: image.User}
	if id := either(c.RunAsUser, pod.RunAsUser); id != nil {
		u.Name = strconv.FormatInt(*id, 10)
	}
	if id := either(c.RunAsGroup, pod.RunAsGroup); id != nil {
		g := uint32(*id)
		u.Group = &g
	}
	for _, g := range pod.SupplementalGroups {
		u.Groups = append(u.Groups, uint32(g))
	}
	if pod.FSGroup != nil {
		u.Groups = append(u.Groups, uint32(*pod.FSGroup))
	}
	u.Strict = pod.SupplementalGroupsPolicy != nil && *pod.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict
	nonRoot := either(c.RunAsNonRoot, pod.RunAsNonRoot)
	if !is(nonRoot) {
		return u, nil
	}
	name, _, _ := strings.Cut(u.Name, ":")
	id, err := strconv.ParseUint(name, 10, 32)
	switch {
	case name == "" || err == nil && id == 0:
		return u, fmt.Errorf("%s: %w", p.at.Child("securityContext", "runAsNonRoot"), errRoot)
	case err != nil || id > math.MaxInt32:
		return u, fmt.Errorf("%s: the image's user is %q, and it cannot be told whether that is root: want runAsUser", p.at.Child("securityContext", "runAsNonRoot"), name)
	}
	return u, nil
}

var errRoot = errors.New("the container would run as root")

func either[T any](own, pods *T) *T {
	if own != nil {
		return own
	}
	return pods
}

// stopSignal is what asks a container to end; 0 if nobody says it.
func (t *translation) stopSignal(p place, image ImageConfig) unix.Signal {
	if l := p.c.Lifecycle; l != nil && l.StopSignal != nil {
		return signalNumber(string(*l.StopSignal))
	}
	return imageSignal(image.StopSignal)
}

// imageSignal reads a signal as images have it: SIGTERM, TERM or 15. What is none of these
// is as if it were not there.
func imageSignal(s string) unix.Signal {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= 64 {
		return unix.Signal(n)
	}
	name := strings.ToUpper(s)
	if name != "" && !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	return signalNumber(name)
}
