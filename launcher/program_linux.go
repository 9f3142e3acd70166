package launcher

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/launcher/internal/doorstep"
)

// program is what the child does between clone and exec.
func (l *launch) program(files []*os.File, g *gate) (*spawn.Program, error) {
	spec := l.spec
	caps, err := capabilitySets(spec.Process.Capabilities)
	if err != nil {
		return nil, err
	}
	if caps == nil && spec.Root != nil {
		caps = new(capSets)
	}
	p := new(spawn.Program)
	if l.group != nil {
		// Before it does anything else.
		p.InCgroups(l.group.Into, l.group.Tasks)
	}
	if _, err := l.high(l.mark); err != nil {
		return nil, err
	}
	// The child waits with files of its own only: what others of this process have
	// locked, or wait for to be closed, it does not keep from them.
	if err := l.streamCalls(p, files); err != nil {
		return nil, err
	}
	if err := l.gateCalls(p, g); err != nil {
		return nil, err
	}
	if err := l.proc.calls(p, l.high); err != nil {
		return nil, err
	}
	if l.crossing != nil {
		p.Call("keep the status pipe", unix.SYS_DUP3, l.crossing.write.Fd(), doorstep.StatusFD, 0)
	}
	limits(p, l.ns.joins(unix.CLONE_NEWPID), spec.Process.Rlimits)
	schedule(p, spec.Process, spec.Linux)
	if err := l.lateNamespaces(p); err != nil {
		return nil, err
	}
	if err := l.directory(p); err != nil {
		return nil, err
	}
	if !spec.Process.NoNewPrivileges {
		// While it may.
		p.SetMask()
		l.filter.install(p)
	}
	become(p, spec.Process.User, caps)
	if spec.Process.NoNewPrivileges {
		p.Call("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if err := l.lastCalls(p); err != nil {
		return nil, err
	}
	return p, l.exec(p)
}

// high duplicates a file to where the child keeps it until it executes its program.
func (l *launch) high(f *os.File) (uintptr, error) {
	high, err := spawn.DupHigh(int(f.Fd()))
	if err != nil {
		return 0, err
	}
	l.files = append(l.files, high)
	return high.Fd(), nil
}

// streamCalls gives the child its session and its standard streams.
func (l *launch) streamCalls(p *spawn.Program, files []*os.File) error {
	var fds []int
	for _, f := range files {
		fd, err := l.high(f)
		if err != nil {
			return err
		}
		fds = append(fds, int(fd))
	}
	p.Call("setsid", unix.SYS_SETSID)
	if l.spec.Process.Terminal {
		p.Call("set controlling terminal", unix.SYS_IOCTL, uintptr(fds[0]), unix.TIOCSCTTY, 0)
	}
	if err := p.Files(fds); err != nil {
		return err
	}
	p.Call("close_range", unix.SYS_CLOSE_RANGE, uintptr(len(fds)), spawn.MinFD-1, 0)
	return nil
}

// lateNamespaces are entered when the child needs the privileges of the host no
// more.
func (l *launch) lateNamespaces(p *spawn.Program) error {
	if l.ns.fresh&unix.CLONE_NEWCGROUP != 0 {
		p.Call("new cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	}
	if l.ns.cgroup != nil {
		fd, err := l.high(l.ns.cgroup)
		if err != nil {
			return err
		}
		p.Call("join cgroup namespace", unix.SYS_SETNS, fd, unix.CLONE_NEWCGROUP)
	}
	if l.userns == nil {
		return nil
	}
	fd, err := l.high(l.userns)
	if err != nil {
		return err
	}
	p.Call("join user namespace", unix.SYS_SETNS, fd, unix.CLONE_NEWUSER)
	return nil
}

// directory enters the working directory: in a container one that was resolved in
// it, so that no path leads to a descriptor of ours (CVE-2024-21626).
func (l *launch) directory(p *spawn.Program) error {
	s := l.spec.Process
	if l.root != nil {
		fd, err := l.high(l.root.cwd)
		if err != nil {
			return err
		}
		p.Call("change to directory "+s.Cwd, unix.SYS_FCHDIR, fd)
	} else {
		dir, err := p.String(s.Cwd)
		if err != nil {
			return err
		}
		p.Call("change to directory "+s.Cwd, unix.SYS_CHDIR, dir)
	}
	umask := s.User.Umask
	if umask == nil && l.root != nil {
		umask = new(uint32)
		*umask = 0o022
	}
	if umask != nil {
		p.Call("umask", unix.SYS_UMASK, uintptr(*umask))
	}
	return nil
}

// lastCalls let go of what the child had of us.
func (l *launch) lastCalls(p *spawn.Program) error {
	if !l.opts.Detached {
		// Changing identity clears the death signal: it comes after.
		fd, err := l.high(l.self)
		if err != nil {
			return err
		}
		dieWith(p, fd)
	}
	if !l.spec.Process.NoNewPrivileges {
		return nil
	}
	p.SetMask()
	l.filter.install(p)
	return nil
}

// dieWith makes the child die with its parent, and not begin if that has died
// before it could say so.
func dieWith(p *spawn.Program, parent uintptr) {
	p.Call("set death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	// getppid(2) answers 0 across PID namespaces, a pidfd the truth: it is
	// readable once its process has ended.
	fd := spawn.Pointer(p, &unix.PollFd{Fd: int32(parent), Events: unix.POLLIN})
	now := spawn.Pointer(p, new(unix.Timespec))
	p.Expect("find the parent alive", 0, unix.SYS_PPOLL, fd, 1, now, 0, 0)
}

// exec has the child execute the program: a container's by way of an init, or of a
// doorstep.
func (l *launch) exec(p *spawn.Program) error {
	s := l.spec.Process
	switch {
	case l.opts.Init != nil:
		return l.execInit(p)
	case l.crossing == nil:
		paths, err := candidates(s)
		if err != nil {
			return err
		}
		return p.Exec(paths, s.Args, s.Env)
	}
	fd, err := l.high(l.crossing.program)
	if err != nil {
		return err
	}
	return p.ExecFD(int(fd), doorstep.Args(l.crossing.paths, s.Args), s.Env)
}

func (l *launch) execInit(p *spawn.Program) error {
	s := l.spec.Process
	// What the init finds wrong it can say by its exit status only.
	path, err := executable(s)
	if err != nil {
		return err
	}
	fd, err := l.high(l.opts.Init)
	if err != nil {
		return err
	}
	return p.ExecFD(int(fd), append([]string{"init", "--", path}, s.Args[1:]...), s.Env)
}
