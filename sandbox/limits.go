package sandbox

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Limits say how much a pod, or a container, may use. A zero is no limit.
type Limits struct {
	Memory int64 `json:"memory,omitempty"` // bytes
	CPU    int64 `json:"cpu,omitempty"`    // thousandths of a CPU
	PIDs   int64 `json:"pids,omitempty"`   // processes and threads
}

// Validate reports the first wrong value by the name of its field.
func (l Limits) Validate() error {
	switch {
	case l.Memory != 0 && l.Memory < 512<<10:
		return invalid("memory", fmt.Sprint(l.Memory), "want at least 512 KiB")
	case l.CPU != 0 && (l.CPU < 1 || l.CPU > 1e9):
		return invalid("cpu", fmt.Sprint(l.CPU), "want thousandths of a CPU, at least 1")
	case l.PIDs < 0:
		return invalid("pids", fmt.Sprint(l.PIDs), "want the number of processes")
	}
	return nil
}

// Resources returns the limits as an OCI configuration has them; nil if there are
// none.
func (l Limits) Resources() *specs.LinuxResources {
	if l == (Limits{}) {
		return nil
	}
	r := new(specs.LinuxResources)
	if l.Memory != 0 {
		r.Memory = &specs.LinuxMemory{Limit: &l.Memory}
	}
	if l.CPU != 0 {
		// The kernel wants a quota of at least 1 ms: see sched-bwc in its
		// documentation.
		period := uint64(100_000) // µs
		if l.CPU < 10 {
			period = 1_000_000
		}
		quota := l.CPU * int64(period) / 1000
		r.CPU = &specs.LinuxCPU{Period: &period, Quota: &quota}
	}
	if l.PIDs != 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.PIDs}
	}
	return r
}
