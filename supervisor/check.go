package supervisor

import "github.com/podbox/podbox/internal/probe"

// What probes and hooks look at.
type (
	HTTPGet    = probe.HTTPGet
	HTTPHeader = probe.Header
	TCPSocket  = probe.TCPSocket
	GRPC       = probe.GRPC
)
