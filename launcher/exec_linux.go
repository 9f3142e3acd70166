package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsfs"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/sandbox"
)

// Exec starts another program in a container of the pod, of which container is any
// process, by a pidfd. Of spec, which is the one that the container was started with but for its
// Process, only what makes a process secure is acted on: Process, and of Linux the
// cgroup, the filter of system calls and the personality. Everything else the program
// shares with the container's: all namespaces, and the root. Resources are not set
// again.
func Exec(ctx context.Context, pod *sandbox.Sandbox, container *os.File, spec *specs.Spec, opts Options) (*Process, error) {
	s := &specs.Spec{Process: spec.Process, Root: spec.Root}
	if l := spec.Linux; l != nil {
		s.Linux = &specs.Linux{CgroupsPath: l.CgroupsPath, Seccomp: l.Seccomp, Personality: l.Personality}
	}
	err := check(s)
	if err == nil {
		var p *Process
		l := newLaunch(s, opts)
		l.inside, l.ids = container, mapping(spec)
		if p, err = l.start(ctx, pod); err == nil {
			return p, nil
		}
	}
	return nil, fmt.Errorf("run in a container of %v: %w", pod, err)
}

// early are the kinds of namespaces that a thread joins for its child, which enters
// those that are late itself.
const early = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWPID

// join moves the calling thread into the container.
func (l *launch) join(entry *sandbox.Entry) (err error) {
	l.ns.pod &= entry.Flags
	// The container's own user namespace is entered last. To join that in which
	// one is is an error.
	if l.userns, err = foreignNamespace(l.inside, "user"); err != nil {
		return err
	}
	if l.ns.cgroup, err = foreignNamespace(l.inside, "cgroup"); err != nil {
		return err
	}
	if err := nsthread.Join(l.inside, early); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return proc.ErrGone
		}
		return err
	}
	// The thread's root is that of the mount namespace now, wherever the
	// container's programs have moved theirs.
	root, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	l.root = &rootfs{spec: l.spec, proc: &l.proc, root: root}
	if l.root.cwd, err = openIn(root, l.spec.Process.Cwd, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return fmt.Errorf("process.cwd: %w", err)
	}
	pts, err := openIn(root, "/dev/pts", unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil // nobody needs it but for a terminal, and then there is the host's
	}
	defer pts.Close()
	l.root.pts, err = openPTS(pts)
	return err
}

// foreignNamespace opens the namespace of a kind, as it is called in /proc, of a process; nil
// if it is ours.
func foreignNamespace(pidfd *os.File, kind string) (f *os.File, err error) {
	defer func() {
		// A process on its way out has no namespaces any more; that of one that has ended
		// may be another's.
		if errors.Is(err, fs.ErrNotExist) || proc.Exited(pidfd) {
			_ = f.Close() // which may be nil
			f, err = nil, proc.ErrGone
		}
	}()
	pid, err := proc.PIDOf(pidfd)
	if err != nil {
		return nil, err
	}
	theirs, err := nsfs.Inode(pid, kind)
	if err != nil {
		return nil, err
	}
	ours, err := nsfs.Inode(os.Getpid(), kind)
	if err != nil || ours == theirs {
		return nil, err
	}
	return os.Open(nsfs.Path(pid, kind))
}
