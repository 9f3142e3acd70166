package kube

import (
	"math"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podbox/podbox/sandbox"
)

func resourceQuantity(s string) (int64, error) {
	q, err := resource.ParseQuantity(s)
	return q.Value(), err
}

// limits are those of the whole pod.
func (t *translation) limits(s *sandbox.Spec) {
	r := t.pod.Spec.Resources
	if r == nil {
		return
	}
	s.Limits.Memory = r.Limits.Memory().Value()
	s.Limits.CPU = r.Limits.Cpu().MilliValue()
}

// resources are what a container may use, as the kubelet asks for it.
func (t *translation) resources(p place, o *specs.Spec) {
	// What a container without a request weighs.
	const leastShares = 2
	r := o.Linux.Resources
	shares := uint64(max(leastShares, p.c.Resources.Requests.Cpu().MilliValue()*1024/1000))
	r.CPU = &specs.LinuxCPU{Shares: &shares}
	if limit := p.c.Resources.Limits.Cpu().MilliValue(); limit > 0 {
		l := (sandbox.Limits{CPU: limit}).Resources().CPU
		r.CPU.Quota, r.CPU.Period = l.Quota, l.Period
	}
	if limit := p.c.Resources.Limits.Memory().Value(); limit > 0 {
		r.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	}
	adj := t.oomScore(p.c)
	o.Process.OOMScoreAdj = &adj
}

// oomScore returns how soon the kernel ends a container for want of memory: who has asked
// for what it uses comes last. See the quality of service in Kubernetes' documentation.
func (t *translation) oomScore(c *corev1.Container) int {
	const guaranteed, bestEffort = -997, 1000
	all, none := true, true
	for _, p := range places(&t.pod.Spec) {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, limited := p.c.Resources.Limits[name]
			request, requested := p.c.Resources.Requests[name]
			all = all && limited && requested && limit.Cmp(request) == 0
			none = none && !limited && !requested
		}
	}
	switch capacity := t.capacity.Memory().Value(); {
	case all:
		return guaranteed
	case none || capacity == 0:
		return bestEffort
	default:
		adj := 1000 - int(1000*float64(c.Resources.Requests.Memory().Value())/float64(capacity))
		return min(max(adj, 1000+guaranteed), bestEffort-1)
	}
}

// resourceField returns what a resourceFieldRef names, in units of its divisor, rounded up.
func (t *translation) resourceField(ref *corev1.ResourceFieldSelector, c *corev1.Container) string {
	kind, name, _ := strings.Cut(ref.Resource, ".")
	list := c.Resources.Requests
	if kind == "limits" {
		list = c.Resources.Limits
	}
	q, ok := list[corev1.ResourceName(name)]
	if !ok && kind == "limits" || q.IsZero() && kind == "limits" {
		q = t.capacity[corev1.ResourceName(name)]
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	value, by := q.Value(), divisor.Value()
	if name == "cpu" {
		value, by = q.MilliValue(), divisor.MilliValue()
	}
	return strconv.FormatInt(int64(math.Ceil(float64(value)/float64(by))), 10)
}
