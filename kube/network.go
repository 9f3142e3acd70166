package kube

import (
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

var hostNetwork = netns.Host()

// ports are those of the host at which the pod's are published.
func (t *translation) ports(*sandbox.Spec) {
	for _, p := range places(&t.pod.Spec) {
		for i, port := range p.c.Ports {
			if port.HostPort != 0 {
				t.add(p.at.Child("ports").Index(i).Child("hostPort"), "not supported")
			}
		}
	}
}
