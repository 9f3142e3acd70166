package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/replace"
	"github.com/podbox/podbox/sandbox"
)

// A State is where a container is in its life.
type State string

const (
	Created    State = "created"    // has not been started yet
	Running    State = "running"    // its program runs
	Restarting State = "restarting" // will be started again after a while
	Exited     State = "exited"     // has ended, or could not be started
	Paused     State = "paused"     // runs, but is frozen; never on record
)

// A record is what is known of a container, as a file. It is written by the
// container's runner while there is one.
type record struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Spec    Spec      `json:"spec"`
	Created time.Time `json:"created"`
	State   State     `json:"state"`
	// Runner is the process that has started the container and follows it: its
	// supervisor, or the one in whose foreground it is.
	Runner     proc.Identity `json:"runner,omitzero"`
	Background bool          `json:"background,omitempty"`
	// Process is the container's first one.
	Process  proc.Identity `json:"process,omitzero"`
	Started  time.Time     `json:"started,omitzero"`
	Finished time.Time     `json:"finished,omitzero"`
	// ExitCode is nil if it is not known.
	ExitCode *int   `json:"exitCode,omitempty"`
	OOM      bool   `json:"oom,omitempty"`
	Error    string `json:"error,omitempty"`
	// Restarts counts all that there were; Row those since the container last
	// ran for a while; Next is when the next one comes.
	Restarts int       `json:"restarts,omitempty"`
	Row      int       `json:"row,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	// Stopped says that the container was ended on purpose. Resume, that it is
	// to be started again with the pod.
	Stopped bool `json:"stopped,omitempty"`
	Resume  bool `json:"resume,omitempty"`
	// Hooked says that PostStart is done; Up, that the container has started as far as
	// its startup probe can tell; Ready, that it can be used.
	Hooked bool `json:"hooked,omitempty"`
	Up     bool `json:"up,omitempty"`
	Ready  bool `json:"ready,omitempty"`
	// Reason is why the container has ended, in Kubernetes' words, unless its exit
	// status says that; Message is its last one. Last is how it has ended the time before.
	Reason  string  `json:"reason,omitempty"`
	Message string  `json:"message,omitempty"`
	Last    *ending `json:"last,omitempty"`
}

// An ending is how a container has ended.
type ending struct {
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	ExitCode *int      `json:"exitCode,omitempty"`
	OOM      bool      `json:"oom,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Message  string    `json:"message,omitempty"`
}

const (
	recordVersion = 1
	recordFile    = "record.json"
	maxRecord     = 8 << 20 // bytes; an OCI configuration may be large
	containersDir = "containers"
)

// A Pod is a pod with its containers. It owns nothing and needs no closing.
type Pod struct {
	*sandbox.Sandbox
	opts Options
}

// Options are those of Open.
type Options struct {
	// Command is a command line of a program that calls Serve with the arguments
	// that are added to it: the runtime's root directory, its state directory and
	// the pod's ID. It is needed for containers in the background.
	Command []string
	// Hook is a command that calls launcher.Joined, for containers that another OCI
	// runtime runs: see launcher.Patch.
	Hook []string
}

// Open returns a pod with its containers.
func Open(pod *sandbox.Sandbox, opts Options) *Pod { return &Pod{pod, opts} }

// A Container is one container: a name for it, not a hold on it.
type Container struct {
	pod  *Pod
	name string
	id   string // if it was made here
}

// ID returns the ID of a container that RunBackground has made; of others Status tells
// it.
func (c *Container) ID() string { return c.id }

// Name returns the container's name.
func (c *Container) Name() string { return c.name }

// String returns what errors call the container: container "web" of pod "shop".
func (c *Container) String() string { return fmt.Sprintf("container %q of %v", c.name, c.pod) }

func (c *Container) wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %v: %w", verb, c, err)
}

func (p *Pod) containers() string         { return p.File(containersDir) }
func (c *Container) dir() string          { return filepath.Join(c.pod.containers(), c.name) }
func (c *Container) file(n string) string { return filepath.Join(c.dir(), n) }

// names returns the names of all containers.
func (p *Pod) names() ([]string, error) {
	entries, err := os.ReadDir(p.containers())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var ns []string
	for _, e := range entries {
		if names.IsLabel(e.Name()) {
			ns = append(ns, e.Name())
		}
	}
	return ns, err
}

// Container returns the container that ref names: a name, an ID or the unique
// beginning of an ID. ErrNotFound, ErrAmbiguous.
func (p *Pod) Container(ref string) (*Container, error) {
	c := &Container{pod: p, name: ref}
	if names.IsLabel(ref) {
		if _, err := os.Lstat(c.dir()); err == nil {
			return c, nil
		}
	}
	var found []*Container
	if names.MayBeginID(ref) {
		recs, err := p.records()
		if err != nil {
			return nil, err
		}
		for _, r := range recs {
			if strings.HasPrefix(r.ID, ref) {
				found = append(found, &Container{pod: p, name: r.Spec.Name})
			}
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%v: %w", c, ErrNotFound)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%v: %w: %d IDs begin with it", c, ErrAmbiguous, len(found))
}

// records reads all records, in the order of their containers' creation. Of a
// container that is on its way in or out there is none.
func (p *Pod) records() ([]*record, error) {
	ns, err := p.names()
	if err != nil {
		return nil, err
	}
	var recs []*record
	var errs []error
	for _, n := range ns {
		r, err := (&Container{pod: p, name: n}).record()
		if err == nil {
			recs = append(recs, r)
		} else if !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	slices.SortStableFunc(recs, func(a, b *record) int { return a.Created.Compare(b.Created) })
	return recs, errors.Join(errs...)
}

// record reads the container's record. Whoever could write there is not trusted to
// have written sense.
func (c *Container) record() (*record, error) {
	f, err := os.Open(c.file(recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%v: %w", c, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil {
		var r *record
		if r, err = parseRecord(b, c.name); err == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%s: %w: %w", f.Name(), sandbox.ErrBadRecord, err)
}

// parseRecord reads the record of the container with the given name.
func parseRecord(b []byte, name string) (*record, error) {
	if len(b) > maxRecord {
		return nil, errors.New("too large")
	}
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, err
	}
	switch {
	case r.Version != recordVersion:
		return nil, fmt.Errorf("version %d, want %d", r.Version, recordVersion)
	case !names.IsID(r.ID) || r.Spec.Name != name || !names.IsLabel(name):
		return nil, errors.New("not of this container")
	}
	switch r.State {
	case Created, Running, Restarting, Exited:
	default:
		return nil, fmt.Errorf("unknown state %q", r.State)
	}
	return r, r.Spec.Validate()
}

// write replaces the container's record: it is there whole, or the old one is.
// fs.ErrNotExist, and ErrNotFound, if the container was removed.
func (c *Container) write(r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	err = replace.File(c.dir(), c.file(recordFile), b)
	if errors.Is(err, fs.ErrNotExist) {
		return removedError{fmt.Errorf("%v: %w", c, ErrNotFound)}
	}
	return err
}

// A removedError says that a container is gone, which was there a moment ago, rather than a file of
// its directory. It matches fs.ErrNotExist.
type removedError struct{ error }

func (e removedError) Unwrap() error { return e.error }

func (e removedError) Is(target error) bool { return target == fs.ErrNotExist }

// logPath returns where the container's log is.
func (c *Container) logPath() (string, error) {
	state, err := c.pod.StateDir()
	return filepath.Join(state, "logs", c.name+".log"), err
}

// group returns the path of the container's cgroup.
func (c *Container) group(r *record) string { return c.pod.Cgroup() + "/" + r.ID }

// Create records a container, which is not started yet. ErrExists if its name is
// taken.
func (p *Pod) Create(spec Spec) (*Container, error) {
	c, err := p.create(spec, &record{State: Created})
	if err != nil {
		return nil, fmt.Errorf("create container %q in %v: %w", spec.Name, p, err)
	}
	return c, nil
}

// create makes a container with what is on r already, besides the spec, and
// completes r.
func (p *Pod) create(spec Spec, r *record) (*Container, error) {
	c, err := p.plan(spec, r)
	if err != nil {
		return nil, err
	}
	return c, c.make(r)
}

// plan completes the record of a container that is to be made.
func (p *Pod) plan(spec Spec, r *record) (*Container, error) {
	r.Version, r.ID, r.Spec, r.Created = recordVersion, names.NewID(), spec, time.Now().UTC()
	if r.Spec.Name == "" {
		r.Spec.Name = r.ID[:12]
	}
	if err := r.Spec.Validate(); err != nil {
		return nil, err
	}
	c := &Container{p, r.Spec.Name, r.ID}
	if _, err := os.Lstat(c.dir()); err == nil && !c.isLeft() {
		return nil, ErrExists // which make finds out too, but late
	}
	return c, nil
}

// isLeft removes a container that was to be removed at its end, by somebody who was
// killed before, and reports whether it was one.
func (c *Container) isLeft() bool {
	r, err := c.record()
	if err != nil || !r.Spec.Remove || alive(r.Runner) || c.status(r).State != Exited {
		return false
	}
	return c.discard(r) == nil
}

// make makes the container's directory: it appears under its name with its record, or
// not at all. ErrExists.
func (c *Container) make(r *record) error {
	p := c.pod
	hidden := &Container{pod: p, name: "." + r.ID}
	err := os.Mkdir(hidden.dir(), 0o700)
	if errors.Is(err, fs.ErrNotExist) { // the first of the pod
		if err = os.Mkdir(p.containers(), 0o700); errors.Is(err, fs.ErrNotExist) {
			return sandbox.ErrNotFound
		}
		err = os.Mkdir(hidden.dir(), 0o700)
	}
	if err != nil {
		return err
	}
	if err = hidden.write(r); err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, hidden.dir(), unix.AT_FDCWD, c.dir(), unix.RENAME_NOREPLACE)
	}
	if errors.Is(err, fs.ErrNotExist) { // the whole pod was removed meanwhile
		err = sandbox.ErrNotFound
	}
	if err != nil {
		os.RemoveAll(hidden.dir())
	}
	if err == unix.EEXIST {
		return ErrExists
	}
	return err
}
