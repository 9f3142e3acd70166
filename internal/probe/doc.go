// Package probe asks a program over the network whether it is well, by HTTP,
// HTTPS, TCP and gRPC, in the way and with the words of the kubelet, so that what
// passes there passes here. It also makes the HTTP requests of lifecycle hooks.
//
// It makes one check and no more: periods, thresholds and what follows are the
// caller's, and so is the time that a check may take, which is the context's.
//
// # What is refused
//
// Whoever answers may be hostile. Of a connection no more than 1 MiB is read, of
// headers no more than 256 KiB (the kubelet: 10 MiB), of a body no more than 10
// KiB, and what is returned to be shown has at most 10 KiB. No proxy is used, no
// cookie kept, nothing compressed, no connection used twice, and no redirect
// followed to another host. Certificates are not verified: as with the kubelet, a
// check asks whether somebody answers, not who.
//
// # Rules
//
// Checks may be made from any goroutine, in the network namespace of which they
// are made. Nothing of a check remains when it has returned but, for moments, the
// goroutines that close its connection. A connection is closed with SO_LINGER: close(2) waits up
// to a second for what was sent to arrive, and then drops it.
package probe

import (
	"fmt"

	"github.com/podbox/podbox/internal/fault"
)

// ErrInvalid is matched by errors about checks that cannot be made.
var ErrInvalid = fault.ErrInvalid

// An Outcome is what a check found. The zero value is Failure.
type Outcome int

const (
	Failure Outcome = iota
	Success
	// Warning is a success that somebody should know of.
	Warning
)

// String returns the kubelet's word for o.
func (o Outcome) String() string {
	switch o {
	case Failure:
		return "failure"
	case Success:
		return "success"
	case Warning:
		return "warning"
	}
	return fmt.Sprintf("outcome %d", int(o))
}

// OK reports whether o is not a failure.
func (o Outcome) OK() bool { return o == Success || o == Warning }

// version is the one of Kubernetes whose kubelet these checks are like.
const version = "1.37"

// maxOutput limits, in bytes, what of a body is read, and the text of an outcome.
const maxOutput = 10 << 10

// bounded returns what may be shown of s.
func bounded(s string) string { return s[:min(len(s), maxOutput)] }

func validatePort(port uint16) error {
	if port == 0 {
		return fmt.Errorf("port 0: %w: want 1 to 65535", ErrInvalid)
	}
	return nil
}
