package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/cgroup"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/internal/sysctl"
	"github.com/podbox/podbox/sandbox"
)

// A launch is a program on its way up: what its parts hand to one another. All of
// it happens on one thread, which the program is then born from.
type launch struct {
	spec   *specs.Spec
	opts   Options
	inside *os.File // a process of the container to join, if it is not a new one

	ns      *namespaces
	root    *rootfs // nil for a program on the host's filesystem
	proc    procfs
	filter  *filter
	userns  *os.File
	sysctls *sysctl.Dir
	self    *os.File  // a pidfd of the calling process
	mark    *os.File  // by which the child is found if it hangs
	ids     idMapping // of the container's user namespace
	group   *cgroup.Entrance

	borrowed chan error    // closed when the entry has what the pod lends
	crossing *crossing     // nil for a program that is executed at once
	made     *cgroup.Group // the program's group, if it was not there
	hooked   bool          // the first hooks have been run, if there are any
	files    []*os.File    // to close in the end
}

func newLaunch(spec *specs.Spec, opts Options) *launch {
	return &launch{spec: spec, opts: opts, ids: mapping(spec), borrowed: make(chan error, 1)}
}

func (l *launch) close() {
	if l.ns != nil {
		l.ns.close()
	}
	if l.root != nil {
		l.root.close()
	}
	l.proc.close()
	if l.sysctls != nil {
		l.sysctls.Close()
	}
	if l.group != nil {
		l.group.Close()
	}
	for _, f := range append(l.files, l.userns, l.self, l.mark) {
		if f != nil {
			f.Close()
		}
	}
	l.files = nil
}

// prepare does what needs the host's mount namespace, or does not need the pod.
func (l *launch) prepare() (err error) {
	spec := l.spec
	if err := l.proc.open(); err != nil {
		return err
	}
	if l.self, err = proc.OpenPID(os.Getpid()); err != nil {
		return err
	}
	if err := setLabels(spec.Process); err != nil {
		return err
	}
	if spec.Root != nil || l.inside != nil {
		if err := newKeyring(); err != nil {
			return err
		}
	}
	if err := l.prepareLinux(spec.Linux); err != nil {
		return err
	}
	if spec.Root == nil && l.inside == nil {
		return copyMounts()
	}
	if err := newMountThread(); err != nil || l.inside != nil {
		return err
	}
	l.root, err = openRootfs(l)
	return err
}

func (l *launch) prepareLinux(linux *specs.Linux) (err error) {
	if l.ns, err = openNamespaces(linux); err != nil || linux == nil {
		return err
	}
	if l.filter, err = newFilter(linux.Seccomp); err != nil {
		return err
	}
	if len(linux.UIDMappings) > 0 {
		if l.userns, err = newUserNamespace(l.ids); err != nil {
			return err
		}
	}
	if len(linux.Sysctl) > 0 {
		if l.sysctls, err = sysctl.Open(); err != nil {
			return err
		}
	}
	return nil
}

// makeGroup makes the program's cgroup. The pod is entered: who removes it now waits
// for us, and removes the cgroup too.
func (l *launch) makeGroup() error {
	if l.spec.Linux == nil || l.spec.Linux.CgroupsPath == "" {
		return nil
	}
	g, err := cgroup.Open(l.spec.Linux.CgroupsPath)
	if errors.Is(err, fs.ErrNotExist) && l.spec.Linux.Resources == nil {
		return nil // the host has no cgroups, and nothing was asked of them
	}
	if err != nil {
		return fmt.Errorf("linux.cgroupsPath: %w", err)
	}
	if l.inside != nil || l.spec.Linux.Resources == nil {
		// Mostly it is there already.
		if l.group, err = g.Entrance(); l.inside != nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	made := !isThere(g)
	if err := g.Create(l.spec.Linux.Resources); err != nil {
		return err
	}
	if made {
		l.made = g
	}
	l.group, err = g.Entrance()
	return err
}

// isFrozen reports whether the program's cgroup is, or one above it.
func (l *launch) isFrozen() bool {
	if l.spec.Linux == nil || l.spec.Linux.CgroupsPath == "" {
		return false
	}
	g, err := cgroup.Open(l.spec.Linux.CgroupsPath)
	if err != nil {
		return false
	}
	is, err := g.Frozen()
	return err == nil && is
}

// isFrozenInside is isFrozen from a thread that does not see the host's files any more.
func (l *launch) isFrozenInside() (is bool) {
	_ = nsthread.Do(func() error {
		is = l.isFrozen()
		return nil
	})
	return is
}

// isThere reports whether a group is there, in whichever hierarchy.
func isThere(g *cgroup.Group) bool {
	return slices.ContainsFunc(g.Views(), func(v cgroup.View) bool {
		_, err := os.Stat(v.Dir)
		return !errors.Is(err, fs.ErrNotExist)
	})
}

// undo takes back what a start that failed has done and that does not end with it.
func (l *launch) undo() error {
	l.afterEnd()
	return l.removeGroup()
}

// removeGroup removes the program's cgroup if it was not there before.
func (l *launch) removeGroup() error {
	if l.made == nil {
		return nil
	}
	_, err := l.made.RemoveEmpty()
	return err
}

// launch moves the calling thread into the pod and starts the program from there.
func (l *launch) launch(ctx context.Context, entry *sandbox.Entry, p *Process) error {
	err := l.makeGroup()
	if berr := <-l.borrowed; err == nil {
		err = berr
	}
	if err == nil && l.inside != nil && l.isFrozen() {
		err = ErrPaused // the child would be born so, and we would wait for it
	}
	if err != nil {
		return err
	}
	if l.mark, err = entry.OpenMark(); err != nil {
		return err
	}
	if err := l.build(ctx, entry); err != nil {
		return err
	}
	if err := l.openFiles(entry, p); err != nil {
		return err
	}
	if l.root != nil && l.inside == nil {
		if err := l.root.finish(); err != nil {
			return err
		}
	}
	gate, err := l.newGate()
	if err != nil {
		return err
	}
	program, err := l.program(p.streams.child, gate)
	if err != nil {
		return err
	}
	if err := l.spawn(ctx, program, gate, p); err != nil {
		return err
	}
	// It is a member now, like others. If one of those stops it on the doorstep, that
	// keeps nobody from stopping the pod.
	entry.Close()
	if l.crossing != nil {
		if err := l.crossing.executed(ctx, l.proc.host, p.PID(), l.isFrozenInside); err != nil {
			return errors.Join(err, p.discard())
		}
	}
	return setOOM(p, l.spec.Process.OOMScoreAdj)
}

// spawn makes the program's process.
func (l *launch) spawn(ctx context.Context, program *spawn.Program, gate *gate, p *Process) error {
	signals := spawn.Inherit
	if l.opts.Init != nil {
		signals = spawn.Blocked // until it is ready: none that comes early is lost
	}
	child, err := program.Begin(uint64(l.ns.fresh&born), signals)
	if err != nil {
		if l.inside != nil && proc.Exited(l.inside) {
			return proc.ErrGone // nobody is born any more where process 1 has ended
		}
		return err
	}
	p.identity, err = proc.IdentifyChild(l.proc.host, child.PID)
	if err == nil {
		err = l.atGate(ctx, p.identity, gate)
	}
	if err != nil {
		_ = proc.Signal(child.PidFD, unix.SIGKILL)
	}
	started, aerr := child.Await(ctx)
	if aerr != nil {
		if err == nil {
			err = aerr
		}
		return err
	}
	p.pidfd = started.PidFD
	if err != nil {
		return errors.Join(err, p.discard())
	}
	return nil
}

// build makes the program's surroundings.
func (l *launch) build(ctx context.Context, entry *sandbox.Entry) error {
	switch {
	case l.inside != nil:
		return l.join(entry)
	case l.root == nil:
		return l.buildOnHost(ctx, entry)
	}
	if err := l.root.borrow(ctx, entry); err != nil {
		return err
	}
	if err := l.enter(entry); err != nil {
		return err
	}
	return l.root.build(entry, l.ns)
}

// openFiles opens what the program is given: its terminal or its null devices, and
// how it is executed.
func (l *launch) openFiles(entry *sandbox.Entry, p *Process) (err error) {
	if l.spec.Process.Terminal {
		if err := l.openTerminal(p); err != nil {
			return fmt.Errorf("process.terminal: %w", err)
		}
	} else if err := p.streams.fill(func() (*os.File, error) { return l.openNull(entry) }); err != nil {
		return err
	}
	if l.root != nil && l.opts.Init == nil {
		l.crossing, err = l.newCrossing()
	}
	return err
}

// enter moves the calling thread into the program's namespaces.
func (l *launch) enter(entry *sandbox.Entry) error {
	if err := l.ns.enter(entry, l.root != nil); err != nil {
		return err
	}
	if l.sysctls != nil {
		for name, value := range l.spec.Linux.Sysctl {
			if err := l.sysctls.Set(name, value); err != nil {
				return err
			}
		}
	}
	return setHostname(l.spec)
}

// setOOM is setOOMScoreAdj from a thread that sees the host's /proc.
func setOOM(p *Process, adj *int) error {
	if adj == nil {
		return nil
	}
	err := nsthread.Do(func() error { return setOOMScoreAdj(p.PID(), adj) })
	if err != nil {
		return errors.Join(err, p.discard())
	}
	return nil
}

// discard ends a program that was started for nothing.
func (p *Process) discard() error {
	err := proc.Signal(p.pidfd, unix.SIGKILL)
	if errors.Is(err, proc.ErrGone) {
		err = nil
	}
	_, werr := await(p.pidfd)
	return errors.Join(err, werr, p.pidfd.Close())
}
