package cni

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/proc"
)

// maxEnviron limits, in bytes, what is read of a process' environment.
const maxEnviron = 1 << 20

// KillStrays kills plugins at work on a container whose caller was killed. A plugin ends with its
// caller; but what it has started in its turn, such as a plugin for addresses, does not,
// and would go on to make what has been undone by then. The caller makes sure that nobody is at
// work on the container.
func KillStrays(container string) error {
	pids, err := proc.PIDs()
	if err != nil {
		return fmt.Errorf("plugins that are left: %w", err)
	}
	var errs []error
	for _, pid := range pids {
		if pid == os.Getpid() || !isPluginFor(pid, container) {
			continue
		}
		pidfd, err := proc.OpenPID(pid)
		if err != nil {
			continue // ended meanwhile
		}
		if isPluginFor(pid, container) { // it still is the same
			err = proc.Signal(pidfd, unix.SIGKILL)
			if errors.Is(err, proc.ErrGone) {
				err = nil
			}
		}
		errs = append(errs, err, pidfd.Close())
	}
	return errors.Join(errs...)
}

// isPluginFor reports whether a process has the environment of a plugin for a container.
func isPluginFor(pid int, container string) bool {
	f, err := os.Open(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxEnviron))
	if err != nil {
		return false
	}
	var is, has bool
	for v := range bytes.SplitSeq(b, []byte{0}) {
		is = is || string(v) == "CNI_CONTAINERID="+container
		has = has || bytes.HasPrefix(v, []byte("CNI_COMMAND="))
	}
	return is && has
}
