package supervisor

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
)

var (
	// ErrNotFound is matched when there is no such container.
	ErrNotFound = errors.New("no such container")
	// ErrExists is matched when a container's name is taken.
	ErrExists = errors.New("container exists")
	// ErrNotRunning is matched when a container must run for what is asked, and does not.
	ErrNotRunning = errors.New("container is not running")
	// ErrPaused is matched when a container must not be frozen for what is asked.
	ErrPaused = launcher.ErrPaused
	// ErrRunning is matched when a container must not run for what is asked, and does.
	ErrRunning = errors.New("container is running")
	// ErrAmbiguous is matched when more than one container's ID begins as asked.
	ErrAmbiguous = errors.New("ambiguous")
)

// A Spec says what a container shall be. It is pure data.
type Spec struct {
	// Name is an RFC 1123 label that no other container of the pod has. Empty:
	// the first 12 digits of the container's ID.
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	// OCI is what to run, for package launcher. Its cgroup is set when it is
	// started: one of its own, in the pod's.
	OCI *specs.Spec `json:"oci"`
	// Image is the ID of an image in the store (see Images) that has the container's
	// root, instead of OCI.Root.Path, which is empty then. Each time the container is
	// started its files are as in the image. Those of before are there until then, or
	// until the container is removed.
	Image string `json:"image,omitempty"`
	// ImageVolumes are paths in the root where a container on an image has a directory
	// of its own, which is removed with it, not when it is started again: at first
	// with what the image has there. Where OCI mounts something it has none.
	ImageVolumes []string `json:"imageVolumes,omitempty"`
	// DefaultSeccomp gives the container, each time it is started, the default
	// filter of system calls for its capabilities.
	DefaultSeccomp bool `json:"defaultSeccomp,omitempty"`
	// Init has the container's first process pass on signals to its program, and
	// reap what that leaves behind.
	Init bool `json:"init,omitempty"`
	// PIDOf names another container of the pod, whose PID namespace this one is in,
	// whenever it is started. OCI must not list one then.
	PIDOf string `json:"pidOf,omitempty"`
	// Restart says what is done when the container ends. It is for containers in
	// the background.
	Restart Restart `json:"restart,omitzero"`
	// StopSignal asks the container to end. 0: SIGTERM.
	StopSignal unix.Signal `json:"stopSignal,omitempty"`
	// Stdin keeps the container's input open for those who attach. Otherwise it
	// is the null device. It is for containers in the background.
	Stdin bool `json:"stdin,omitempty"`
	// StdinOnce ends the input when the first who was attached to it leaves.
	StdinOnce bool `json:"stdinOnce,omitempty"`
	// Remove removes the container when it has ended for good.
	Remove bool `json:"remove,omitempty"`
	// Log bounds the log of a container in the background.
	Log Log `json:"log,omitzero"`
	// Runtime is the path of another OCI runtime that is to run the container.
	// Empty: package launcher does.
	Runtime string `json:"runtime,omitempty"`
	// Secrets are names of variables of the container's environment whose values no
	// listing shows.
	Secrets []string `json:"secrets,omitempty"`

	// What follows is for containers in the background.

	// Sidecar says that a container of Life.Init runs beside those that come later,
	// until these have ended. Its restart policy should be Always.
	Sidecar bool `json:"sidecar,omitempty"`
	// Startup finds out when the container has started; until then it is asked nothing
	// else. Liveness, whether it is to be ended, and dealt with as its restart policy
	// says. Readiness, whether it can be used.
	Startup   *Probe `json:"startup,omitempty"`
	Liveness  *Probe `json:"liveness,omitempty"`
	Readiness *Probe `json:"readiness,omitempty"`
	// PostStart is done when the container has been started; if it fails the
	// container is ended. PreStop is done before it is asked to end, in the time that
	// it has for that.
	PostStart *Action `json:"postStart,omitempty"`
	PreStop   *Action `json:"preStop,omitempty"`
	// Termination says how its last message is found.
	Termination Termination `json:"termination,omitzero"`
	// About is for the caller's use: what to tell of the container besides, in
	// statuses.
	About About `json:"about,omitzero"`
}

// About is what the maker of a container wants to have told of it.
type About struct {
	// Image is the name of the image as it was given, ImageID what it stood for.
	Image   string `json:"image,omitempty"`
	ImageID string `json:"imageID,omitempty"`
	// MadeBy are the words of a command line that makes the container again.
	MadeBy []string `json:"madeBy,omitempty"`
}

// A Policy says after which ends a container is restarted.
type Policy string

const (
	Never     Policy = "never" // what the zero value means too
	OnFailure Policy = "on-failure"
	Always    Policy = "always"
)

// Restart is when and how often a container is started again. One that is stopped on
// purpose is not.
type Restart struct {
	Policy Policy `json:"policy,omitempty"`
	// Retries is how many restarts there are at most with OnFailure. 0: any
	// number.
	Retries int `json:"retries,omitempty"`
	// Rules come before the policy: the first that matches restarts the container.
	Rules []Rule `json:"rules,omitempty"`
	// The first restart comes at once. The next ones come after Delay (0: 10 s),
	// doubled each time up to MaxDelay (0: 5 min), as with the kubelet. A container that
	// has run for ResetAfter (0: 10 min) begins anew.
	Delay      time.Duration `json:"delay,omitempty"`
	MaxDelay   time.Duration `json:"maxDelay,omitempty"`
	ResetAfter time.Duration `json:"resetAfter,omitempty"`
}

// Log bounds a log. The zero value is the kubelet's default.
type Log struct {
	MaxSize  int64 `json:"maxSize,omitempty"`  // bytes of one file; 0: 10 MiB
	MaxFiles int   `json:"maxFiles,omitempty"` // 0: 5
}

// withDefaults returns a copy of r that says everything.
func (r Restart) withDefaults() Restart {
	if r.Policy == "" {
		r.Policy = Never
	}
	for _, d := range []struct {
		of       *time.Duration
		standard time.Duration
	}{{&r.Delay, 10 * time.Second}, {&r.MaxDelay, 5 * time.Minute}, {&r.ResetAfter, 10 * time.Minute}} {
		if *d.of == 0 {
			*d.of = d.standard
		}
	}
	return r
}

// wants reports whether a container is to be started again that has ended with this
// status for the n-th time.
func (r Restart) wants(status *int, n int) bool {
	if slices.ContainsFunc(r.Rules, func(rule Rule) bool { return rule.matches(status) }) {
		return true
	}
	switch r.Policy {
	case Always:
		return true
	case OnFailure:
		return (status == nil || *status != 0) && (r.Retries == 0 || n < r.Retries)
	}
	return false
}

// backoff returns how long to wait before the next restart, after n restarts in a
// row of a container that ran for a while.
func (r Restart) backoff(n int) time.Duration {
	if n == 0 {
		return 0
	}
	d := r.Delay
	for range n - 1 {
		if d *= 2; d >= r.MaxDelay {
			break
		}
	}
	return min(d, r.MaxDelay)
}

// Validate reports the first wrong value by the name of its field. What is wrong in
// OCI is found when the container is started.
func (s *Spec) Validate() error {
	switch {
	case s.Name != "" && !names.IsLabel(s.Name):
		return invalid("container name", s.Name, "want an RFC 1123 label: at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")
	case s.OCI == nil || s.OCI.Process == nil:
		return invalid("container", s.Name, "want a program to run")
	case s.Image != "" && (s.OCI.Root == nil || s.OCI.Root.Path != ""):
		return invalid("image", s.Image, "want a root with an empty path")
	case s.Image == "" && len(s.ImageVolumes) > 0:
		return invalid("image volume", s.ImageVolumes[0], "want an image")
	case s.OCI.Linux != nil && s.OCI.Linux.CgroupsPath != "":
		return invalid("linux.cgroupsPath", s.OCI.Linux.CgroupsPath, "want none: it is in the pod's cgroup")
	case s.StopSignal < 0 || s.StopSignal > 64:
		return invalid("stop signal", fmt.Sprint(int(s.StopSignal)), "want a number up to 64")
	case s.Log.MaxSize < 0 || s.Log.MaxFiles < 0:
		return invalid("log", fmt.Sprint(s.Log.MaxSize, s.Log.MaxFiles), "want no negative bounds")
	}
	if s.Image != "" {
		if _, err := image.Hex(s.Image); err != nil {
			return fmt.Errorf("image: %w", err)
		}
	}
	for _, v := range s.ImageVolumes {
		if !path.IsAbs(v) || path.Clean(v) == "/" || strings.ContainsRune(v, 0) {
			return invalid("image volume", v, "want an absolute path, not the root's")
		}
	}
	if s.PIDOf != "" && !names.IsLabel(s.PIDOf) {
		return invalid("PID namespace of container", s.PIDOf, "want its name")
	}
	if err := s.validateCare(); err != nil {
		return err
	}
	if p := s.Termination.Path; p != "" && !path.IsAbs(p) {
		return invalid("path of the termination message", p, "want an absolute path")
	}
	r := s.Restart
	switch r.Policy {
	case "", Never, OnFailure, Always:
	default:
		return invalid("restart policy", string(r.Policy), "want never, on-failure[:N] or always")
	}
	if r.Retries < 0 || r.Retries > 0 && r.Policy != OnFailure {
		return invalid("restart retries", fmt.Sprint(r.Retries), "want none but with on-failure")
	}
	if r.Delay < 0 || r.MaxDelay < 0 || r.ResetAfter < 0 {
		return invalid("restart delay", r.Delay.String(), "want no negative times")
	}
	if d := r.withDefaults(); d.Delay > d.MaxDelay {
		return invalid("restart delay", d.Delay.String(), fmt.Sprintf("want no more than the longest, %v", d.MaxDelay))
	}
	return nil
}

// validateCare looks at what is done around the container.
func (s *Spec) validateCare() error {
	for _, err := range []error{
		s.Startup.validate("startup probe"), s.Liveness.validate("liveness probe"), s.Readiness.validate("readiness probe"),
		s.PostStart.validate("postStart", false), s.PreStop.validate("preStop", false),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func invalid(field, value, want string) error {
	return fmt.Errorf("%s %q: %w: %s", field, value, sandbox.ErrInvalid, want)
}
