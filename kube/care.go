package kube

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podbox/podbox/supervisor"
)

// care is what is done to and for a container while it runs: probes and hooks.
func (t *translation) care(p place, s *supervisor.Spec) {
	s.Startup = probe(p.c, p.c.StartupProbe)
	s.Liveness = probe(p.c, p.c.LivenessProbe)
	s.Readiness = probe(p.c, p.c.ReadinessProbe)
	if l := p.c.Lifecycle; l != nil {
		s.PostStart = hook(p.c, l.PostStart)
		s.PreStop = hook(p.c, l.PreStop)
	}
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

func probe(c *corev1.Container, p *corev1.Probe) *supervisor.Probe {
	if p == nil {
		return nil
	}
	to := &supervisor.Probe{
		Action:       action(c, p.Exec, p.HTTPGet, p.TCPSocket),
		InitialDelay: seconds(p.InitialDelaySeconds),
		Period:       seconds(p.PeriodSeconds),
		Timeout:      seconds(p.TimeoutSeconds),
		Successes:    int(p.SuccessThreshold),
		Failures:     int(p.FailureThreshold),
	}
	if p.GRPC != nil {
		to.GRPC = &supervisor.GRPC{Port: uint16(p.GRPC.Port)}
		if p.GRPC.Service != nil {
			to.GRPC.Service = *p.GRPC.Service
		}
	}
	if g := p.TerminationGracePeriodSeconds; g != nil {
		d := time.Duration(*g) * time.Second
		to.Grace = &d
	}
	return to
}

func hook(c *corev1.Container, h *corev1.LifecycleHandler) *supervisor.Action {
	if h == nil {
		return nil
	}
	a := action(c, h.Exec, h.HTTPGet, h.TCPSocket)
	if h.Sleep != nil {
		d := time.Duration(h.Sleep.Seconds) * time.Second
		a.Sleep = &d
	}
	return &a
}

func action(c *corev1.Container, exec *corev1.ExecAction, get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction) supervisor.Action {
	var a supervisor.Action
	if exec != nil {
		a.Exec = exec.Command
	}
	if get != nil {
		a.HTTP = &supervisor.HTTPGet{Scheme: string(get.Scheme), Host: get.Host, Path: get.Path, Port: portNumber(c, get.Port)}
		for _, h := range get.HTTPHeaders {
			a.HTTP.Headers = append(a.HTTP.Headers, supervisor.HTTPHeader{Name: h.Name, Value: h.Value})
		}
	}
	if tcp != nil {
		a.TCP = &supervisor.TCPSocket{Host: tcp.Host, Port: portNumber(c, tcp.Port)}
	}
	return a
}
