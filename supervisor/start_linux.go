package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/internal/cgroup"
	"github.com/podbox/podbox/internal/memfd"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/reaper"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
)

// ociSpec returns what package launcher is to run for a container.
func (c *Container) ociSpec(r *record) (*specs.Spec, error) {
	spec := *r.Spec.OCI
	linux := specs.Linux{}
	if spec.Linux != nil {
		linux = *spec.Linux
	}
	spec.Linux = &linux
	spec.Mounts = slices.Clone(spec.Mounts)
	spec.Annotations = maps.Clone(spec.Annotations)
	if spec.Root != nil {
		launcher.SetCgroup(&spec, c.group(r), linux.Resources)
	} else {
		linux.CgroupsPath = c.group(r)
	}
	if r.Spec.Termination.Path != "" {
		spec.Mounts = append(spec.Mounts, specs.Mount{
			Destination: r.Spec.Termination.Path, Type: "bind", Source: c.file(messageFile), Options: []string{"bind", "nosuid", "nodev", "noexec"},
		})
	}
	if r.Spec.PIDOf != "" {
		path, err := (&Container{pod: c.pod, name: r.Spec.PIDOf}).PIDNamespace()
		if err != nil {
			return nil, err
		}
		linux.Namespaces = append(slices.Clone(linux.Namespaces), specs.LinuxNamespace{Type: specs.PIDNamespace, Path: path})
	}
	if r.Spec.DefaultSeccomp {
		return &spec, launcher.SetDefaultSeccomp(&spec)
	}
	return &spec, nil
}

// launch starts a container's program.
func (c *Container) launch(ctx context.Context, r *record, opts launcher.Options) (*launcher.Process, error) {
	// Of what a start that was cut short has left there is nothing of use.
	if err := c.clean(ctx, r); err != nil {
		return nil, err
	}
	spec, err := c.ociSpec(r)
	if err != nil {
		return nil, err
	}
	opts.ID = r.ID
	if err := c.onImage(ctx, r, spec, &opts); err != nil {
		return nil, err
	}
	if r.Spec.Runtime != "" {
		return c.launchOther(ctx, r, spec, opts)
	}
	if r.Spec.Init {
		if opts.Init, err = memfd.New("podbox-init", reaper.Binary()); err != nil {
			return nil, err
		}
		defer opts.Init.Close()
	}
	return launcher.Launch(ctx, c.pod.Sandbox, spec, opts)
}

// launchOther has another OCI runtime start it.
func (c *Container) launchOther(ctx context.Context, r *record, spec *specs.Spec, opts launcher.Options) (*launcher.Process, error) {
	dir := c.file("bundle")
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	other := launcher.Other{Path: r.Spec.Runtime, Dir: dir, Hook: c.pod.opts.Hook}
	return other.Launch(ctx, c.pod.Sandbox, spec, opts)
}

// clean ends what is left in a container's cgroup, and removes it.
func (c *Container) clean(ctx context.Context, r *record) error {
	g, err := cgroup.Open(c.group(r))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// Mostly nothing is left: a PID namespace ends with its first process.
	if gone, err := g.RemoveEmpty(); gone || err != nil {
		return err
	}
	if err := g.Kill(ctx); err != nil {
		return err
	}
	return g.Remove(ctx)
}

// cleanTime bounds a clean-up.
const cleanTime = 30 * time.Second

// ended notes how a container has ended, and clears away what is left of it.
// status is nil if it is not known.
func (c *Container) ended(r *record, status *int, why error) error {
	r.OOM = c.oomKilled(r)
	err := c.sweep(r)
	c.noteEnd(r, status, errors.Join(why, err))
	return err
}

// sweep is clean, with a bound of its own.
func (c *Container) sweep(r *record) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
	defer cancel()
	return c.clean(ctx, r)
}

// noteEnd completes the record of a container that has ended.
func (c *Container) noteEnd(r *record, status *int, why error) {
	r.State, r.ExitCode, r.Finished, r.Up, r.Ready = Exited, status, time.Now().UTC(), false, false
	r.Error = ""
	if why != nil {
		r.Error = why.Error()
	}
	c.announce("die", r)
}

// oomKilled reports whether the kernel has killed a process of the container for
// want of memory.
func (c *Container) oomKilled(r *record) bool {
	g, err := cgroup.Open(c.group(r))
	if err != nil {
		return false
	}
	n, err := g.OOMKills()
	return err == nil && n > 0
}

// began notes that a container runs.
func (r *record) began(process proc.Identity) {
	r.remember()
	r.Process = process
	r.State, r.Started, r.Finished, r.ExitCode, r.OOM, r.Error = Running, time.Now().UTC(), time.Time{}, nil, false, ""
	r.Hooked, r.Up, r.Ready, r.Reason, r.Message = false, false, false, "", ""
}

// remember keeps how a container has ended that is being started again.
func (r *record) remember() {
	if !r.Finished.IsZero() {
		r.Last = r.ending()
	}
}

// announce tells what has happened to a container.
func (c *Container) announce(action string, r *record) {
	e := sandbox.Event{Action: action, Pod: c.pod.ID(), Name: c.pod.Ref(), Container: c.name}
	if action == "die" {
		e.ExitCode, e.OOM = r.ExitCode, r.OOM
	}
	c.pod.Runtime().Announce(e)
}

// self is the identity of the calling process.
func self() (proc.Identity, error) {
	pidfd, err := proc.OpenPID(os.Getpid())
	if err != nil {
		return proc.Identity{}, err
	}
	defer pidfd.Close()
	return proc.Identify(os.Getpid(), pidfd)
}

// A Foreground is a container that runs in the foreground of the calling process.
type Foreground struct {
	*launcher.Process
	c    *Container
	r    *record
	done chan struct{}
	err  error
}

// Run makes a container in the foreground and starts it: it has the streams given,
// and ends with the calling process. A context that ends does not end it. If it
// cannot be started there is no container.
func (p *Pod) Run(ctx context.Context, spec Spec, streams launcher.IO) (*Foreground, error) {
	if r := spec.Restart.Policy; r != "" && r != Never {
		return nil, fmt.Errorf("restart policy %s: %w for a container in the foreground", r, launcher.ErrNotSupported)
	}
	me, err := self()
	if err != nil {
		return nil, err
	}
	r := &record{State: Running, Runner: me}
	c, err := p.plan(spec, r)
	if err != nil {
		return nil, fmt.Errorf("create container %q in %v: %w", spec.Name, p, err)
	}
	// The record is made meanwhile: to find out how it is written takes as long as
	// half a start. Nothing is executed before it is there.
	made := make(chan error, 1)
	go func(first record) { made <- c.make(&first) }(*r)
	await := sync.OnceValue(func() error { return <-made })
	if r.Spec.Runtime != "" {
		_ = await() // it needs the directory; the error comes again
	}
	f := &Foreground{c: c, r: r, done: make(chan struct{})}
	f.Process, err = c.launch(ctx, r, launcher.Options{IO: streams, Born: func(proc.Identity) error { return await() }})
	if merr := await(); merr != nil {
		// There was no container, or another one.
		ctx = context.WithoutCancel(ctx)
		return nil, errors.Join(fmt.Errorf("create container %q in %v: %w", r.Spec.Name, p, merr), c.clean(ctx, r), c.removeState(ctx, r.ID))
	}
	if err != nil {
		return nil, errors.Join(err, c.discard(r))
	}
	r.began(f.Identity())
	c.announce("start", r)
	if err = c.write(r); errors.Is(err, fs.ErrNotExist) {
		err = nil // it has been removed
	}
	go f.follow()
	return f, err
}

// Container returns the container.
func (f *Foreground) Container() *Container { return f.c }

// follow notes the container's end.
func (f *Foreground) follow() {
	defer close(f.done)
	<-f.Process.Ended()
	// First all that may still write ends: it holds the output open.
	f.r.OOM = f.c.oomKilled(f.r)
	f.err = f.c.sweep(f.r)
	status, err := f.Process.Wait(context.Background())
	known := &status
	if status < 0 {
		known = nil
	}
	f.c.noteEnd(f.r, known, errors.Join(err, f.err))
	if f.r.Spec.Remove {
		f.err = errors.Join(f.err, f.c.discard(f.r))
		return
	}
	if err := f.c.write(f.r); !errors.Is(err, fs.ErrNotExist) { // removed meanwhile
		f.err = errors.Join(f.err, err)
	}
}

// Wait returns when the container has ended and that is on record: its exit
// status. See launcher.Process.Wait.
func (f *Foreground) Wait(ctx context.Context) (int, error) {
	status, err := f.Process.Wait(ctx)
	if ctx.Err() == nil {
		<-f.done
		err = errors.Join(err, f.err)
	}
	return status, err
}

// discard removes a container that does not run.
func (c *Container) discard(r *record) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
	defer cancel()
	err := c.clean(ctx, r)
	if log, lerr := c.logPath(); lerr == nil && r.Background {
		err = errors.Join(err, removeLogs(log))
	}
	if err == nil && r.Spec.Image != "" {
		err = c.removeState(ctx, r.ID)
	}
	if err != nil {
		return err
	}
	if err := c.removeDir(r.ID); err != nil {
		return err
	}
	c.announce("remove", r)
	return nil
}

// removeDir removes the container's directory: it vanishes from under its name whole,
// and what is hidden goes with the pod at the latest.
func (c *Container) removeDir(id string) error {
	hidden := &Container{pod: c.pod, name: "." + id}
	err := os.Rename(c.dir(), hidden.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(hidden.dir())
}
