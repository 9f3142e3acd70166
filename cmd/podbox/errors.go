package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// Exit statuses, other than those of the programs that podbox runs.
const (
	exitError    = 125 // podbox itself failed
	exitNotRun   = 126 // the program could not be executed
	exitNotFound = 127 // there is no such program
)

// An exit ends the command with a status and without a word.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// report tells of an error, one line for each if there are several, and returns
// the exit status.
func report(w io.Writer, err error) int {
	var status exit
	if err == nil {
		return 0
	}
	if errors.As(err, &status) {
		return int(status)
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok && strings.Contains(err.Error(), "\n") {
		code := 0
		for _, err := range many.Unwrap() {
			code = max(code, report(w, err))
		}
		return code
	}
	line := strings.ReplaceAll(err.Error(), "\n", "; ")
	if h := hint(err); h != "" {
		line += " (" + h + ")"
	}
	fmt.Fprintf(w, "podbox: %s\n", line)

	var exec *spawn.ExecError
	switch {
	case errors.As(err, &exec) && exec.Err == unix.ENOENT:
		return exitNotFound
	case errors.As(err, &exec):
		return exitNotRun
	}
	return exitError
}

// hint returns what a person may do about an error, or "".
func hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return "podbox needs root: try sudo"
	case errors.Is(err, unix.EPERM):
		return "a capability is missing: podbox doctor tells which"
	case errors.Is(err, sandbox.ErrExists):
		return "podbox rm removes it, podbox start starts it"
	case errors.Is(err, sandbox.ErrNotFound):
		return "podbox ls lists the pods there are"
	case errors.Is(err, sandbox.ErrAmbiguous):
		return "give more digits"
	case errors.Is(err, sandbox.ErrNotRunning) && strings.Contains(err.Error(), "only be removed"):
		return "podbox rm -f finishes that"
	case errors.Is(err, sandbox.ErrNotRunning):
		return "podbox start brings it up, unless its state says otherwise"
	case errors.Is(err, supervisor.ErrNotFound):
		return "podbox ps -a lists the containers there are"
	case errors.Is(err, supervisor.ErrExists):
		return "podbox rm -c removes it, podbox start -c starts it"
	case errors.Is(err, supervisor.ErrNotRunning):
		return "podbox start -c starts it in the background"
	case errors.Is(err, supervisor.ErrRunning):
		return "podbox stop -c ends it, podbox rm -f -c removes it too"
	case errors.Is(err, sandbox.ErrNoVolume):
		return "podbox inspect shows those that it has: they are made with the pod, by podbox create --volume"
	case errors.Is(err, supervisor.ErrPaused):
		return "podbox unpause -c lets it go on"
	case errors.Is(err, sandbox.ErrPaused):
		return "podbox unpause lets it go on"
	case errors.Is(err, sandbox.ErrBusy) && strings.Contains(err.Error(), "locked"):
		return "they hang or are stopped: end them"
	case errors.Is(err, sandbox.ErrBusy):
		return "podbox rm -f ends them"
	case errors.Is(err, sandbox.ErrBadRecord):
		return "podbox rm -f clears it away"
	case errors.Is(err, sandbox.ErrUnsafeRoot):
		return "give a --root that only root may write to"
	case errors.Is(err, netns.ErrConflict):
		return "choose a free range by --ip-range or --ip6-range, or an address by --ip or --ip6"
	case errors.Is(err, netns.ErrExhausted):
		return "remove pods, or choose another range by --ip-range or --ip6-range"
	case errors.Is(err, unix.ENOSPC) && !strings.Contains(err.Error(), "stdout"):
		return "the filesystem is full: podbox keeps its records in --root"
	case errors.Is(err, unix.EROFS):
		return "remount it read-write"
	}
	return ""
}
