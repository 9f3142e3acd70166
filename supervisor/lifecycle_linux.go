package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/cgroup"
	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
)

// RunBackground makes a container in the background and starts it. If it cannot be
// started there is no container.
func (p *Pod) RunBackground(ctx context.Context, spec Spec) (*Container, error) {
	r := &record{State: Created, Background: true}
	c, err := p.plan(spec, r)
	if err == nil {
		// Who will be asked to start it is started meanwhile, if need be.
		there := make(chan struct{})
		go func() {
			defer close(there)
			if conn, err := p.connect(ctx); err == nil { // else Start tells
				conn.Close()
			}
		}()
		err = c.make(r)
		<-there
	}
	if err != nil {
		return nil, fmt.Errorf("create container %q in %v: %w", spec.Name, p, err)
	}
	if err := c.Start(ctx); err != nil {
		r, rerr := c.record()
		if rerr == nil {
			rerr = c.discard(r)
		}
		return nil, errors.Join(err, rerr)
	}
	return c, nil
}

// Start starts a container that does not run, in the background. It has the log that
// it had. ErrRunning.
func (c *Container) Start(ctx context.Context) error {
	_, err := c.pod.request(ctx, request{Verb: verbStart, Container: c.name})
	return c.wrap("start", err)
}

// StopOptions are those of Stop. The zero value is the default.
type StopOptions struct {
	// Signal asks the container to end. 0: the one that its Spec has.
	Signal unix.Signal
	// Grace is how long it has before it is killed, with what is done before. 0: what
	// the pod's Life says, or else sandbox.DefaultGrace. Negative: none, it is not asked.
	Grace time.Duration

	resume bool // it is to be started again with the pod
}

// Stop ends a container and returns when it has ended; it is not restarted. It does
// nothing to a container that does not run. Once begun it goes on if the context
// ends.
func (c *Container) Stop(ctx context.Context, opts StopOptions) error {
	r, err := c.record()
	if err != nil {
		return err
	}
	if frozen(c.pod.Cgroup()) {
		return c.wrap("stop", sandbox.ErrPaused)
	}
	if r.State == Created || r.State == Exited {
		return c.wrap("stop", c.stopStart(ctx, opts))
	}
	return c.wrap("stop", c.stop(ctx, r, opts))
}

// stopStart stops a container that does not run, but may just be being started.
func (c *Container) stopStart(ctx context.Context, opts StopOptions) error {
	conn, err := c.pod.dial()
	if isAbsent(err) || errors.Is(err, sandbox.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	if opts.Grace == 0 {
		opts.Grace = c.pod.grace()
	}
	_, err = c.pod.ask(ctx, conn, request{Verb: verbStop, Container: c.name, Signal: opts.Signal, Grace: opts.Grace})
	if errors.Is(err, ErrNotRunning) || errors.Is(err, errGone) {
		return nil
	}
	return err
}

func (c *Container) stop(ctx context.Context, r *record, opts StopOptions) error {
	if opts.Signal == 0 {
		opts.Signal = stopSignal(r)
	}
	if opts.Grace == 0 {
		opts.Grace = c.pod.grace()
	}
	switch s := c.status(r); {
	case s.State != Running && s.State != Paused && s.State != Restarting:
		// A supervisor would have started it again, which is for the pod's next start now.
		r.Resume = opts.resume && !c.pod.isLed() && r.Spec.Restart.wants(nil, r.Row)
		return c.settle(r)
	case r.Background:
		_, err := c.pod.request(ctx, request{Verb: verbStop, Container: c.name, Signal: opts.Signal, Grace: opts.Grace, Resume: opts.resume})
		if errors.Is(err, ErrNotRunning) {
			return nil // any more
		}
		return err
	}
	pidfd, err := r.Process.Open()
	if errors.Is(err, proc.ErrGone) {
		return c.settle(r)
	}
	if err != nil {
		return err
	}
	defer pidfd.Close()
	ended := make(chan struct{})
	go func() {
		_ = proc.Wait(context.Background(), pidfd)
		close(ended)
	}()
	if err := endProgram(c, r.ID, func(sig unix.Signal) error { return proc.Signal(pidfd, sig) }, ended, opts.Signal, opts.Grace); err != nil {
		return err
	}
	return c.recorded(ctx, r)
}

// isLed reports whether the pod's containers are led through a life, which is what starts them.
func (p *Pod) isLed() bool {
	_, err := p.life()
	return !errors.Is(err, fs.ErrNotExist)
}

// recorded waits until the runner of a container in its foreground has noted that it
// has ended, or is gone.
func (c *Container) recorded(ctx context.Context, r *record) error {
	for {
		now, err := c.record()
		if errors.Is(err, ErrNotFound) || err == nil && (now.ID != r.ID || now.State != Running) {
			return nil
		}
		if err != nil {
			return err
		}
		if !alive(now.Runner) {
			return c.settle(now)
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settle notes the end of a container that had nobody to note it, and clears away
// what is left of it.
func (c *Container) settle(r *record) error {
	if r.State != Running || alive(r.Runner) {
		return nil
	}
	if err := c.ended(r, nil, errors.New("it ended while nobody followed it")); err != nil {
		return err
	}
	return c.write(r)
}

// endProgram asks a program to end, and kills it, and all others of its container,
// if it has not after a while.
func endProgram(c *Container, id string, signal func(unix.Signal) error, ended <-chan struct{}, sig unix.Signal, grace time.Duration) error {
	g, err := cgroup.Open(c.pod.Cgroup() + "/" + id)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if g != nil {
		if is, err := g.Frozen(); err == nil && is {
			if err := g.Thaw(); err != nil {
				return err
			}
		}
	}
	if grace > 0 {
		if err := ignoreEnded(signal(sig)); err != nil {
			return err
		}
		select {
		case <-ended:
			return nil
		case <-time.After(grace):
		}
	}
	if err := ignoreEnded(signal(unix.SIGKILL)); err != nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-time.After(cleanTime):
		return errors.New("it does not end")
	}
}

func ignoreEnded(err error) error {
	if errors.Is(err, proc.ErrGone) || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Kill sends a signal to the first process of the container. ErrNotRunning.
func (c *Container) Kill(sig unix.Signal) error {
	pidfd, _, err := c.open()
	if err != nil {
		return c.wrap("kill", err)
	}
	defer pidfd.Close()
	err = proc.Signal(pidfd, sig)
	if errors.Is(err, proc.ErrGone) {
		err = ErrNotRunning
	}
	return c.wrap("kill", err)
}

// open returns a pidfd of the container's first process.
func (c *Container) open() (*os.File, *record, error) {
	r, err := c.record()
	if err != nil {
		return nil, nil, err
	}
	if r.State != Running {
		return nil, nil, fmt.Errorf("%w: its state is %s", ErrNotRunning, r.State)
	}
	pidfd, err := r.Process.Open()
	if errors.Is(err, proc.ErrGone) {
		err = ErrNotRunning
	}
	return pidfd, r, err
}

// Pause stops all processes of the container where they are.
func (c *Container) Pause(ctx context.Context) error {
	return c.freeze("pause", func(g *cgroup.Group) error {
		return c.pod.Still(ctx, func() error { return g.Freeze(ctx) })
	})
}

// Unpause lets them go on.
func (c *Container) Unpause() error { return c.freeze("unpause", (*cgroup.Group).Thaw) }

func (c *Container) freeze(verb string, f func(*cgroup.Group) error) error {
	pidfd, r, err := c.open()
	if err != nil {
		return c.wrap(verb, err)
	}
	defer pidfd.Close()
	g, err := cgroup.Open(c.group(r))
	if err == nil {
		err = f(g)
	}
	return c.wrap(verb, err)
}

// Exec starts another program in a container that runs: process is what its Spec's
// has changed to.
func (c *Container) Exec(ctx context.Context, change func(*specs.Spec) error, opts launcher.Options) (*launcher.Process, error) {
	r, err := c.record()
	if err == nil && r.State != Running {
		err = fmt.Errorf("%w: its state is %s", ErrNotRunning, r.State)
	}
	if err != nil {
		return nil, c.wrap("run in", err)
	}
	spec, err := c.ociSpec(r)
	if err != nil {
		return nil, err
	}
	return c.exec(ctx, r, spec, change, opts)
}

// exec is Exec for a container whose record is known, and what ociSpec makes of it.
func (c *Container) exec(ctx context.Context, r *record, of *specs.Spec, change func(*specs.Spec) error, opts launcher.Options) (*launcher.Process, error) {
	pidfd, err := r.Process.Open()
	if errors.Is(err, proc.ErrGone) {
		err = ErrNotRunning
	}
	if err != nil {
		return nil, c.wrap("run in", err)
	}
	defer pidfd.Close()
	spec, process := *of, *of.Process
	if r.Spec.Image != "" {
		// Where change finds the container's files.
		root := *spec.Root
		root.Path = fmt.Sprintf("/proc/%d/root", r.Process.PID)
		spec.Root = &root
	}
	process.Terminal, process.ConsoleSize = false, nil
	spec.Process = &process
	if err := change(&spec); err != nil {
		return nil, err
	}
	p, err := launcher.Exec(ctx, c.pod.Sandbox, pidfd, &spec, opts)
	if err != nil {
		return nil, c.wrap("run in", errors.Unwrap(err)) // which says in whose container already
	}
	return p, nil
}

// Wait returns when the container is at rest: its exit status; -1 if that is not
// known.
func (c *Container) Wait(ctx context.Context) (int, error) {
	for {
		r, err := c.record()
		if err != nil {
			return -1, err
		}
		s := c.status(r)
		if s.State == Exited {
			if r.State == Exited && r.ExitCode != nil {
				return *r.ExitCode, nil
			}
			return -1, nil
		}
		if err := c.untilChange(ctx, r); err != nil {
			return -1, c.wrap("wait for", err)
		}
	}
}

// untilChange returns when there may be something new: the process has ended, or a
// little time has passed.
func (c *Container) untilChange(ctx context.Context, r *record) error {
	if c.unattended(r) {
		// Its supervisor was killed: the next one takes it over, or notes its end.
		conn, err := c.pod.connect(ctx)
		if err != nil {
			return err
		}
		conn.Close()
	}
	wctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	pidfd, err := r.Process.Open()
	if err == nil && r.State == Running {
		_ = proc.Wait(wctx, pidfd)
		pidfd.Close()
	}
	delay := 5 * time.Millisecond
	if r.State == Restarting {
		delay = 100 * time.Millisecond
	}
	select {
	case <-time.After(delay):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Remove removes the container with its log. ErrRunning if it runs, unless force
// ends it: at once, or after the time that opts gives it; sandbox.ErrPaused then if the
// whole pod is paused.
func (c *Container) Remove(ctx context.Context, force bool, opts StopOptions) error {
	r, err := c.record()
	switch {
	case errors.Is(err, sandbox.ErrBadRecord) && force:
		return c.wrap("remove", c.removeDir(names.NewID()))
	case err != nil:
		return err
	}
	s := c.status(r).State
	if running := s == Running || s == Paused || s == Restarting; running && !force {
		return c.wrap("remove", ErrRunning)
	} else if running && frozen(c.pod.Cgroup()) {
		return c.wrap("remove", sandbox.ErrPaused) // with the pod: it cannot be asked to end
	} else if running {
		if err := c.stop(ctx, r, opts); err != nil {
			return c.wrap("remove", err)
		}
	} else if force {
		if err := c.stopStart(ctx, opts); err != nil {
			return c.wrap("remove", err)
		}
	}
	// Another one may have its name by now.
	if now, err := c.record(); errors.Is(err, ErrNotFound) || err == nil && now.ID != r.ID {
		return nil
	}
	return c.wrap("remove", c.discard(r))
}

// Stop ends those containers of the pod that are led, as Life says; then all others in
// the reverse order of their start; then all other programs, then its network and namespaces. Containers in the background start
// again with the pod.
func (p *Pod) Stop(ctx context.Context, opts sandbox.StopOptions) error {
	err := errors.Join(p.thaw(), p.stopContainers(ctx, opts, true))
	return errors.Join(err, p.Sandbox.Stop(ctx, opts))
}

// thaw lets a paused pod go on, so that its programs can end.
func (p *Pod) thaw() error {
	if !frozen(p.Cgroup()) {
		return nil
	}
	g, err := cgroup.Open(p.Cgroup())
	if err != nil {
		return err
	}
	return g.Thaw()
}

func (p *Pod) stopContainers(ctx context.Context, opts sandbox.StopOptions, resume bool) error {
	if opts.Grace == 0 {
		opts.Grace = p.grace()
	}
	errs := []error{p.endLife(ctx, opts)}
	recs, err := p.records() // as it has left them
	errs = append(errs, err)
	slices.SortStableFunc(recs, func(a, b *record) int { return b.Started.Compare(a.Started) })
	for _, r := range recs {
		c := &Container{pod: p, name: r.Spec.Name}
		// Each has a stop signal of its own, unless told otherwise.
		// A supervisor that hangs does not keep the others from being stopped.
		sctx, cancel := context.WithTimeout(ctx, max(opts.Grace, 0)+stopTime)
		err := c.stop(sctx, r, StopOptions{Signal: opts.Signal, Grace: opts.Grace, resume: resume && r.Background})
		cancel()
		errs = append(errs, c.wrap("stop", err))
	}
	return errors.Join(append(errs, p.dismiss(ctx))...)
}

// endLife ends the containers that are led, if the pod has a life that is not over.
func (p *Pod) endLife(ctx context.Context, opts sandbox.StopOptions) error {
	l, err := p.life()
	if errors.Is(err, fs.ErrNotExist) || err == nil && l.Done {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*max(opts.Grace, 0)+stopTime)
	defer cancel()
	_, err = p.request(ctx, request{Verb: verbEnd, Signal: opts.Signal, Grace: opts.Grace})
	return err
}

// dismiss has the pod's supervisor end, which has nothing to do any more.
func (p *Pod) dismiss(ctx context.Context) error {
	conn, err := p.dial()
	if isAbsent(err) || errors.Is(err, sandbox.ErrNotFound) {
		return p.awaitEnd(ctx)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	pidfd, err := peer(conn)
	if errors.Is(err, proc.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer pidfd.Close()
	wctx, cancel := context.WithTimeout(ctx, dismissTime)
	defer cancel()
	_, err = p.ask(wctx, conn, request{Verb: verbQuit}) // or it is beyond answering
	conn.Close()
	if err == nil && proc.Wait(wctx, pidfd) == nil {
		return nil
	}
	if err := ignoreEnded(proc.Signal(pidfd, unix.SIGKILL)); err != nil {
		return err
	}
	return proc.Wait(ctx, pidfd)
}

// peer returns a pidfd of the supervisor that a connection leads to, or proc.ErrGone.
func peer(conn *net.UnixConn) (pidfd *os.File, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := raw.Control(func(fd uintptr) { pidfd, err = peerOf(int(fd)) })
	return pidfd, errors.Join(err, cerr)
}

func peerOf(fd int) (*os.File, error) {
	// Since Linux 6.5.
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	switch err {
	case nil:
		return os.NewFile(uintptr(n), "pidfd"), nil
	case unix.ESRCH, unix.EINVAL:
		return nil, proc.ErrGone
	case unix.ENOPROTOOPT:
	default:
		return nil, os.NewSyscallError("getsockopt SO_PEERPIDFD", err)
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	pidfd, err := proc.OpenPID(int(cred.Pid))
	if err != nil {
		return nil, err
	}
	// As long as the connection stands, its process does, and the PID was its own.
	poll := []unix.PollFd{{Fd: int32(fd)}}
	if _, err := unix.Poll(poll, 0); err != nil || poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
		pidfd.Close()
		return nil, proc.ErrGone
	}
	return pidfd, nil
}

// awaitEnd waits for a supervisor that is just about to end.
func (p *Pod) awaitEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dismissTime)
	defer cancel()
	lock, err := flock.Wait(ctx, p.File(lockFile), flock.Exclusive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there was none
	}
	if err != nil {
		return fmt.Errorf("end supervisor of %v: %w", p, err)
	}
	return lock.Close()
}

// stopTime is how long it may take to stop a container, beyond its grace.
const stopTime = 10 * time.Second

// dismissTime is how long a supervisor may take to end.
const dismissTime = 2 * time.Second

// Start brings the pod up, and starts the containers again that were stopped with
// it. Those that are led go through their whole life again.
func (p *Pod) Start(ctx context.Context) error {
	if err := p.Sandbox.Start(ctx); err != nil {
		return err
	}
	recs, err := p.records()
	errs := []error{err}
	if l, err := p.life(); err == nil && (!l.Done || l.Stopped) {
		_, err := p.request(ctx, request{Verb: verbLead})
		errs = append(errs, err)
	}
	slices.SortStableFunc(recs, func(a, b *record) int { return a.Started.Compare(b.Started) })
	for _, r := range recs {
		c := &Container{pod: p, name: r.Spec.Name}
		if r.Resume || c.unattended(r) {
			errs = append(errs, c.revive(ctx, r))
		}
	}
	return errors.Join(errs...)
}

// unattended reports whether a container in the background has lost its supervisor.
func (c *Container) unattended(r *record) bool {
	return r.Background && (r.State == Running || r.State == Restarting) && !alive(r.Runner)
}

// revive starts a container, or has a supervisor take it over.
func (c *Container) revive(ctx context.Context, r *record) error {
	if !r.Resume {
		conn, err := c.pod.connect(ctx)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := c.Start(ctx); !errors.Is(err, ErrRunning) {
		return err
	}
	return nil
}

// RemoveIdle removes the pod, but returns sandbox.ErrBusy if a container runs or will
// be started again, or another program runs in it.
func (p *Pod) RemoveIdle(ctx context.Context) error {
	list, err := p.List()
	for _, s := range list {
		if s.State == Running || s.State == Paused || s.State == Restarting {
			return fmt.Errorf("remove %v: %w, such as container %s, which is %s", p, sandbox.ErrBusy, s.Name, s.State)
		}
	}
	if err == nil {
		err = p.dismiss(ctx)
	}
	if err != nil && !errors.Is(err, sandbox.ErrBadRecord) {
		return err
	}
	return p.Sandbox.RemoveIdle(ctx)
}

// Remove ends everything in the pod and removes it; see sandbox.Remove. Containers
// have as much time as opts says, the rest has none.
func (p *Pod) Remove(ctx context.Context, opts sandbox.StopOptions) error {
	err := errors.Join(p.thaw(), p.stopContainers(ctx, opts, false))
	if rerr := p.Sandbox.RemoveAfter(ctx, opts); rerr != nil {
		return errors.Join(err, rerr)
	}
	return nil // whatever could not be stopped is gone
}
