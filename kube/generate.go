package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podbox/podbox/ipcns"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
	"github.com/podbox/podbox/volumes"
)

// Generate returns a manifest of a pod that can be applied again. Of a pod that was applied it
// is what was applied, with defaults. Of others it is as much as Pod YAML can say; what it
// cannot is an error that names it, and ErrNotSaid is matched. There are no secrets in it.
func Generate(pod *supervisor.Pod) ([]byte, error) {
	a, err := readApplied(pod.Sandbox)
	if err != nil {
		return nil, err
	}
	if a != nil {
		return encodePod(a.Pod)
	}
	p, err := handmade(pod)
	if err != nil {
		return nil, fmt.Errorf("generate %v: %w", pod, err)
	}
	return encodePod(p)
}

func encodePod(p *corev1.Pod) ([]byte, error) {
	out := p.DeepCopy()
	out.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	return encode(out)
}

// encode writes an object as YAML, without what is empty.
func encode(object any) ([]byte, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var tree map[string]any
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	delete(tree, "status")
	prune(tree)
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(tree); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

// prune takes away nulls, and what corev1 writes though it is empty.
func prune(m map[string]any) {
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, k)
		case json.Number:
			if n, err := v.Int64(); err == nil {
				m[k] = n
			}
		case map[string]any:
			prune(v)
			if k == "resources" && len(v) == 0 {
				delete(m, k)
			}
		case []any:
			for i, e := range v {
				switch e := e.(type) {
				case map[string]any:
					prune(e)
				case json.Number:
					if n, err := e.Int64(); err == nil {
						v[i] = n
					}
				}
			}
		}
	}
}

func notSaid(what string) error {
	return fmt.Errorf("%s: %w", what, ErrNotSaid)
}

// handmade says in Kubernetes' words what a pod is that somebody made by hand.
func handmade(pod *supervisor.Pod) (*corev1.Pod, error) {
	info, err := pod.Info()
	if err != nil {
		return nil, err
	}
	list, err := pod.List()
	if err != nil {
		return nil, err
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: info.Name, Labels: info.Labels, Annotations: maps.Clone(info.Annotations)}}
	// Those that podbox keeps for itself, apply would refuse.
	maps.DeleteFunc(p.Annotations, func(k, _ string) bool { return strings.HasPrefix(k, ourAnnotations) })
	errs := []error{describePod(info, &p.Spec, &p.ObjectMeta)}
	var policy supervisor.Policy
	for i, s := range list {
		c, err := describeContainer(info, s)
		if err != nil {
			errs = append(errs, fmt.Errorf("container %q: %w", s.Name, err))
		}
		if i > 0 && s.Restart != policy {
			errs = append(errs, fmt.Errorf("container %q: %w", s.Name, notSaid(fmt.Sprintf("restart policy %s, not %s as of others", s.Restart, policy))))
		}
		policy = s.Restart
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	if len(list) == 0 {
		errs = append(errs, notSaid("a pod without a container"))
	}
	p.Spec.RestartPolicy = map[supervisor.Policy]corev1.RestartPolicy{
		supervisor.Always: corev1.RestartPolicyAlways, supervisor.OnFailure: corev1.RestartPolicyOnFailure, supervisor.Never: corev1.RestartPolicyNever,
	}[policy]
	if len(p.Spec.Containers) > 0 {
		publish(info.Ports, &p.Spec.Containers[0])
	}
	return p, errors.Join(errs...)
}

func describePod(info *sandbox.Info, s *corev1.PodSpec, m *metav1.ObjectMeta) error {
	var errs []error
	shares := func(n sandbox.Namespace) bool { return slices.Contains(info.Share, n) }
	yes := true
	switch mode, _, _ := strings.Cut(info.Network, ":"); netns.Mode(mode) {
	case netns.ModePod:
	case netns.ModeHost:
		s.HostNetwork = true
	default:
		errs = append(errs, notSaid("network "+info.Network))
	}
	s.HostIPC = !shares(sandbox.IPC)
	if shares(sandbox.PID) {
		s.ShareProcessNamespace = &yes
	}
	if !shares(sandbox.UTS) {
		errs = append(errs, notSaid("a pod without a host name of its own"))
	}
	if info.Hostname != info.Name && !s.HostNetwork {
		s.HostnameOverride = &info.Hostname
	}
	annotate := func(key, value string) {
		if m.Annotations == nil {
			m.Annotations = map[string]string{}
		}
		m.Annotations[key] = value
	}
	if info.ShmSize != 0 && info.ShmSize != ipcns.DefaultShmSize {
		annotate(shmAnnotation, resource.NewQuantity(info.ShmSize, resource.BinarySI).String())
	}
	describeTraffic(info, annotate)
	for _, h := range info.Hosts {
		s.HostAliases = append(s.HostAliases, corev1.HostAlias{IP: h.IP.String(), Hostnames: []string{h.Name}})
	}
	describeDNS(info.DNS, s)
	for _, k := range slices.Sorted(maps.Keys(info.Sysctls)) {
		if s.SecurityContext == nil {
			s.SecurityContext = &corev1.PodSecurityContext{}
		}
		s.SecurityContext.Sysctls = append(s.SecurityContext.Sysctls, corev1.Sysctl{Name: k, Value: info.Sysctls[k]})
	}
	if l := info.Limits; l.Memory != 0 || l.CPU != 0 {
		s.Resources = &corev1.ResourceRequirements{Limits: limitList(l.Memory, l.CPU)}
	}
	if info.Limits.PIDs != 0 {
		errs = append(errs, notSaid("a limit of processes"))
	}
	for _, v := range info.Volumes {
		to, err := describeVolume(v, s)
		errs = append(errs, err)
		s.Volumes = append(s.Volumes, to)
	}
	return errors.Join(errs...)
}

func limitList(memory, cpu int64) corev1.ResourceList {
	l := corev1.ResourceList{}
	if memory != 0 {
		l[corev1.ResourceMemory] = *resource.NewQuantity(memory, resource.BinarySI)
	}
	if cpu != 0 {
		l[corev1.ResourceCPU] = *resource.NewMilliQuantity(cpu, resource.DecimalSI)
	}
	return l
}

func describeDNS(d sandbox.DNS, s *corev1.PodSpec) {
	if len(d.Servers)+len(d.Search)+len(d.Options) == 0 {
		return
	}
	c := &corev1.PodDNSConfig{Searches: d.Search}
	for _, a := range d.Servers {
		c.Nameservers = append(c.Nameservers, a.String())
	}
	for _, o := range d.Options {
		name, value, has := strings.Cut(o, ":")
		to := corev1.PodDNSConfigOption{Name: name}
		if has {
			to.Value = &value
		}
		c.Options = append(c.Options, to)
	}
	s.DNSConfig = c
	if d.Only || !d.Merge && len(d.Servers) > 0 {
		s.DNSPolicy = corev1.DNSNone
	}
}

func describeVolume(v volumes.Volume, s *corev1.PodSpec) (to corev1.Volume, err error) {
	to.Name = v.Name
	size := func(n int64) *resource.Quantity {
		if n == 0 {
			return nil
		}
		return resource.NewQuantity(n, resource.BinarySI)
	}
	switch {
	case v.Memory != nil:
		to.EmptyDir = &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: size(v.Memory.Size)}
	case v.HostPath != nil:
		to.HostPath = &corev1.HostPathVolumeSource{Path: v.HostPath.Path}
		if t := corev1.HostPathType(v.HostPath.Type); t != "" {
			to.HostPath.Type = &t
		}
	case v.Claim != nil:
		to.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: v.Claim.Name}
	case v.Files != nil:
		err = notSaid("volume " + v.Name + ", which has files that are in no ConfigMap or Secret")
	default:
		to.EmptyDir = &corev1.EmptyDirVolumeSource{}
		if v.Disk != nil {
			to.EmptyDir.SizeLimit = size(v.Disk.Size)
		}
	}
	if v.FSGroup != nil {
		g := int64(*v.FSGroup)
		if s.SecurityContext == nil {
			s.SecurityContext = &corev1.PodSecurityContext{}
		}
		s.SecurityContext.FSGroup = &g
	}
	return to, err
}

// publish says which ports of the host are a pod's: on its first container, for all share
// its address.
func publish(ports []netns.Port, c *corev1.Container) {
	for _, p := range ports {
		for i := range max(p.Count, 1) {
			to := corev1.ContainerPort{
				ContainerPort: int32(p.Port) + int32(i), HostPort: int32(p.HostPort) + int32(i),
				Protocol: corev1.Protocol(strings.ToUpper(string(p.WithDefaults().Protocol))),
			}
			if p.HostIP.IsValid() {
				to.HostIP = p.HostIP.String()
			}
			c.Ports = append(c.Ports, to)
		}
	}
}

// describeContainer says what a container is, as far as podbox run can have made it.
func describeContainer(info *sandbox.Info, s *supervisor.Status) (c corev1.Container, err error) {
	c = corev1.Container{Name: s.Name, Image: s.Image, Stdin: s.Stdin}
	o := s.Spec
	if s.ImageID == "" {
		return c, notSaid("a root that is not an image")
	}
	if s.Runtime != "" {
		return c, notSaid("another OCI runtime")
	}
	p := o.Process
	// What was expanded is not to be again.
	for _, w := range p.Args {
		c.Command = append(c.Command, strings.ReplaceAll(w, "$(", "$$("))
	}
	c.WorkingDir, c.TTY = p.Cwd, p.Terminal
	for _, e := range p.Env {
		name, value, _ := strings.Cut(e, "=")
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: strings.ReplaceAll(value, "$(", "$$(")})
	}
	uid, gid := int64(p.User.UID), int64(p.User.GID)
	escalate := !p.NoNewPrivileges
	c.SecurityContext = &corev1.SecurityContext{RunAsUser: &uid, RunAsGroup: &gid, AllowPrivilegeEscalation: &escalate}
	if o.Root.Readonly {
		c.SecurityContext.ReadOnlyRootFilesystem = &o.Root.Readonly
	}
	describeCapabilities(p, c.SecurityContext)
	if r := o.Linux.Resources; r != nil {
		var memory, cpu int64
		if r.Memory != nil && r.Memory.Limit != nil {
			memory = *r.Memory.Limit
		}
		if r.CPU != nil && r.CPU.Quota != nil && r.CPU.Period != nil && *r.CPU.Quota > 0 {
			cpu = *r.CPU.Quota * 1000 / int64(*r.CPU.Period)
		}
		if l := limitList(memory, cpu); len(l) > 0 {
			c.Resources.Limits = l
		}
	}
	errs := []error{describeMounts(info, o, &c)}
	if len(o.Linux.UIDMappings) > 0 {
		errs = append(errs, notSaid("a mapping of users of its own"))
	}
	if len(o.Linux.Devices) > 0 {
		errs = append(errs, notSaid("devices"))
	}
	if s.StopSignal != "" && s.StopSignal != unix.SignalName(unix.SIGTERM) {
		errs = append(errs, notSaid("stop signal "+s.StopSignal+" but of the image"))
	}
	return c, errors.Join(errs...)
}

// describeCapabilities says which a container has more, and which less, than by default.
func describeCapabilities(p *specs.Process, s *corev1.SecurityContext) {
	if p.Capabilities == nil {
		s.Capabilities = &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}
		return
	}
	var caps corev1.Capabilities
	for _, name := range launcher.Capabilities() {
		has, usual := slices.Contains(p.Capabilities.Bounding, name), slices.Contains(defaultCapabilities, name)
		short := corev1.Capability(strings.TrimPrefix(name, "CAP_"))
		switch {
		case has && !usual:
			caps.Add = append(caps.Add, short)
		case usual && !has:
			caps.Drop = append(caps.Drop, short)
		}
	}
	if len(caps.Add)+len(caps.Drop) > 0 {
		s.Capabilities = &caps
	}
}

// describeMounts says where volumes are.
func describeMounts(info *sandbox.Info, o *specs.Spec, c *corev1.Container) error {
	usual := launcher.Default("/").Mounts
	var errs []error
	for _, m := range o.Mounts {
		if m.Type != launcher.VolumeType {
			isUsual := m.Destination == "/sys/fs/cgroup" || slices.ContainsFunc(usual, func(u specs.Mount) bool { return u.Destination == m.Destination && u.Type == m.Type })
			if !isUsual {
				errs = append(errs, notSaid(fmt.Sprintf("a mount of %s at %s that is no volume of the pod", m.Type, m.Destination)))
			}
			continue
		}
		if !slices.ContainsFunc(info.Volumes, func(v volumes.Volume) bool { return v.Name == m.Source }) {
			continue
		}
		to := corev1.VolumeMount{Name: m.Source, MountPath: path.Clean(m.Destination)}
		for _, opt := range m.Options {
			sub, isSub := strings.CutPrefix(opt, "subpath=")
			switch {
			case opt == "ro":
				to.ReadOnly = true
			case isSub:
				to.SubPath = sub
			}
		}
		c.VolumeMounts = append(c.VolumeMounts, to)
	}
	return errors.Join(errs...)
}
