package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

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
	self    *os.File // a pidfd of the calling process
	group   *cgroup.Entrance

	files []*os.File // to close in the end
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
	for _, f := range append(l.files, l.userns, l.self) {
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
	if err := l.prepareLinux(spec.Linux); err != nil {
		return err
	}
	if spec.Root == nil && l.inside == nil {
		return copyMounts()
	}
	if err := newMountThread(); err != nil || l.inside != nil {
		return err
	}
	l.root, err = openRootfs(spec, &l.proc)
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
		if l.userns, err = newUserNamespace(linux.UIDMappings, linux.GIDMappings); err != nil {
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
	if err != nil {
		return fmt.Errorf("linux.cgroupsPath: %w", err)
	}
	if l.inside == nil {
		if err := g.Create(l.spec.Linux.Resources); err != nil {
			return err
		}
	}
	l.group, err = g.Entrance()
	return err
}

// launch moves the calling thread into the pod and starts the program from there.
func (l *launch) launch(ctx context.Context, entry *sandbox.Entry, p *Process) error {
	if err := l.makeGroup(); err != nil {
		return err
	}
	if err := l.build(ctx, entry); err != nil {
		return err
	}
	if l.spec.Process.Terminal {
		if err := l.openTerminal(p); err != nil {
			return fmt.Errorf("open terminal: %w", err)
		}
	}
	if l.root != nil && l.inside == nil {
		if err := l.root.pivot(); err != nil {
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
	flags := uint64(l.ns.fresh & born)
	child, err := program.Begin(flags, spawn.Inherit)
	if err != nil {
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
	return setOOM(p, l.spec.Process.OOMScoreAdj)
}

// build makes the program's surroundings.
func (l *launch) build(ctx context.Context, entry *sandbox.Entry) error {
	switch {
	case l.inside != nil:
		return l.join()
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

// openTerminal makes the program's terminal: the container's own if it has a
// devpts(5), else one of the host's.
func (l *launch) openTerminal(p *Process) error {
	var master, slave *os.File
	var err error
	if l.root != nil && hasPTS(l.root.mounts) {
		master, slave, err = openConsole(l.root.root, l.root.dev)
	} else if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err == nil {
		master, slave, err = openPTY(master)
	}
	if err != nil {
		return err
	}
	p.console = master
	if p.streams, err = terminalStreams(l.spec.Process, l.opts.IO, master, slave); err != nil {
		master.Close()
		slave.Close()
	}
	return err
}

// A gate is where the child waits until it is known to others.
type gate struct{ read, write *os.File }

func (l *launch) newGate() (*gate, error) {
	if l.opts.Born == nil && l.spec.Hooks == nil {
		return nil, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	l.files = append(l.files, r, w)
	return &gate{r, w}, nil
}

// calls has the child wait, and end if its parent does.
func (g *gate) calls(p *spawn.Program) {
	if g == nil {
		return
	}
	p.Call("wait for parent", unix.SYS_CLOSE, g.write.Fd())
	p.Expect("wait for parent", 1, unix.SYS_READ, g.read.Fd(), spawn.Pointer(p, new([1]byte)), 1)
}

// atGate does what is to be done while the child waits, and lets it go on, or not.
func (l *launch) atGate(ctx context.Context, child proc.Identity, g *gate) error {
	if g == nil {
		return nil
	}
	defer g.write.Close()
	defer g.read.Close()
	done := make(chan error)
	go func() { // on a thread that sees the host's files
		err := l.beforeStart(ctx, child.PID)
		if err == nil && l.opts.Born != nil {
			err = l.opts.Born(child)
		}
		done <- err
	}()
	err := <-done
	if err == nil {
		_, err = g.write.Write([]byte{1})
	}
	return err
}

// afterStart runs the hooks that come when the program runs.
func (l *launch) afterStart(ctx context.Context, p *Process) error {
	h := l.spec.Hooks
	if h == nil {
		return nil
	}
	return runHooks(ctx, "poststart", h.Poststart, l.state(specs.StateRunning, p.PID()))
}

// poststop returns what runs the hooks that come after the program's end; nil if
// there are none. Their errors are nobody's.
func (l *launch) poststop(pid int) func() {
	h := l.spec.Hooks
	if h == nil || len(h.Poststop) == 0 {
		return nil
	}
	return func() {
		_ = runHooks(context.Background(), "poststop", h.Poststop, l.state(specs.StateStopped, pid))
	}
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

// DefaultPath is where programs are looked for if their environment has no PATH.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// candidates are the paths to try for a program; but where the calling thread sees
// that there is nothing, the child need not try.
func candidates(s *specs.Process) []string {
	if strings.Contains(s.Args[0], "/") {
		return []string{s.Args[0]}
	}
	paths := slices.DeleteFunc(searchPaths(s), func(p string) bool { return unix.Access(p, unix.F_OK) == unix.ENOENT })
	if len(paths) == 0 {
		paths = []string{s.Args[0]}
	}
	return paths
}

// searchPaths are the paths at which execvp(3) looks for a program.
func searchPaths(s *specs.Process) []string {
	name := s.Args[0]
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) {
			name = path.Join(s.Cwd, name)
		}
		return []string{name}
	}
	list := DefaultPath
	for _, e := range s.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			list = v
		}
	}
	var paths []string
	for dir := range strings.SplitSeq(list, ":") {
		// An empty entry is the working directory.
		p := path.Join(s.Cwd, dir, name)
		if path.IsAbs(dir) {
			p = path.Join(dir, name)
		}
		paths = append(paths, p)
	}
	return paths
}
