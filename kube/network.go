package kube

import (
	"net/netip"
	"strings"

	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

var hostNetwork = netns.Host()

// ports are those of the host at which the pod's are published.
func (t *translation) ports(s *sandbox.Spec) {
	for _, p := range places(&t.pod.Spec) {
		for i, port := range p.c.Ports {
			if port.HostPort == 0 {
				continue
			}
			n := netns.Port{
				HostPort: uint16(port.HostPort), Port: uint16(port.ContainerPort),
				Protocol: netns.Protocol(strings.ToLower(string(port.Protocol))),
			}
			if port.HostIP != "" {
				n.HostIP, _ = netip.ParseAddr(port.HostIP)
			}
			if err := n.Validate(); err != nil {
				t.add(p.at.Child("ports").Index(i).Child("hostPort"), err.Error())
				continue
			}
			s.Ports = append(s.Ports, n)
		}
	}
}
