package kube

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podbox/podbox/supervisor"
)

// A Whole is a pod that was applied, with all that it takes to apply it where nothing is.
type Whole struct {
	// Text is the manifest: the ConfigMaps that the pod is made of, and the pod.
	Text []byte
	// Grace is how many seconds its containers have to end.
	Grace int64
}

// GenerateWhole returns the manifest of a pod that was applied, and nil of another. A Secret
// that the pod needs is an error, and ErrNotSaid is matched: its contents are not written.
func GenerateWhole(pod *supervisor.Pod) (*Whole, error) {
	a, err := readApplied(pod.Sandbox)
	if err != nil || a == nil {
		return nil, err
	}
	o, err := openState(pod.Runtime()).load()
	if err != nil {
		return nil, err
	}
	named := referred(a.Pod)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(named.secrets)) {
		if o.secrets[key(a.Pod.Namespace, name)] != nil || !named.secrets[name] {
			errs = append(errs, notSaid(fmt.Sprintf("secret %q", name)))
		}
	}
	var docs [][]byte
	for _, name := range slices.Sorted(maps.Keys(named.configMaps)) {
		c := o.configMaps[key(a.Pod.Namespace, name)]
		switch {
		case c == nil && named.configMaps[name]: // it can be without
		case c == nil:
			errs = append(errs, notSaid(fmt.Sprintf("configmap %q, which is not there any more", name)))
		default:
			c = c.DeepCopy()
			c.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
			text, err := encode(c)
			docs, errs = append(docs, text), append(errs, err)
		}
	}
	text, err := Generate(pod)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("generate %v: %w", pod, err)
	}
	w := &Whole{Text: bytes.Join(append(docs, text), []byte("---\n")), Grace: corev1.DefaultTerminationGracePeriodSeconds}
	if s := a.Pod.Spec.TerminationGracePeriodSeconds; s != nil {
		w.Grace = *s
	}
	return w, nil
}

// A references has the names of objects that a pod refers to, and whether it can be without.
type references struct{ configMaps, secrets map[string]bool }

func add(to map[string]bool, name string, optional *bool) {
	without, known := to[name]
	to[name] = optional != nil && *optional && (without || !known)
}

// referred returns what a pod refers to.
func referred(p *corev1.Pod) references {
	r := references{map[string]bool{}, map[string]bool{}}
	without := true // the image may be public, or here
	for _, ref := range p.Spec.ImagePullSecrets {
		add(r.secrets, ref.Name, &without)
	}
	for _, v := range p.Spec.Volumes {
		r.volume(v)
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, from := range c.EnvFrom {
			if m := from.ConfigMapRef; m != nil {
				add(r.configMaps, m.Name, m.Optional)
			}
			if s := from.SecretRef; s != nil {
				add(r.secrets, s.Name, s.Optional)
			}
		}
		for _, v := range c.Env {
			if v.ValueFrom == nil {
				continue
			}
			if m := v.ValueFrom.ConfigMapKeyRef; m != nil {
				add(r.configMaps, m.Name, m.Optional)
			}
			if s := v.ValueFrom.SecretKeyRef; s != nil {
				add(r.secrets, s.Name, s.Optional)
			}
		}
	}
	return r
}

func (r references) volume(v corev1.Volume) {
	if v.ConfigMap != nil {
		add(r.configMaps, v.ConfigMap.Name, v.ConfigMap.Optional)
	}
	if v.Secret != nil {
		add(r.secrets, v.Secret.SecretName, v.Secret.Optional)
	}
	if v.Projected == nil {
		return
	}
	for _, s := range v.Projected.Sources {
		if s.ConfigMap != nil {
			add(r.configMaps, s.ConfigMap.Name, s.ConfigMap.Optional)
		}
		if s.Secret != nil {
			add(r.secrets, s.Secret.Name, s.Secret.Optional)
		}
	}
}
