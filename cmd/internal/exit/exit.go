// Package exit ends a command: it says what went wrong, in one line with a hint for
// people, and chooses the exit status.
package exit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/misuse"
	"github.com/podbox/podbox/cmd/internal/twin"
	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/netns/cni"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// Exit statuses, other than those of the programs that podbox runs.
const (
	Failed   = 125 // podbox itself failed
	NotRun   = 126 // the program could not be executed
	NotFound = 127 // there is no such program
)

// A Status is an error that ends the command with this status and without a word.
type Status int

func (s Status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// A Hinter returns what a person may do about an error, or "".
type Hinter func(error) string

// Report tells of an error, one line for each if there are several, and returns
// the exit status. Hints are asked in turn, before those for errors that all
// commands know.
func Report(w io.Writer, err error, hints ...Hinter) int {
	var status Status
	if err == nil {
		return 0
	}
	if errors.As(err, &status) {
		return int(status)
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok && strings.Contains(err.Error(), "\n") {
		code := 0
		for _, err := range many.Unwrap() {
			code = max(code, Report(w, err, hints...))
		}
		return code
	}
	line := strings.ReplaceAll(err.Error(), "\n", "; ")
	for _, h := range append(hints, Hint) {
		if text := h(err); text != "" {
			line += " (" + text + ")"
			break
		}
	}
	fmt.Fprintf(w, "podbox: %s\n", line)

	var exec *spawn.ExecError
	switch {
	case errors.As(err, &exec) && exec.Err == unix.ENOENT:
		return NotFound
	case errors.As(err, &exec):
		return NotRun
	}
	return Failed
}

// Hint returns what a person may do about an error that all commands know, or "".
func Hint(err error) string {
	var wrong *misuse.Error
	switch {
	case errors.As(err, &wrong):
		return wrong.Command + " --help tells more"
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
	case errors.Is(err, image.ErrNotFound):
		return "podbox image pull fetches it"
	case errors.Is(err, image.ErrCorrupt):
		return "podbox image rm removes it, podbox image pull fetches it anew"
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
	case errors.Is(err, sandbox.ErrNoPort):
		return "podbox port shows those that it does"
	case errors.As(err, new(*netns.ListenerError)):
		return "end it, or choose another port"
	case errors.As(err, new(*sandbox.PublishedError)):
		return "podbox unpublish frees it, or choose another port"
	case errors.Is(err, cni.ErrNoPlugin):
		return "apt-get install containernetworking-plugins has the usual ones, --cni-plugin-dir tells of others; podbox rm -f removes a pod without them"
	case errors.Is(err, cni.ErrNoNetwork):
		return "--cni-conf-dir tells where else networks are described"
	case errors.Is(err, cni.ErrUnsafe):
		return "let root alone write there: chown root, chmod go-w"
	case errors.Is(err, netns.ErrConflict):
		return "choose a free range by --ip-range or --ip6-range, or an address by --ip or --ip6"
	case errors.Is(err, netns.ErrExhausted):
		return "remove pods, or choose another range by --ip-range or --ip6-range"
	case errors.Is(err, unix.ENOSPC) && !strings.Contains(err.Error(), "stdout"):
		return "the filesystem is full: podbox keeps its records in --root"
	case errors.Is(err, twin.ErrMissing), errors.Is(err, twin.ErrVersion):
		return "install both from one release: make install, or go install github.com/podbox/podbox/cmd/..."
	case errors.Is(err, unix.EROFS):
		return "remount it read-write"
	}
	return ""
}
