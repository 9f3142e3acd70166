package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/ipcns"
	"github.com/podbox/podbox/sandbox"
)

const (
	maxAnnotations = 256 << 10            // bytes, as the API server has it
	maxData        = corev1.MaxSecretSize // bytes of a ConfigMap or Secret
	maxDeadline    = math.MaxInt32        // seconds
	maxID          = math.MaxInt32        // of users and groups
	shmAnnotation  = "podbox.io/shm-size" // a quantity
	ourAnnotations = "podbox.io/"         // the prefix of all that we act on
	wantLabel      = "an RFC 1123 label: at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"
)

// ourKeys are the annotations with our prefix that mean something.
var ourKeys = []string{shmAnnotation, fromAnnotation, toAnnotation, isolateAnnotation}

func validateMeta(f *faults, m *metav1.ObjectMeta, pod bool) {
	at := field.NewPath("metadata")
	switch {
	case !f.required(at.Child("name"), m.Name, "a name"):
	case pod && !names.IsLabel(m.Name):
		f.want(at.Child("name"), m.Name, wantLabel)
	case !pod:
		f.all(at.Child("name"), m.Name, validation.IsDNS1123Subdomain(m.Name))
	}
	f.all(at.Child("namespace"), m.Namespace, validation.IsDNS1123Label(m.Namespace))
	for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
		f.all(at.Child("labels").Key(k), k, validation.IsQualifiedName(k))
		f.all(at.Child("labels").Key(k), m.Labels[k], validation.IsValidLabelValue(m.Labels[k]))
	}
	size := 0
	for _, k := range slices.Sorted(maps.Keys(m.Annotations)) {
		f.all(at.Child("annotations").Key(k), k, validation.IsQualifiedName(strings.ToLower(k)))
		size += len(k) + len(m.Annotations[k])
		if pod && strings.HasPrefix(k, ourAnnotations) && !slices.Contains(ourKeys, k) {
			f.add(at.Child("annotations").Key(k), "no such annotation: want "+list(ourKeys, "or"))
		}
	}
	if size > maxAnnotations {
		f.add(at.Child("annotations"), fmt.Sprintf("%d bytes: want at most %d", size, maxAnnotations))
	}
	if v, ok := m.Annotations[shmAnnotation]; ok && pod {
		q, err := resource.ParseQuantity(v)
		if err != nil || q.Value() < 4096 {
			f.want(at.Child("annotations").Key(shmAnnotation), v, "a quantity such as 256Mi")
		}
	}
}

func validateConfigMap(c *corev1.ConfigMap) *faults {
	f := new(faults)
	validateMeta(f, &c.ObjectMeta, false)
	size := validateKeys(f, "data", c.Data) + validateKeys(f, "binaryData", c.BinaryData)
	for _, k := range slices.Sorted(maps.Keys(c.BinaryData)) {
		if _, ok := c.Data[k]; ok {
			f.add(field.NewPath("binaryData").Key(k), "given in data too")
		}
	}
	limitData(f, size)
	return f
}

func validateSecret(s *corev1.Secret) *faults {
	f := new(faults)
	validateMeta(f, &s.ObjectMeta, false)
	limitData(f, validateKeys(f, "data", s.Data)+validateKeys(f, "stringData", s.StringData))
	key := map[corev1.SecretType]string{
		corev1.SecretTypeDockerConfigJson: corev1.DockerConfigJsonKey, corev1.SecretTypeDockercfg: corev1.DockerConfigKey,
	}[s.Type]
	if key == "" {
		return f
	}
	b, ok := s.Data[key]
	if t, given := s.StringData[key]; given {
		b, ok = []byte(t), true
	}
	switch {
	case !ok:
		f.add(field.NewPath("data").Key(key), fmt.Sprintf("want it in a Secret of type %s", s.Type))
	case !json.Valid(b):
		f.add(field.NewPath("data").Key(key), "want JSON, in base64")
	}
	return f
}

func validateKeys[V ~string | ~[]byte](f *faults, name string, data map[string]V) (size int) {
	for _, k := range slices.Sorted(maps.Keys(data)) {
		f.all(field.NewPath(name).Key(k), k, validation.IsConfigMapKey(k))
		size += len(data[k])
	}
	return size
}

func limitData(f *faults, size int) {
	if size > maxData {
		f.add(field.NewPath("data"), fmt.Sprintf("%d bytes: want at most %d", size, maxData))
	}
}

// validatePod looks at nothing but the pod, whose defaults are set.
func validatePod(p *corev1.Pod) *faults {
	f := new(faults)
	validateMeta(f, &p.ObjectMeta, true)
	validateTraffic(f, p)
	s := &p.Spec
	at := field.NewPath("spec")
	validateVolumes(f, p, at.Child("volumes"))
	validateContainers(f, s, at)
	oneOf(f, at.Child("restartPolicy"), s.RestartPolicy, corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	f.between(at.Child("terminationGracePeriodSeconds"), *s.TerminationGracePeriodSeconds, 0, maxDeadline)
	if d := s.ActiveDeadlineSeconds; d != nil {
		f.between(at.Child("activeDeadlineSeconds"), *d, 1, maxDeadline)
	}
	if s.OS != nil {
		if s.OS.Name != corev1.Linux {
			f.want(at.Child("os", "name"), string(s.OS.Name), "linux")
		}
	}
	if s.ServiceAccountName != "" {
		f.all(at.Child("serviceAccountName"), s.ServiceAccountName, validation.IsDNS1123Subdomain(s.ServiceAccountName))
	}
	for i, ref := range s.ImagePullSecrets {
		f.required(at.Child("imagePullSecrets").Index(i).Child("name"), ref.Name, "the name of a Secret")
	}
	validateNames(f, p, at)
	validateDNS(f, s, at)
	validateSharing(f, s, at)
	if s.Resources != nil {
		validateResources(f, s.Resources, at.Child("resources"))
	}
	if s.SecurityContext != nil {
		validatePodSecurity(f, s, at.Child("securityContext"))
	}
	return f
}

// validateNames is about what the pod is called, and whom it knows by name.
func validateNames(f *faults, p *corev1.Pod, at *field.Path) {
	s := &p.Spec
	var named sandbox.Spec
	if podNames(p, &named); named.HostnameIsFQDN && len(named.Hostname+"."+named.Domain) > 64 {
		f.want(at.Child("setHostnameAsFQDN"), named.Hostname+"."+named.Domain, "at most 64 characters")
	}
	if s.Hostname != "" {
		f.all(at.Child("hostname"), s.Hostname, validation.IsDNS1123Label(s.Hostname))
	}
	if s.Subdomain != "" {
		f.all(at.Child("subdomain"), s.Subdomain, validation.IsDNS1123Label(s.Subdomain))
	}
	if o := s.HostnameOverride; o != nil {
		p := at.Child("hostnameOverride")
		f.all(p, *o, validation.IsDNS1123Subdomain(*o))
		switch {
		case len(*o) > 64:
			f.want(p, *o, "at most 64 characters")
		case s.HostNetwork:
			f.add(p, "want none with hostNetwork: the name is the host's")
		case s.SetHostnameAsFQDN != nil && *s.SetHostnameAsFQDN:
			f.add(p, "want none with setHostnameAsFQDN")
		}
	}
	for i, a := range s.HostAliases {
		p := at.Child("hostAliases").Index(i)
		if ip, err := netip.ParseAddr(a.IP); err != nil || ip.Zone() != "" {
			f.want(p.Child("ip"), a.IP, "an IP address")
		}
		if len(a.Hostnames) == 0 {
			f.add(p.Child("hostnames"), "want at least one")
		}
		for j, h := range a.Hostnames {
			f.all(p.Child("hostnames").Index(j), h, validation.IsDNS1123Subdomain(h))
		}
	}
}

func validateDNS(f *faults, s *corev1.PodSpec, at *field.Path) {
	oneOf(f, at.Child("dnsPolicy"), s.DNSPolicy, corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, corev1.DNSDefault, corev1.DNSNone)
	c := s.DNSConfig
	if s.DNSPolicy == corev1.DNSNone && (c == nil || len(c.Nameservers) == 0) {
		f.add(at.Child("dnsConfig", "nameservers"), "want at least one with dnsPolicy None")
	}
	if c == nil {
		return
	}
	at = at.Child("dnsConfig")
	if n := len(c.Nameservers); n > 3 {
		f.want(at.Child("nameservers"), n, "at most 3")
	}
	for i, ns := range c.Nameservers {
		if ip, err := netip.ParseAddr(ns); err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
			f.want(at.Child("nameservers").Index(i), ns, "an IP address")
		}
	}
	if n := len(c.Searches); n > 32 {
		f.want(at.Child("searches"), n, "at most 32")
	}
	for i, d := range c.Searches {
		if d != "." && !names.IsDomain(strings.TrimSuffix(d, ".")) {
			f.want(at.Child("searches").Index(i), d, "a domain name")
		}
	}
	if n := len(strings.Join(c.Searches, " ")); n > 2048 {
		f.want(at.Child("searches"), fmt.Sprintf("%d characters", n), "at most 2048")
	}
	for i, o := range c.Options {
		p := at.Child("options").Index(i)
		if f.required(p.Child("name"), o.Name, "a name") && strings.ContainsAny(o.Name, " \t\r\n:") {
			f.want(p.Child("name"), o.Name, "an option of resolv.conf(5)")
		}
		if o.Value != nil && strings.ContainsAny(*o.Value, " \t\r\n") {
			f.want(p.Child("value"), *o.Value, "no white space")
		}
	}
}

// validateSharing is about the namespaces that the pod has, or shares with the host.
func validateSharing(f *faults, s *corev1.PodSpec, at *field.Path) {
	if s.HostPID && s.ShareProcessNamespace != nil && *s.ShareProcessNamespace {
		f.add(at.Child("shareProcessNamespace"), "want false with hostPID")
	}
	if s.HostUsers == nil || *s.HostUsers {
		return
	}
	for _, c := range []choice{{"hostNetwork", s.HostNetwork}, {"hostPID", s.HostPID}, {"hostIPC", s.HostIPC}} {
		if c.set {
			f.add(at.Child("hostUsers"), fmt.Sprintf("false: want true with %s", c.name))
		}
	}
}

func validatePodSecurity(f *faults, s *corev1.PodSpec, at *field.Path) {
	c := s.SecurityContext
	for _, id := range []struct {
		name string
		id   *int64
	}{{"runAsUser", c.RunAsUser}, {"runAsGroup", c.RunAsGroup}, {"fsGroup", c.FSGroup}} {
		if id.id != nil {
			f.between(at.Child(id.name), *id.id, 0, maxID)
		}
	}
	for i, g := range c.SupplementalGroups {
		f.between(at.Child("supplementalGroups").Index(i), g, 0, maxID)
	}
	if p := c.SupplementalGroupsPolicy; p != nil {
		oneOf(f, at.Child("supplementalGroupsPolicy"), *p, corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)
	}
	if p := c.FSGroupChangePolicy; p != nil {
		oneOf(f, at.Child("fsGroupChangePolicy"), *p, corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)
	}
	validateProfiles(f, c.SeccompProfile, c.AppArmorProfile, at)
	seen := map[string]bool{}
	for i, ctl := range c.Sysctls {
		p := at.Child("sysctls").Index(i)
		name := sysctlName(ctl.Name)
		ipc := ipcns.IsSysctl(name)
		switch {
		case !f.required(p.Child("name"), ctl.Name, "a name"):
		case seen[name]:
			f.want(p.Child("name"), ctl.Name, "each name once")
		case !names.IsSysctl(name):
			f.want(p.Child("name"), ctl.Name, "a dotted name such as net.core.somaxconn")
		case !ipc && !strings.HasPrefix(name, "net."):
			f.want(p.Child("name"), ctl.Name, "one of a pod's own: net.*, kernel.shm*, kernel.msg*, kernel.sem or fs.mqueue.*")
		case ipc && s.HostIPC:
			f.add(p.Child("name"), fmt.Sprintf("%q: want none of the IPC namespace with hostIPC", ctl.Name))
		case !ipc && s.HostNetwork:
			f.add(p.Child("name"), fmt.Sprintf("%q: want none of the network with hostNetwork", ctl.Name))
		}
		seen[name] = true
		if ctl.Value == "" || len(ctl.Value) > 256 || strings.ContainsAny(ctl.Value, "\x00\n") {
			f.want(p.Child("value"), ctl.Value, "one line of at most 256 bytes")
		}
	}
}

// sysctlName returns the dotted name of a kernel parameter. With slashes between its parts,
// dots are within them.
func sysctlName(name string) string {
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		return strings.NewReplacer("/", ".", ".", "/").Replace(name)
	}
	return name
}

func validateProfiles(f *faults, seccomp *corev1.SeccompProfile, appArmor *corev1.AppArmorProfile, at *field.Path) {
	if seccomp != nil {
		p := at.Child("seccompProfile")
		if f.required(p.Child("type"), string(seccomp.Type), "RuntimeDefault, Unconfined or Localhost") {
			oneOf(f, p.Child("type"), seccomp.Type, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined, corev1.SeccompProfileTypeLocalhost)
		}
		file := seccomp.LocalhostProfile
		switch localhost := seccomp.Type == corev1.SeccompProfileTypeLocalhost; {
		case localhost && (file == nil || *file == ""):
			f.add(p.Child("localhostProfile"), "want a file with type Localhost")
		case localhost && !isLocalPath(*file):
			f.want(p.Child("localhostProfile"), *file, `a relative path without ".."`)
		case !localhost && file != nil:
			f.add(p.Child("localhostProfile"), fmt.Sprintf("want none with type %s", seccomp.Type))
		}
	}
	if appArmor != nil {
		p := at.Child("appArmorProfile")
		if f.required(p.Child("type"), string(appArmor.Type), "RuntimeDefault, Unconfined or Localhost") {
			oneOf(f, p.Child("type"), appArmor.Type, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined, corev1.AppArmorProfileTypeLocalhost)
		}
		name := appArmor.LocalhostProfile
		switch localhost := appArmor.Type == corev1.AppArmorProfileTypeLocalhost; {
		case localhost && (name == nil || strings.TrimSpace(*name) == ""):
			f.add(p.Child("localhostProfile"), "want a name with type Localhost")
		case !localhost && name != nil:
			f.add(p.Child("localhostProfile"), fmt.Sprintf("want none with type %s", appArmor.Type))
		}
	}
}

// isLocalPath reports whether p stays below where it begins.
func isLocalPath(p string) bool {
	return p != "" && !strings.HasPrefix(p, "/") && !slices.Contains(strings.Split(p, "/"), "..") && !strings.Contains(p, "\x00")
}
