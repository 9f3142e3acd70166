package kube

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podbox/podbox/sandbox"
)

// An environment is that of a container, in the making.
type environment struct {
	names  []string // in the order in which they were first set
	values map[string]string
	secret map[string]bool // values that are of Secrets, or have such a one in them
	// declared are those that the manifest sets: $(VAR) knows no others.
	declared map[string]bool
	// told are secret variables that a command line has.
	told map[string]bool
}

func (e *environment) set(name, value string, secret bool) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
	e.secret[name] = secret
}

func (e *environment) list() []string {
	var out []string
	for _, n := range e.names {
		out = append(out, n+"="+e.values[n])
	}
	return out
}

func (e *environment) secretNames() []string {
	return slices.DeleteFunc(slices.Clone(e.names), func(n string) bool { return !e.secret[n] })
}

// expand replaces each $(NAME) by the value of that variable, if the manifest sets it before;
// $$ stands for one $. It reports whether a secret is in what it returns.
func (e *environment) expand(s string) (_ string, secret bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		end := -1
		if s[i] == '(' {
			end = strings.IndexByte(s[i:], ')')
		}
		switch {
		case s[i] == '$': // so that $$(NAME) is $(NAME)
			b.WriteByte('$')
		case end < 0: // of no other meaning
			b.WriteByte('$')
			b.WriteByte(s[i])
		default:
			name := s[i+1 : i+end]
			i += end
			if !e.declared[name] {
				b.WriteString("$(" + name + ")")
				continue
			}
			b.WriteString(e.values[name])
			secret = secret || e.secret[name]
		}
	}
	return b.String(), secret
}

// expandAll expands the words of a command line.
func (e *environment) expandAll(words []string) []string {
	var out []string
	for _, w := range words {
		expanded, secret := e.expand(w)
		if secret {
			for name := range e.declared {
				if e.secret[name] && strings.Contains(w, "$("+name+")") {
					e.told[name] = true
				}
			}
		}
		out = append(out, expanded)
	}
	return out
}

// env returns a container's environment: the image's, then what envFrom and env say.
func (t *translation) env(p place, image ImageConfig) *environment {
	e := &environment{values: map[string]string{}, secret: map[string]bool{}, declared: map[string]bool{}, told: map[string]bool{}}
	for _, v := range image.Env {
		if name, value, ok := strings.Cut(v, "="); ok && name != "" {
			e.set(name, value, false)
		}
	}
	if _, ok := e.values["PATH"]; !ok {
		e.set("PATH", defaultPath, false)
	}
	if p.c.TTY {
		e.set("TERM", "xterm", false)
	}
	e.set("HOSTNAME", t.hostname(), false)
	for i, from := range p.c.EnvFrom {
		t.envFrom(e, from, p.at.Child("envFrom").Index(i))
	}
	for i, v := range p.c.Env {
		at := p.at.Child("env").Index(i)
		value, secret := e.expand(v.Value)
		if v.ValueFrom != nil {
			var ok bool
			if value, ok = t.valueFrom(v.ValueFrom, p.c, at.Child("valueFrom")); !ok {
				continue
			}
			secret = v.ValueFrom.SecretKeyRef != nil
		}
		if strings.Contains(value, "\x00") {
			t.add(at, "its value has a zero byte")
			continue
		}
		e.set(v.Name, value, secret)
		e.declared[v.Name] = true
	}
	return e
}

// defaultPath is what a container has whose image has none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// hostname is what the pod's containers see as theirs.
func (t *translation) hostname() string {
	if t.pod.Spec.HostNetwork {
		return strings.ToLower(t.node)
	}
	var s sandbox.Spec
	podNames(t.pod, &s)
	if s.HostnameIsFQDN {
		return s.Hostname + "." + s.Domain
	}
	return s.Hostname
}

func (t *translation) envFrom(e *environment, from corev1.EnvFromSource, at *field.Path) {
	data := map[string]string{}
	secret := false
	switch {
	case from.ConfigMapRef != nil:
		m := t.wantConfigMap(from.ConfigMapRef.Name, from.ConfigMapRef.Optional, at.Child("configMapRef", "name"))
		if m == nil {
			return
		}
		data = m.Data
	case from.SecretRef != nil:
		s := t.wantSecret(from.SecretRef.Name, from.SecretRef.Optional, at.Child("secretRef", "name"))
		if s == nil {
			return
		}
		secret = true
		for k, v := range s.Data {
			data[k] = string(v)
		}
	}
	var left []string
	for _, k := range slices.Sorted(maps.Keys(data)) {
		name := from.Prefix + k
		if len(validation.IsRelaxedEnvVarName(name)) > 0 || strings.Contains(data[k], "\x00") {
			left = append(left, k)
			continue
		}
		e.set(name, data[k], secret)
		e.declared[name] = true
	}
	if len(left) > 0 {
		t.note(at, "left out, for they cannot be variables: "+strings.Join(left, ", "))
	}
}

// valueFrom returns the value of a variable; false if it is not to be set.
func (t *translation) valueFrom(v *corev1.EnvVarSource, c *corev1.Container, at *field.Path) (string, bool) {
	switch {
	case v.FieldRef != nil:
		return t.field(v.FieldRef.FieldPath), true
	case v.ResourceFieldRef != nil:
		if v.ResourceFieldRef.ContainerName != "" {
			c = findContainer(&t.pod.Spec, v.ResourceFieldRef.ContainerName)
		}
		return t.resourceField(v.ResourceFieldRef, c), true
	case v.ConfigMapKeyRef != nil:
		ref, at := v.ConfigMapKeyRef, at.Child("configMapKeyRef")
		m := t.wantConfigMap(ref.Name, ref.Optional, at.Child("name"))
		if m == nil {
			return "", false
		}
		value, ok := m.Data[ref.Key]
		if !ok && !is(ref.Optional) {
			t.add(at.Child("key"), fmt.Sprintf("%q: ConfigMap %q has no such key", ref.Key, ref.Name))
		}
		return value, ok
	case v.SecretKeyRef != nil:
		ref, at := v.SecretKeyRef, at.Child("secretKeyRef")
		s := t.wantSecret(ref.Name, ref.Optional, at.Child("name"))
		if s == nil {
			return "", false
		}
		value, ok := s.Data[ref.Key]
		if !ok && !is(ref.Optional) {
			t.add(at.Child("key"), fmt.Sprintf("%q: Secret %q has no such key", ref.Key, ref.Name))
		}
		return string(value), ok
	}
	return "", false
}

func is(b *bool) bool { return b != nil && *b }

func (t *translation) wantConfigMap(name string, optional *bool, at *field.Path) *corev1.ConfigMap {
	m := t.configMap(t.pod.Namespace, name)
	if m == nil && !is(optional) {
		t.add(at, fmt.Sprintf("%q: no such ConfigMap in namespace %s", name, t.pod.Namespace))
	}
	return m
}

func (t *translation) wantSecret(name string, optional *bool, at *field.Path) *corev1.Secret {
	s := t.secret(t.pod.Namespace, name)
	if s == nil && !is(optional) {
		t.add(at, fmt.Sprintf("%q: no such Secret in namespace %s", name, t.pod.Namespace))
	}
	return s
}

// field returns what a fieldRef names.
func (t *translation) field(name string) string {
	if m := subscript.FindStringSubmatch(name); m != nil {
		if m[1] == "labels" {
			return t.pod.Labels[m[2]]
		}
		return t.pod.Annotations[m[2]]
	}
	first := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return list[0]
	}
	switch name {
	case "metadata.name":
		return t.pod.Name
	case "metadata.namespace":
		return t.pod.Namespace
	case "metadata.uid":
		return t.uid
	case "metadata.labels":
		return pairsFile(t.pod.Labels)
	case "metadata.annotations":
		return pairsFile(t.pod.Annotations)
	case "spec.nodeName":
		if t.pod.Spec.NodeName != "" {
			return t.pod.Spec.NodeName
		}
		return t.node
	case "spec.serviceAccountName":
		if t.pod.Spec.ServiceAccountName == "" {
			return "default"
		}
		return t.pod.Spec.ServiceAccountName
	case "status.hostIP":
		return first(t.hostIPs)
	case "status.hostIPs":
		return strings.Join(t.hostIPs, ",")
	case "status.podIP":
		return first(t.podIPs)
	case "status.podIPs":
		return strings.Join(t.podIPs, ",")
	}
	return ""
}

// pairsFile returns labels or annotations as the kubelet writes them to files.
func pairsFile(m map[string]string) string {
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, fmt.Sprintf("%s=%q", k, m[k]))
	}
	return strings.Join(lines, "\n")
}
