package supervisor

import (
	"errors"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/cgroup"
	"github.com/podbox/podbox/internal/proc"
)

// Status is what is known of a container at one moment.
type Status struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Pod     string            `json:"pod"` // the ID
	State   State             `json:"state"`
	Error   string            `json:"error,omitempty"`
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	// PID is that of the first process; 0 unless it runs.
	PID      int       `json:"pid,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	// ExitCode is the exit status, 128+N if signal N ended the container; nil if
	// it has not ended, or nobody knows.
	ExitCode *int `json:"exitCode,omitempty"`
	// Signal is the name of the signal that ended it, if one did.
	Signal string `json:"signal,omitempty"`
	// OOM says that the kernel ended a process of it for want of memory.
	OOM bool `json:"oomKilled,omitempty"`
	// Restarts is how often it was started again, Next when it will be.
	Restarts int       `json:"restarts"`
	Next     time.Time `json:"nextStart,omitzero"`
	// Background says that it has a supervisor, or is to have one. Supervised is
	// false if that was killed: logs and restarts wait for the next one.
	Background bool `json:"background"`
	Supervised bool `json:"supervised,omitempty"`

	Restart    Policy      `json:"restartPolicy"`
	Spec       *specs.Spec `json:"spec"`
	Cgroup     string      `json:"cgroup"`
	Log        string      `json:"log,omitempty"`
	StopSignal string      `json:"stopSignal"`
	Init       bool        `json:"init,omitempty"`
	Stdin      bool        `json:"stdin,omitempty"`
	Runtime    string      `json:"runtime,omitempty"`

	// Image is the name of the image that the container is on, as it was given, or its
	// ID. ImageID is what it stood for.
	Image   string `json:"image,omitempty"`
	ImageID string `json:"imageID,omitempty"`
	// MadeBy is what its maker has noted: see About.
	MadeBy []string `json:"madeBy,omitempty"`
}

// Status looks at the container.
func (c *Container) Status() (*Status, error) {
	r, err := c.record()
	if err != nil {
		return nil, err
	}
	return c.status(r), nil
}

// List returns what is known of all containers of the pod, in the order of their
// creation. Those whose records cannot be read are told of in the error.
func (p *Pod) List() ([]*Status, error) {
	recs, err := p.records()
	var list []*Status
	for _, r := range recs {
		list = append(list, (&Container{pod: p, name: r.Spec.Name}).status(r))
	}
	return list, err
}

func (c *Container) status(r *record) *Status {
	s := &Status{
		ID: r.ID, Name: r.Spec.Name, Pod: c.pod.ID(), State: r.State, Error: r.Error, Created: r.Created, Labels: r.Spec.Labels,
		Started: r.Started, Finished: r.Finished, ExitCode: r.ExitCode, OOM: r.OOM, Restarts: r.Restarts, Next: r.Next,
		Background: r.Background, Restart: r.Spec.Restart.withDefaults().Policy, Spec: r.Spec.shown(), Cgroup: c.group(r),
		StopSignal: unix.SignalName(stopSignal(r)), Init: r.Spec.Init, Stdin: r.Spec.Stdin, Runtime: r.Spec.Runtime,
	}
	if s.Image, s.ImageID = r.Spec.About.Image, r.Spec.Image; s.Image == "" {
		s.Image = s.ImageID
	}
	s.MadeBy = r.Spec.About.MadeBy
	if r.Background {
		s.Log, _ = c.logPath()
	}
	if s.ExitCode != nil && *s.ExitCode > 128 {
		s.Signal = unix.SignalName(unix.Signal(*s.ExitCode - 128))
	}
	s.Supervised = alive(r.Runner)
	if r.State != Running {
		return s
	}
	switch {
	case alive(r.Process):
		s.PID = r.Process.PID
		if frozen(s.Cgroup) {
			s.State = Paused
		}
	case s.Supervised && r.Process == (proc.Identity{}): // it is being started
	case s.Supervised: // it has ended just now
	default:
		s.State, s.Error = Exited, "it ended while nobody followed it"
	}
	return s
}

// hidden stands for what nobody is to see.
const hidden = "<hidden>"

// shown returns the OCI configuration without what is secret in it.
func (s *Spec) shown() *specs.Spec {
	if len(s.Secrets) == 0 {
		return s.OCI
	}
	spec, process := *s.OCI, *s.OCI.Process
	process.Env = slices.Clone(process.Env)
	var secrets []string
	for i, v := range process.Env {
		if name, value, ok := strings.Cut(v, "="); ok && slices.Contains(s.Secrets, name) {
			process.Env[i] = name + "=" + hidden
			secrets = append(secrets, value)
		}
	}
	// Whoever made the container may have put one into its command line. The longest
	// come first: one may be a part of another.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	process.Args = slices.Clone(process.Args)
	for i := range process.Args {
		for _, value := range secrets {
			if value != "" {
				process.Args[i] = strings.ReplaceAll(process.Args[i], value, hidden)
			}
		}
	}
	spec.Process = &process
	return &spec
}

func stopSignal(r *record) unix.Signal {
	if r.Spec.StopSignal == 0 {
		return unix.SIGTERM
	}
	return r.Spec.StopSignal
}

// alive reports whether a process is there.
func alive(id proc.Identity) bool {
	f, err := id.Open()
	if err != nil {
		return !errors.Is(err, proc.ErrGone)
	}
	f.Close()
	return true
}

// frozen reports whether a cgroup is.
func frozen(path string) bool {
	g, err := cgroup.Open(path)
	if err != nil {
		return false
	}
	is, err := g.Frozen()
	return err == nil && is
}
