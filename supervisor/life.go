package supervisor

import (
	"fmt"
	"slices"
	"time"

	"github.com/podbox/podbox/internal/names"
)

// A Life says how a pod's containers are led, as the kubelet leads those of a pod. It is
// pure data.
//
// Those of Init are started first, one after the other; the next one comes when one has
// ended with status 0, or, of a sidecar, has started. Then all of Containers are started, each
// when the one before has been started and its PostStart action is done. When these have
// ended for good, the sidecars are ended in the reverse order, and the pod is done. An init
// container that fails for good fails the pod.
//
// A container that cannot be started is one that has failed: its restart policy says what
// is done.
type Life struct {
	Init       []string `json:"init,omitempty"`
	Containers []string `json:"containers"`
	// Grace is how long containers have to end when the pod is stopped, and
	// nothing else is said; see Action. 0: 30 s. Negative: none.
	Grace time.Duration `json:"grace,omitempty"`
	// Deadline is how long the pod may be active, from its start. After it all is
	// ended, and the pod has failed. 0: for ever.
	Deadline time.Duration `json:"deadline,omitempty"`
	// Bounds are how many bytes may be in volumes on the disk. If there is more
	// the pod is ended, and has failed. Use is looked at each 10 s.
	Bounds map[string]int64 `json:"bounds,omitempty"`
}

// defaultLifeGrace is that of Kubernetes' pods.
const defaultLifeGrace = 30 * time.Second

func (l *Life) grace() time.Duration {
	if l.Grace == 0 {
		return defaultLifeGrace
	}
	return l.Grace
}

func (l *Life) leads(name string) bool {
	return slices.Contains(l.Init, name) || slices.Contains(l.Containers, name)
}

// Validate reports the first wrong value by the name of its field.
func (l *Life) Validate() error {
	seen := map[string]bool{}
	for _, name := range slices.Concat(l.Init, l.Containers) {
		if !names.IsLabel(name) {
			return invalid("container of the pod's life", name, "want a container's name")
		}
		if seen[name] {
			return invalid("container of the pod's life", name, "given twice")
		}
		seen[name] = true
	}
	if len(l.Containers) == 0 {
		return invalid("containers of the pod's life", "", "want at least one that is not an init container")
	}
	if l.Deadline < 0 {
		return invalid("deadline", l.Deadline.String(), "want no negative time")
	}
	for name, n := range l.Bounds {
		if n <= 0 {
			return invalid("bound of volume "+name, fmt.Sprint(n), "want a number of bytes")
		}
	}
	return nil
}

// An Action is something done to or for a container: one of its fields is set.
type Action struct {
	Exec []string   `json:"exec,omitempty"` // a command line, run in the container
	HTTP *HTTPGet   `json:"http,omitempty"`
	TCP  *TCPSocket `json:"tcp,omitempty"`
	GRPC *GRPC      `json:"grpc,omitempty"` // of probes only
	// Sleep does nothing for a while. Of hooks only. A pointer, for 0 is a while too.
	Sleep *time.Duration `json:"sleep,omitempty"`
}

func (a *Action) validate(what string, probe bool) error {
	if a == nil {
		return nil
	}
	n := 0
	for _, set := range []bool{len(a.Exec) > 0, a.HTTP != nil, a.TCP != nil, a.GRPC != nil, a.Sleep != nil} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return invalid(what, fmt.Sprint(n, " actions"), "want one")
	case probe && a.Sleep != nil:
		return invalid(what, "sleep", "want exec, http, tcp or grpc")
	case !probe && a.GRPC != nil:
		return invalid(what, "grpc", "want exec, http, tcp or sleep")
	case a.Sleep != nil && *a.Sleep < 0:
		return invalid(what, a.Sleep.String(), "want no negative time")
	}
	var err error
	switch {
	case a.HTTP != nil:
		err = a.HTTP.Validate()
	case a.TCP != nil:
		err = a.TCP.Validate()
	case a.GRPC != nil:
		err = a.GRPC.Validate()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// A Probe is an action that is repeated to find out how a container is. What its zero
// values mean is what Kubernetes says.
type Probe struct {
	Action
	InitialDelay time.Duration `json:"initialDelay,omitempty"`
	Period       time.Duration `json:"period,omitempty"`    // 0: 10 s
	Timeout      time.Duration `json:"timeout,omitempty"`   // 0: 1 s
	Successes    int           `json:"successes,omitempty"` // in a row that count as one; 0: 1
	Failures     int           `json:"failures,omitempty"`  // in a row that count as one; 0: 3
	// Grace is how long a container has to end that this probe has failed. Nil: what
	// the pod's Life says.
	Grace *time.Duration `json:"grace,omitempty"`
}

// withDefaults returns a copy of p that says everything.
func (p Probe) withDefaults() Probe {
	if p.Period == 0 {
		p.Period = 10 * time.Second
	}
	if p.Timeout == 0 {
		p.Timeout = time.Second
	}
	if p.Successes == 0 {
		p.Successes = 1
	}
	if p.Failures == 0 {
		p.Failures = 3
	}
	return p
}

func (p *Probe) validate(what string) error {
	if p == nil {
		return nil
	}
	if p.InitialDelay < 0 || p.Period < 0 || p.Timeout < 0 || p.Successes < 0 || p.Failures < 0 {
		return invalid(what, "negative", "want no negative times and counts")
	}
	return p.Action.validate(what, true)
}

// Termination says where a container leaves a last message, and where else it is to be
// looked for.
type Termination struct {
	// Path is that of a file in the container, which is made. Empty: none.
	Path string `json:"path,omitempty"`
	// FallbackToLogs takes the end of the log of a container that has failed and
	// left no message.
	FallbackToLogs bool `json:"fallbackToLogs,omitempty"`
}

// A Rule restarts a container, whatever the policy, that has ended with one of Codes; or,
// with Not, with none of them.
type Rule struct {
	Codes []int `json:"codes"`
	Not   bool  `json:"not,omitempty"`
}

// matches reports whether a container that has ended in this way is to be restarted.
func (r Rule) matches(status *int) bool {
	return status != nil && slices.Contains(r.Codes, *status) != r.Not
}
