package kube

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

// Annotations about a pod's traffic. The first two are those of Kubernetes; the Pod API has
// no words for policies, those are objects of a cluster.
const (
	ingressAnnotation = "kubernetes.io/ingress-bandwidth"
	egressAnnotation  = "kubernetes.io/egress-bandwidth"
	fromAnnotation    = "podbox.io/allow-from"
	toAnnotation      = "podbox.io/allow-to"
	isolateAnnotation = "podbox.io/isolate"
)

// trafficAnnotations are all of them.
var trafficAnnotations = [...]string{ingressAnnotation, egressAnnotation, fromAnnotation, toAnnotation, isolateAnnotation}

// traffic reads them. wrong is told what is not as it should be.
func traffic(annotations map[string]string, wrong func(key string, err error)) (b netns.Bandwidth, p netns.Policy) {
	for _, r := range []struct {
		key  string
		rate *uint64
	}{{ingressAnnotation, &b.Ingress}, {egressAnnotation, &b.Egress}} {
		if v, ok := annotations[r.key]; ok {
			n, err := netns.ParseRate(v)
			if err == nil && n == 0 {
				err = fmt.Errorf("%q: %w: want from 1k to 1P bits a second", v, sandbox.ErrInvalid)
			}
			if err != nil {
				wrong(r.key, err)
			}
			*r.rate = n
		}
	}
	for _, way := range []struct {
		key   string
		peers *[]netns.Peer
	}{{fromAnnotation, &p.From}, {toAnnotation, &p.To}} {
		v, ok := annotations[way.key]
		if !ok {
			continue
		}
		words := strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
		all, err := netns.ParsePeers(words)
		if len(words) == 0 {
			err = fmt.Errorf("%w: want none, for nobody, or whom to allow", sandbox.ErrInvalid)
		}
		if err != nil {
			wrong(way.key, err)
		}
		*way.peers = all
	}
	if v, ok := annotations[isolateAnnotation]; ok {
		if p.Isolate = v; v == "" {
			wrong(isolateAnnotation, fmt.Errorf("%w: want the key of a label", sandbox.ErrInvalid))
		}
	}
	return b, p
}

// validateTraffic reports what is wrong of them, for a pod.
func validateTraffic(f *faults, pod *corev1.Pod) {
	at := field.NewPath("metadata", "annotations")
	sound := true
	_, p := traffic(pod.Annotations, func(key string, err error) {
		sound = false
		f.add(at.Key(key), err.Error())
	})
	for _, key := range trafficAnnotations {
		if _, ok := pod.Annotations[key]; ok && pod.Spec.HostNetwork {
			f.add(at.Key(key), "want none with hostNetwork: the network is the host's")
		}
	}
	if !sound {
		return
	}
	if err := p.Validate(); err != nil {
		f.add(at, err.Error())
	}
	if _, ok := pod.Labels[p.Isolate]; p.Isolate != "" && !ok {
		f.want(at.Key(isolateAnnotation), p.Isolate, "the key of a label of the pod")
	}
}

// traffic sets them; they are valid.
func (t *translation) traffic(s *sandbox.Spec) {
	s.Bandwidth, s.Policy = traffic(t.pod.Annotations, func(string, error) {})
}

// describeTraffic is the inverse.
func describeTraffic(info *sandbox.Info, annotate func(key, value string)) {
	for key, rate := range map[string]uint64{ingressAnnotation: info.Bandwidth.Ingress, egressAnnotation: info.Bandwidth.Egress} {
		if rate != 0 {
			annotate(key, netns.FormatRate(rate))
		}
	}
	for key, peers := range map[string][]netns.Peer{fromAnnotation: info.Policy.From, toAnnotation: info.Policy.To} {
		words := make([]string, len(peers))
		for i, p := range peers {
			words[i] = p.String()
		}
		switch {
		case peers == nil:
		case len(peers) == 0:
			annotate(key, "none")
		default:
			annotate(key, strings.Join(words, " "))
		}
	}
	if info.Policy.Isolate != "" {
		annotate(isolateAnnotation, info.Policy.Isolate)
	}
}
