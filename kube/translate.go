package kube

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// A world is what a translation has to know besides the manifest.
type world struct {
	uid     string // the pod's
	node    string // the host's name
	hostIPs []string
	podIPs  []string // none before the pod is there
	// capacity is what the machine has: what a container may use that has no limit.
	capacity corev1.ResourceList
	// configMap and secret return nil if there is none.
	configMap func(namespace, name string) *corev1.ConfigMap
	secret    func(namespace, name string) *corev1.Secret
	// profiles is the directory of seccomp profiles.
	profiles string
}

// A translation turns a valid pod into what packages sandbox and supervisor take. What it
// finds to be wrong, such as a ConfigMap that there is not, it collects by the fields' paths.
type translation struct {
	faults
	world
	pod *corev1.Pod
	// notes are for people: what was left out.
	notes []string
}

func newTranslation(p *corev1.Pod, w world) *translation { return &translation{world: w, pod: p} }

func (t *translation) note(at *field.Path, text string) {
	n := fmt.Sprintf("pod/%s: %s: %s", t.pod.Name, at, text)
	if !slices.Contains(t.notes, n) {
		t.notes = append(t.notes, n)
	}
}

var specPath = field.NewPath("spec")

// sandbox returns what the pod shall be.
func (t *translation) sandbox() sandbox.Spec {
	s := sandbox.Spec{
		Name:        t.pod.Name,
		Labels:      t.pod.Labels,
		Annotations: t.pod.Annotations,
		Volumes:     t.volumes(),
	}
	t.network(&s)
	t.limits(&s)
	if c := t.pod.Spec.SecurityContext; c != nil && len(c.Sysctls) > 0 {
		s.Sysctls = map[string]string{}
		for _, ctl := range c.Sysctls {
			s.Sysctls[sysctlName(ctl.Name)] = ctl.Value
		}
	}
	return s
}

// life returns how the pod's containers are led.
func (t *translation) life() supervisor.Life {
	s := &t.pod.Spec
	l := supervisor.Life{Grace: grace(*s.TerminationGracePeriodSeconds), Bounds: t.bounds()}
	if s.ActiveDeadlineSeconds != nil {
		l.Deadline = time.Duration(*s.ActiveDeadlineSeconds) * time.Second
	}
	for _, c := range s.InitContainers {
		l.Init = append(l.Init, c.Name)
	}
	for _, c := range s.Containers {
		l.Containers = append(l.Containers, c.Name)
	}
	return l
}

// grace returns a time to end as the supervisor has it, for whom 0 is the default.
func grace(seconds int64) time.Duration {
	if seconds == 0 {
		return -1
	}
	return time.Duration(seconds) * time.Second
}

// A place is where a container is in the manifest.
type place struct {
	c    *corev1.Container
	at   *field.Path
	init bool
}

// places returns the pod's containers in the order of their start.
func places(s *corev1.PodSpec) []place {
	var out []place
	for i := range s.InitContainers {
		out = append(out, place{&s.InitContainers[i], specPath.Child("initContainers").Index(i), true})
	}
	for i := range s.Containers {
		out = append(out, place{&s.Containers[i], specPath.Child("containers").Index(i), false})
	}
	return out
}

// container returns what a container shall be, its image and its user's names aside:
// these are settled when the image is there.
func (t *translation) container(p place, image ImageConfig) supervisor.Spec {
	s := supervisor.Spec{
		Name:        p.c.Name,
		Stdin:       p.c.Stdin,
		StdinOnce:   p.c.StdinOnce,
		Sidecar:     p.init && isSidecar(p.c),
		Restart:     t.restart(p),
		Termination: termination(p.c),
		About:       supervisor.About{Image: p.c.Image, ImageID: image.ID},
	}
	o := launcher.Default("/")
	s.OCI = o
	env := t.env(p, image)
	t.process(p, image, env, o.Process)
	t.mounts(p, env, o)
	t.resources(p, o)
	t.security(p, &s)
	t.namespaces(p, &s)
	t.care(p, &s)
	s.StopSignal = t.stopSignal(p, image)
	s.Secrets = env.secretNames()
	return s
}

// process is what to run, by the image and by what the container says instead.
func (t *translation) process(p place, image ImageConfig, env *environment, o *specs.Process) {
	command, args := image.Entrypoint, image.Cmd
	if len(p.c.Command) > 0 {
		// A command without arguments is not given the image's.
		command, args = env.expandAll(p.c.Command), nil
	}
	if len(p.c.Args) > 0 {
		args = env.expandAll(p.c.Args)
	}
	o.Args = slices.Concat(command, args)
	for name := range env.told {
		t.note(p.at, fmt.Sprintf("$(%s) in its command line is of a Secret: lists of processes show it to root and to the container", name))
	}
	o.Cwd = p.c.WorkingDir
	if o.Cwd == "" {
		o.Cwd = image.WorkingDir
	}
	if o.Cwd == "" {
		o.Cwd = "/"
	}
	o.Env = env.list()
	o.Terminal = p.c.TTY
}

// errNoCommand is what a container has that neither its image nor itself says what to run.
var errNoCommand = errors.New("no command: neither the container nor its image says what to run")

func termination(c *corev1.Container) supervisor.Termination {
	return supervisor.Termination{
		Path:           c.TerminationMessagePath,
		FallbackToLogs: c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// restart returns when a container is started again: init containers that fail are tried
// again unless the pod never does that; sidecars always run.
func (t *translation) restart(p place) supervisor.Restart {
	policy := map[corev1.RestartPolicy]supervisor.Policy{
		corev1.RestartPolicyAlways: supervisor.Always, corev1.RestartPolicyOnFailure: supervisor.OnFailure, corev1.RestartPolicyNever: supervisor.Never,
	}
	r := supervisor.Restart{Policy: policy[t.pod.Spec.RestartPolicy]}
	if p.init && r.Policy == supervisor.Always {
		r.Policy = supervisor.OnFailure
	}
	if own := p.c.RestartPolicy; own != nil {
		r.Policy = policy[corev1.RestartPolicy(*own)]
	}
	for _, rule := range p.c.RestartPolicyRules {
		to := supervisor.Rule{Not: rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpNotIn}
		for _, v := range rule.ExitCodes.Values {
			to.Codes = append(to.Codes, int(v))
		}
		r.Rules = append(r.Rules, to)
	}
	return r
}

// namespaces says which of a container's are its own.
func (t *translation) namespaces(p place, s *supervisor.Spec) {
	l := s.OCI.Linux
	if t.sharesPIDs() || t.pod.Spec.HostPID {
		l.Namespaces = slices.DeleteFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	}
	if u := t.pod.Spec.HostUsers; u != nil && !*u {
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: userRange(t.uid), Size: rangeSize}}
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		l.UIDMappings, l.GIDMappings = ids, ids
		for i := range s.OCI.Mounts {
			if m := &s.OCI.Mounts[i]; m.Type == launcher.VolumeType {
				m.Options = append(m.Options, "idmap")
			}
		}
	}
}

// rangeSize is how many users and groups a user namespace has, as with the kubelet.
const rangeSize = 65536

// userRange returns the first of the host's IDs that the users of a pod are. Two pods have
// the same ones rarely enough, and know nothing of each other then.
func userRange(uid string) uint32 {
	const first, ranges = 1, 32_000 // of rangeSize each; below 2^31
	var h uint32 = 2166136261       // FNV-1a
	for _, b := range []byte(uid) {
		h = (h ^ uint32(b)) * 16777619
	}
	return (first + h%ranges) * rangeSize
}

func (t *translation) sharesPIDs() bool {
	s := t.pod.Spec.ShareProcessNamespace
	return s != nil && *s
}

// network is where the pod is, and what it is called there.
func (t *translation) network(s *sandbox.Spec) {
	p := &t.pod.Spec
	s.Share = []sandbox.Namespace{sandbox.UTS}
	if !p.HostIPC {
		s.Share = append(s.Share, sandbox.IPC)
		if q, err := resourceQuantity(t.pod.Annotations[shmAnnotation]); err == nil {
			s.ShmSize = q
		}
	}
	if t.sharesPIDs() {
		s.Share = append(s.Share, sandbox.PID)
	}
	if p.HostNetwork {
		s.Network = hostNetwork
		s.Hostname = strings.ToLower(t.node)
	} else {
		s.Share = append(s.Share, sandbox.Net)
		podNames(t.pod, s)
		t.ports(s)
		t.traffic(s)
	}
	for _, a := range p.HostAliases {
		ip, _ := netip.ParseAddr(a.IP)
		for _, h := range a.Hostnames {
			s.Hosts = append(s.Hosts, sandbox.Host{Name: h, IP: ip})
		}
	}
	t.dns(s)
}

// podNames are those of the pod, as the kubelet makes them.
func podNames(pod *corev1.Pod, s *sandbox.Spec) {
	p := &pod.Spec
	if p.HostnameOverride != nil {
		s.Hostname = *p.HostnameOverride
		return
	}
	s.Hostname = pod.Name
	if p.Hostname != "" {
		s.Hostname = p.Hostname
	}
	if p.Subdomain != "" {
		s.Domain = fmt.Sprintf("%s.%s.svc.%s", p.Subdomain, pod.Namespace, clusterDomain)
		s.HostnameIsFQDN = is(p.SetHostnameAsFQDN)
	}
}

// clusterDomain is what the names of pods in Kubernetes end with.
const clusterDomain = "cluster.local"

// dns is how the pod resolves names. There is no cluster's server, so all policies but None
// are the host's resolvers.
func (t *translation) dns(s *sandbox.Spec) {
	p := &t.pod.Spec
	if c := p.DNSConfig; c != nil {
		for _, ns := range c.Nameservers {
			ip, _ := netip.ParseAddr(ns)
			s.DNS.Servers = append(s.DNS.Servers, ip)
		}
		s.DNS.Search = slices.Clone(c.Searches)
		for _, o := range c.Options {
			text := o.Name
			if o.Value != nil && *o.Value != "" {
				text += ":" + *o.Value
			}
			s.DNS.Options = append(s.DNS.Options, text)
		}
	}
	s.DNS.Only = p.DNSPolicy == corev1.DNSNone
	s.DNS.Merge = !s.DNS.Only && p.DNSConfig != nil
}
