package kube

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/launcher"
)

// maxContainers is far above what a pod is for.
const maxContainers = 100

// A containerCheck looks at one container of a pod.
type containerCheck struct {
	*faults
	pod *corev1.PodSpec
	c   *corev1.Container
	at  *field.Path
}

func validateContainers(f *faults, s *corev1.PodSpec, at *field.Path) {
	if len(s.Containers) == 0 {
		f.add(at.Child("containers"), "want at least one")
	}
	if n := len(s.Containers) + len(s.InitContainers); n > maxContainers {
		f.want(at.Child("containers"), n, fmt.Sprintf("at most %d", maxContainers))
		return
	}
	seen := map[string]bool{}
	ports := map[string]bool{}
	for _, group := range []struct {
		name string
		list []corev1.Container
	}{{"initContainers", s.InitContainers}, {"containers", s.Containers}} {
		for i := range group.list {
			c := &containerCheck{f, s, &group.list[i], at.Child(group.name).Index(i)}
			c.name(seen)
			c.image()
			c.ports(ports)
			c.env()
			c.mounts()
			validateResources(f, &c.c.Resources, c.at.Child("resources"))
			c.restarts(group.name == "initContainers")
			c.care(group.name == "initContainers" && !isSidecar(c.c))
			c.security()
		}
	}
}

// isSidecar reports whether an init container runs beside those that come later.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func (c *containerCheck) name(seen map[string]bool) {
	name, at := c.c.Name, c.at.Child("name")
	switch {
	case !c.required(at, name, "a name"):
	case !names.IsLabel(name):
		c.want(at, name, wantLabel)
	case seen[name]:
		c.want(at, name, "each name once")
	}
	seen[name] = true
}

func (c *containerCheck) image() {
	at := c.at.Child("image")
	if c.required(at, c.c.Image, "an image") && strings.TrimSpace(c.c.Image) != c.c.Image {
		c.want(at, c.c.Image, "no white space around it")
	}
	oneOf(c.faults, c.at.Child("imagePullPolicy"), c.c.ImagePullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	if d := c.c.WorkingDir; d != "" && !path.IsAbs(d) {
		c.want(c.at.Child("workingDir"), d, "an absolute path")
	}
	if p := c.c.TerminationMessagePath; !path.IsAbs(p) {
		c.want(c.at.Child("terminationMessagePath"), p, "an absolute path")
	}
	oneOf(c.faults, c.at.Child("terminationMessagePolicy"), c.c.TerminationMessagePolicy, corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)
}

// ports are what the container is reached by; host has those of the host that the pod's
// other containers have.
func (c *containerCheck) ports(host map[string]bool) {
	seen := map[string]bool{}
	for i, p := range c.c.Ports {
		at := c.at.Child("ports").Index(i)
		if p.Name != "" {
			c.all(at.Child("name"), p.Name, validation.IsValidPortName(p.Name))
			if seen[p.Name] {
				c.want(at.Child("name"), p.Name, "each name once")
			}
			seen[p.Name] = true
		}
		c.between(at.Child("containerPort"), int64(p.ContainerPort), 1, 65535)
		oneOf(c.faults, at.Child("protocol"), p.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
		if p.HostIP != "" {
			if ip, err := netip.ParseAddr(p.HostIP); err != nil || ip.Zone() != "" {
				c.want(at.Child("hostIP"), p.HostIP, "an IP address")
			}
		}
		if p.HostPort == 0 {
			continue
		}
		c.between(at.Child("hostPort"), int64(p.HostPort), 1, 65535)
		if c.pod.HostNetwork && p.HostPort != p.ContainerPort {
			c.want(at.Child("hostPort"), p.HostPort, fmt.Sprintf("containerPort, %d, with hostNetwork", p.ContainerPort))
		}
		key := fmt.Sprintf("%s/%d/%s", p.HostIP, p.HostPort, p.Protocol)
		if host[key] {
			c.want(at.Child("hostPort"), p.HostPort, "each port once")
		}
		host[key] = true
	}
}

func (c *containerCheck) env() {
	for i, e := range c.c.Env {
		at := c.at.Child("env").Index(i)
		if c.required(at.Child("name"), e.Name, "a name") {
			c.all(at.Child("name"), e.Name, validation.IsRelaxedEnvVarName(e.Name))
		}
		if strings.Contains(e.Value, "\x00") {
			c.add(at.Child("value"), "want no zero byte")
		}
		v := e.ValueFrom
		if v == nil {
			continue
		}
		if e.Value != "" {
			c.add(at.Child("valueFrom"), "want none with a value")
		}
		at = at.Child("valueFrom")
		switch c.one(at, []choice{
			{"fieldRef", v.FieldRef != nil},
			{"resourceFieldRef", v.ResourceFieldRef != nil},
			{"configMapKeyRef", v.ConfigMapKeyRef != nil},
			{"secretKeyRef", v.SecretKeyRef != nil},
		}) {
		case "fieldRef":
			validateFieldRef(c.faults, v.FieldRef, envFields, at.Child("fieldRef"))
		case "resourceFieldRef":
			validateResourceRef(c.faults, &corev1.Pod{Spec: *c.pod}, v.ResourceFieldRef, false, at.Child("resourceFieldRef"))
		case "configMapKeyRef":
			at = at.Child("configMapKeyRef")
			c.required(at.Child("name"), v.ConfigMapKeyRef.Name, "the name of a ConfigMap")
			if c.required(at.Child("key"), v.ConfigMapKeyRef.Key, "a key") {
				c.all(at.Child("key"), v.ConfigMapKeyRef.Key, validation.IsConfigMapKey(v.ConfigMapKeyRef.Key))
			}
		case "secretKeyRef":
			at = at.Child("secretKeyRef")
			c.required(at.Child("name"), v.SecretKeyRef.Name, "the name of a Secret")
			if c.required(at.Child("key"), v.SecretKeyRef.Key, "a key") {
				c.all(at.Child("key"), v.SecretKeyRef.Key, validation.IsConfigMapKey(v.SecretKeyRef.Key))
			}
		}
	}
	for i, e := range c.c.EnvFrom {
		at := c.at.Child("envFrom").Index(i)
		if e.Prefix != "" {
			c.all(at.Child("prefix"), e.Prefix, validation.IsRelaxedEnvVarName(e.Prefix))
		}
		switch c.one(at, []choice{{"configMapRef", e.ConfigMapRef != nil}, {"secretRef", e.SecretRef != nil}}) {
		case "configMapRef":
			c.required(at.Child("configMapRef", "name"), e.ConfigMapRef.Name, "the name of a ConfigMap")
		case "secretRef":
			c.required(at.Child("secretRef", "name"), e.SecretRef.Name, "the name of a Secret")
		}
	}
}

func (c *containerCheck) mounts() {
	seen := map[string]bool{}
	for i, m := range c.c.VolumeMounts {
		at := c.at.Child("volumeMounts").Index(i)
		known := slices.ContainsFunc(c.pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if c.required(at.Child("name"), m.Name, "the name of a volume") && !known {
			c.want(at.Child("name"), m.Name, "the name of a volume of the pod")
		}
		switch clean := path.Clean(m.MountPath); {
		case !c.required(at.Child("mountPath"), m.MountPath, "an absolute path"):
		case !path.IsAbs(m.MountPath) || clean == "/" || strings.Contains(m.MountPath, "\x00") || slices.Contains(strings.Split(m.MountPath, "/"), ".."):
			c.want(at.Child("mountPath"), m.MountPath, `an absolute path without "..", and not /`)
		case seen[clean]:
			c.want(at.Child("mountPath"), m.MountPath, "each path once")
		default:
			seen[clean] = true
		}
		for _, sub := range []struct{ name, path string }{{"subPath", m.SubPath}, {"subPathExpr", m.SubPathExpr}} {
			if sub.path != "" && !isLocalPath(sub.path) {
				c.want(at.Child(sub.name), sub.path, `a relative path without ".."`)
			}
		}
		if i := slices.IndexFunc(c.pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }); i >= 0 && c.pod.Volumes[i].Image != nil && m.SubPath+m.SubPathExpr != "" {
			c.add(at.Child("subPath"), "want none of a volume that is an image")
		}
		if m.SubPath != "" && m.SubPathExpr != "" {
			c.add(at.Child("subPathExpr"), "want none with subPath")
		}
		c.mountOptions(m, at)
	}
}

func (c *containerCheck) mountOptions(m corev1.VolumeMount, at *field.Path) {
	none := true
	if p := m.MountPropagation; p != nil {
		oneOf(c.faults, at.Child("mountPropagation"), *p, corev1.MountPropagationNone, corev1.MountPropagationHostToContainer, corev1.MountPropagationBidirectional)
		if *p == corev1.MountPropagationBidirectional && !isPrivileged(c.c) {
			c.add(at.Child("mountPropagation"), "Bidirectional: want a privileged container")
		}
		none = *p == corev1.MountPropagationNone
	}
	r := m.RecursiveReadOnly
	if r == nil {
		return
	}
	oneOf(c.faults, at.Child("recursiveReadOnly"), *r, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyIfPossible, corev1.RecursiveReadOnlyEnabled)
	if *r == corev1.RecursiveReadOnlyDisabled {
		return
	}
	switch {
	case !m.ReadOnly:
		c.add(at.Child("recursiveReadOnly"), fmt.Sprintf("%s: want readOnly: true", *r))
	case !none:
		c.add(at.Child("recursiveReadOnly"), fmt.Sprintf("%s: want mountPropagation None", *r))
	}
}

func isPrivileged(c *corev1.Container) bool {
	return c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
}

func (c *containerCheck) restarts(init bool) {
	at := c.at.Child("restartPolicy")
	if p := c.c.RestartPolicy; p != nil {
		if c.required(at, string(*p), "Always, OnFailure or Never") {
			oneOf(c.faults, at, *p, corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyOnFailure, corev1.ContainerRestartPolicyNever)
		}
	}
	rules := c.at.Child("restartPolicyRules")
	switch {
	case len(c.c.RestartPolicyRules) == 0:
		return
	case c.c.RestartPolicy == nil:
		c.add(rules, "want restartPolicy with them")
	case init && isSidecar(c.c):
		c.add(rules, "want none of a sidecar")
	case len(c.c.RestartPolicyRules) > 20:
		c.want(rules, len(c.c.RestartPolicyRules), "at most 20")
	}
	for i, r := range c.c.RestartPolicyRules {
		at := rules.Index(i)
		if c.required(at.Child("action"), string(r.Action), "Restart") {
			oneOf(c.faults, at.Child("action"), r.Action, corev1.ContainerRestartRuleActionRestart)
		}
		if r.ExitCodes == nil {
			c.add(at.Child("exitCodes"), "want an operator and values")
			continue
		}
		at = at.Child("exitCodes")
		if c.required(at.Child("operator"), string(r.ExitCodes.Operator), "In or NotIn") {
			oneOf(c.faults, at.Child("operator"), r.ExitCodes.Operator, corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)
		}
		if n := len(r.ExitCodes.Values); n == 0 || n > 255 {
			c.want(at.Child("values"), n, "from 1 to 255 of them")
		}
		for j, v := range r.ExitCodes.Values {
			c.between(at.Child("values").Index(j), int64(v), 0, 255)
		}
	}
}

// care is about probes and hooks. plain is an init container that is no sidecar: it runs to
// its end, and nobody asks it how it is.
func (c *containerCheck) care(plain bool) {
	probes := []struct {
		name  string
		probe *corev1.Probe
	}{{"startupProbe", c.c.StartupProbe}, {"livenessProbe", c.c.LivenessProbe}, {"readinessProbe", c.c.ReadinessProbe}}
	for _, p := range probes {
		switch at := c.at.Child(p.name); {
		case p.probe == nil:
		case plain:
			c.add(at, "want none of an init container that is no sidecar")
		default:
			c.probe(p.probe, p.name == "readinessProbe", at)
		}
	}
	l, at := c.c.Lifecycle, c.at.Child("lifecycle")
	if l == nil {
		return
	}
	if plain {
		c.add(at, "want none of an init container that is no sidecar")
		return
	}
	for _, h := range []struct {
		name string
		hook *corev1.LifecycleHandler
	}{{"postStart", l.PostStart}, {"preStop", l.PreStop}} {
		if h.hook != nil {
			c.hook(h.hook, at.Child(h.name))
		}
	}
	if s := l.StopSignal; s != nil {
		switch at := at.Child("stopSignal"); {
		case signalNumber(string(*s)) == 0:
			c.want(at, string(*s), "a signal such as SIGUSR1")
		case c.pod.OS == nil:
			c.add(at, "want spec.os.name: linux with it")
		}
	}
}

// signalNumber returns that of a signal by its name; 0 if there is none.
func signalNumber(name string) unix.Signal {
	if n := unix.SignalNum(name); n != 0 {
		return n
	}
	// The kernel's real-time signals are 32 to 64; two of them are the C library's.
	var n int
	for _, form := range []struct {
		format string
		base   int
	}{{"SIGRTMIN+%d", 34}, {"SIGRTMAX-%d", -64}} {
		if _, err := fmt.Sscanf(name, form.format, &n); err == nil && n >= 0 && n <= 30 {
			if form.base < 0 {
				n = -n
			}
			return unix.Signal(max(form.base, -form.base) + n)
		}
	}
	switch name {
	case "SIGRTMIN":
		return 34
	case "SIGRTMAX":
		return 64
	}
	return 0
}

func (c *containerCheck) probe(p *corev1.Probe, readiness bool, at *field.Path) {
	for _, n := range []struct {
		name string
		n    int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds},
		{"timeoutSeconds", p.TimeoutSeconds},
		{"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold},
		{"failureThreshold", p.FailureThreshold},
	} {
		if n.n < 0 {
			c.want(at.Child(n.name), n.n, "no negative number")
		}
	}
	if !readiness && p.SuccessThreshold > 1 {
		c.want(at.Child("successThreshold"), p.SuccessThreshold, "1 but for readiness")
	}
	if g := p.TerminationGracePeriodSeconds; g != nil {
		if readiness {
			c.add(at.Child("terminationGracePeriodSeconds"), "want none of a readiness probe: it ends no container")
		} else {
			c.between(at.Child("terminationGracePeriodSeconds"), *g, 1, maxDeadline)
		}
	}
	switch c.one(at, []choice{{"exec", p.Exec != nil}, {"httpGet", p.HTTPGet != nil}, {"tcpSocket", p.TCPSocket != nil}, {"grpc", p.GRPC != nil}}) {
	case "exec":
		c.command(p.Exec, at.Child("exec"))
	case "httpGet":
		c.http(p.HTTPGet, at.Child("httpGet"))
	case "tcpSocket":
		c.port(p.TCPSocket.Port, at.Child("tcpSocket", "port"))
	case "grpc":
		at = at.Child("grpc")
		c.between(at.Child("port"), int64(p.GRPC.Port), 1, 65535)
		if m := p.GRPC.Mode; m != nil {
			oneOf(c.faults, at.Child("mode"), *m, corev1.GRPCProbeModePlaintext)
		}
	}
}

func (c *containerCheck) hook(h *corev1.LifecycleHandler, at *field.Path) {
	switch c.one(at, []choice{{"exec", h.Exec != nil}, {"httpGet", h.HTTPGet != nil}, {"tcpSocket", h.TCPSocket != nil}, {"sleep", h.Sleep != nil}}) {
	case "exec":
		c.command(h.Exec, at.Child("exec"))
	case "httpGet":
		c.http(h.HTTPGet, at.Child("httpGet"))
	case "tcpSocket":
		c.port(h.TCPSocket.Port, at.Child("tcpSocket", "port"))
	case "sleep":
		c.between(at.Child("sleep", "seconds"), h.Sleep.Seconds, 0, *c.pod.TerminationGracePeriodSeconds)
	}
}

func (c *containerCheck) command(e *corev1.ExecAction, at *field.Path) {
	if len(e.Command) == 0 || e.Command[0] == "" {
		c.add(at.Child("command"), "want a command line")
	}
}

func (c *containerCheck) http(h *corev1.HTTPGetAction, at *field.Path) {
	c.port(h.Port, at.Child("port"))
	oneOf(c.faults, at.Child("scheme"), h.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
	if h.Protocol != nil {
		oneOf(c.faults, at.Child("protocol"), *h.Protocol, corev1.HTTPProtocolHTTP1)
	}
	for i, header := range h.HTTPHeaders {
		at := at.Child("httpHeaders").Index(i)
		if c.required(at.Child("name"), header.Name, "a name") {
			c.all(at.Child("name"), header.Name, validation.IsHTTPHeaderName(header.Name))
		}
		if strings.ContainsAny(header.Value, "\r\n\x00") {
			c.add(at.Child("value"), "want one line")
		}
	}
}

// port is a number, or names a port of the container.
func (c *containerCheck) port(p intstr.IntOrString, at *field.Path) {
	if p.Type == intstr.Int {
		c.between(at, int64(p.IntVal), 1, 65535)
		return
	}
	if portNumber(c.c, p) == 0 {
		c.want(at, p.StrVal, "a number, or the name of a port of the container")
	}
}

// portNumber returns the number of a port; 0 if the container has none of that name.
func portNumber(c *corev1.Container, p intstr.IntOrString) uint16 {
	if p.Type == intstr.Int {
		return uint16(p.IntVal)
	}
	for _, own := range c.Ports {
		if own.Name == p.StrVal {
			return uint16(own.ContainerPort)
		}
	}
	return 0
}

func (c *containerCheck) security() {
	s, at := c.c.SecurityContext, c.at.Child("securityContext")
	if s == nil {
		return
	}
	for _, id := range []struct {
		name string
		id   *int64
	}{{"runAsUser", s.RunAsUser}, {"runAsGroup", s.RunAsGroup}} {
		if id.id != nil {
			c.between(at.Child(id.name), *id.id, 0, maxID)
		}
	}
	sysAdmin := false
	if caps := s.Capabilities; caps != nil {
		for _, l := range []struct {
			name string
			list []corev1.Capability
		}{{"add", caps.Add}, {"drop", caps.Drop}} {
			for i, name := range l.list {
				full := capability(name)
				if full != "ALL" && !slices.Contains(launcher.Capabilities(), full) {
					c.want(at.Child("capabilities", l.name).Index(i), string(name), "a capability such as NET_ADMIN, or ALL")
				}
				sysAdmin = sysAdmin || l.name == "add" && (full == "ALL" || full == "CAP_SYS_ADMIN")
			}
		}
	}
	if e := s.AllowPrivilegeEscalation; e != nil && !*e && (sysAdmin || isPrivileged(c.c)) {
		c.add(at.Child("allowPrivilegeEscalation"), "false: want true of a container that is privileged or has SYS_ADMIN")
	}
	if p := s.ProcMount; p != nil {
		oneOf(c.faults, at.Child("procMount"), *p, corev1.DefaultProcMount, corev1.UnmaskedProcMount)
		if *p == corev1.UnmaskedProcMount && (c.pod.HostUsers == nil || *c.pod.HostUsers) {
			c.add(at.Child("procMount"), "Unmasked: want hostUsers: false")
		}
	}
	validateProfiles(c.faults, s.SeccompProfile, s.AppArmorProfile, at)
}

// capability returns the whole name of a capability.
func capability(name corev1.Capability) string {
	full := strings.ToUpper(string(name))
	if full == "ALL" || strings.HasPrefix(full, "CAP_") {
		return full
	}
	return "CAP_" + full
}
