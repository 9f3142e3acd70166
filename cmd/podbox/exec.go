package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// execFlags are the flags of exec as they are given.
type execFlags struct {
	interactive, tty bool

	env                      []string
	workdir, user, container string
}

func (a *app) exec() *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec [flags] POD -- COMMAND [ARG...]",
		Short: "Run a program in a pod, or in a container of it",
		Long: `Run a program of the host in a pod: it has the pod's network, IPC objects,
/dev/shm, host name and DNS settings, and the host's files. The exit status is
the program's own; 128+N if signal N ended it; 125 if podbox failed, 126 if the
program cannot be executed, 127 if there is none. Signals sent to podbox are
passed on, and the program is killed if podbox is, unless it has gained privileges
by a set-user-ID file. It may have at most 1,024 files open unless it raises that
limit itself. The working directory is entered before the user is changed.

With -c the program runs in a container: it has the container's files, namespaces,
limits, user, environment and rights, unless it is told otherwise.`,
		Example: `  podbox exec web -- ip addr
  podbox exec web -- redis-server &
  podbox exec -it web -- bash
  podbox exec -it -c db web -- sh
  podbox exec -u www-data -e DEBUG=1 -w /srv web -- ./server`,
		Args:              podAndCommand("exec"),
		ValidArgsFunction: a.podThenCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			pod, err := a.pod(args[0])
			if err != nil {
				return err
			}
			if f.container != "" {
				return f.inContainer(cmd.Context(), pod, args[1:])
			}
			process, err := f.process(args[1:])
			if err != nil {
				return err
			}
			spec := &specs.Spec{Process: process, Linux: &specs.Linux{CgroupsPath: pod.HostCgroup()}}
			return inForeground(cmd.Context(), process, f.interactive, func(ctx context.Context, stdio launcher.IO) (foreground, error) {
				p, err := launcher.Start(ctx, pod.Sandbox, spec, stdio)
				if err != nil {
					return nil, err
				}
				return p, nil
			})
		},
	}
	cmd.SetFlagErrorFunc(dashHint("exec"))
	fl := cmd.Flags()
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "pass standard input on")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give the program a terminal")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "set `NAME=VALUE`, or NAME to the value that podbox has")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "working `directory` (default that of podbox)")
	fl.StringVarP(&f.user, "user", "u", "", "run as `USER[:GROUP]`, names or numbers, with the user's groups")
	fl.StringVarP(&f.container, "container", "c", "", "run in this `container` of the pod, with its files and its rights")
	return cmd
}

// process turns the flags into what to run.
func (f *execFlags) process(args []string) (*specs.Process, error) {
	p := &specs.Process{Args: args, Cwd: f.workdir, Terminal: f.tty}
	var err error
	if p.Cwd != "" && !filepath.IsAbs(p.Cwd) {
		return nil, fmt.Errorf("--workdir %q: %w: want an absolute path", p.Cwd, sandbox.ErrInvalid)
	}
	if p.Cwd == "" {
		if p.Cwd, err = os.Getwd(); err != nil {
			p.Cwd = "/"
		}
	}
	env := newEnv(os.Environ())
	if f.user == "" {
		if err := currentUser(&p.User); err != nil {
			return nil, err
		}
	} else {
		home, err := lookUpUser(f.user, &p.User)
		if err != nil {
			return nil, err
		}
		env.set("HOME", home)
	}
	if f.tty && !env.has("TERM") {
		env.set("TERM", "xterm")
	}
	if err := env.setAll(f.env); err != nil {
		return nil, err
	}
	p.Env = env.list
	if f.tty {
		p.ConsoleSize = terminalSize()
	}
	return p, nil
}

// terminalSize returns the size of the terminal that podbox writes to; nil if it
// writes to none.
func terminalSize() *specs.Box {
	size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil
	}
	return &specs.Box{Width: uint(size.Col), Height: uint(size.Row)}
}

// inContainer runs a program in a container.
func (f *execFlags) inContainer(ctx context.Context, pod *supervisor.Pod, args []string) error {
	c, err := pod.Container(f.container)
	if err != nil {
		return err
	}
	terminal := &specs.Process{Terminal: f.tty} // as much as inForeground needs to know
	return inForeground(ctx, terminal, f.interactive, func(ctx context.Context, stdio launcher.IO) (foreground, error) {
		p, err := c.Exec(ctx, func(spec *specs.Spec) error { return f.change(spec, args) }, launcher.Options{IO: stdio})
		if err != nil {
			return nil, err
		}
		return p, nil
	})
}

// change makes of what a container is started with what a program in it is.
func (f *execFlags) change(spec *specs.Spec, args []string) error {
	p := spec.Process
	p.Args, p.Terminal = args, f.tty
	if f.workdir != "" {
		p.Cwd = f.workdir
	}
	env := newEnv(p.Env)
	if f.user != "" {
		home, err := "", error(nil)
		p.User = specs.User{Umask: p.User.Umask}
		if spec.Root == nil {
			home, err = lookUpUser(f.user, &p.User)
		} else {
			home, err = lookUpIn(spec.Root.Path, f.user, &p.User)
		}
		if err != nil {
			return err
		}
		env.set("HOME", home)
		changeUser(p)
	}
	if f.tty {
		env.set("TERM", "xterm")
		p.ConsoleSize = terminalSize()
	}
	if err := env.setAll(f.env); err != nil {
		return err
	}
	p.Env = env.list
	return nil
}

// changeUser gives root what the container may have at most, and nobody else
// anything, as execve(2) would.
func changeUser(p *specs.Process) {
	if p.Capabilities == nil {
		return
	}
	caps := *p.Capabilities
	caps.Effective, caps.Permitted, caps.Ambient = nil, nil, nil
	if p.User.UID == 0 {
		caps.Effective, caps.Permitted = caps.Bounding, caps.Bounding
	}
	p.Capabilities = &caps
}

// An env is an environment in which each name stands once.
type env struct {
	list  []string
	index map[string]int
}

func newEnv(list []string) *env {
	e := &env{index: make(map[string]int)}
	for _, s := range list {
		if name, value, ok := strings.Cut(s, "="); ok && name != "" {
			e.set(name, value)
		}
	}
	return e
}

// setAll sets what --env says.
func (e *env) setAll(words []string) error {
	for _, w := range words {
		name, value, found := strings.Cut(w, "=")
		if name == "" {
			return fmt.Errorf("--env %q: %w: want NAME=VALUE", w, sandbox.ErrInvalid)
		}
		if !found {
			if value, found = os.LookupEnv(name); !found {
				continue
			}
		}
		e.set(name, value)
	}
	return nil
}

func (e *env) has(name string) bool { _, ok := e.index[name]; return ok }

func (e *env) set(name, value string) {
	if i, ok := e.index[name]; ok {
		e.list[i] = name + "=" + value
		return
	}
	e.index[name] = len(e.list)
	e.list = append(e.list, name+"="+value)
}

// currentUser keeps who podbox runs as.
func currentUser(u *specs.User) error {
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	u.UID, u.GID = uint32(os.Getuid()), uint32(os.Getgid())
	for _, g := range groups {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	return nil
}

// A foreground is a program that has podbox's streams and signals.
type foreground interface {
	Signal(unix.Signal) error
	Resize(width, height uint16) error
	Wait(context.Context) (int, error)
}

// inForeground starts a program and stays with it to its end, and answers with its
// exit status.
func inForeground(ctx context.Context, process *specs.Process, interactive bool, begin func(context.Context, launcher.IO) (foreground, error)) error {
	// From now on signals are the program's. To ask for all of them takes as long
	// as a start: those that people, scripts and service managers send come first, the
	// others while the program starts.
	signals := make(chan os.Signal, 32)
	const urgent = 6
	notify(signals, forwarded[:urgent])
	go notify(signals, forwarded[urgent:])

	stdio := launcher.IO{Stdout: os.Stdout, Stderr: os.Stderr}
	if interactive {
		stdio.Stdin = os.Stdin
	}
	if process.Terminal && interactive {
		restore, err := makeRaw(os.Stdin)
		if err != nil {
			return err
		}
		defer restore()
	}
	p, err := start(ctx, signals, func(ctx context.Context) (foreground, error) { return begin(ctx, stdio) })
	if err != nil {
		return err
	}
	go forward(signals, p, process.Terminal)
	status, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	if status != 0 {
		return exit.Status(status)
	}
	return nil
}

// startTime is how long a signal waits for a program that is being started.
const startTime = 2 * time.Second

// start starts the program. A signal that comes meanwhile is the program's too, which may
// run already although nobody here has noticed. If that takes long, or another signal comes, it
// ends the start, which may hang: on a file server, or because a program in the pod stops all
// that it sees.
func start(ctx context.Context, signals chan os.Signal, begin func(context.Context) (foreground, error)) (foreground, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var came []unix.Signal
	started, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		var late <-chan time.Time
		for {
			select {
			case s := <-signals:
				if s == unix.SIGWINCH || s == unix.SIGCONT {
					continue
				}
				came = append(came, s.(unix.Signal))
				if late != nil {
					cancel()
				} else {
					late = time.After(startTime)
				}
			case <-late:
				cancel()
			case <-started:
				return
			}
		}
	}()
	p, err := begin(ctx)
	close(started)
	<-watched
	if len(came) == 0 {
		return p, err
	}
	if err != nil {
		return nil, exit.Status(128 + int(came[len(came)-1]))
	}
	for _, s := range came {
		_ = p.Signal(s)
	}
	return p, nil
}

// forward passes signals on to a program.
func forward(signals <-chan os.Signal, p foreground, terminal bool) {
	for s := range signals {
		if s == unix.SIGWINCH && terminal {
			if size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ); err == nil {
				_ = p.Resize(size.Col, size.Row)
			}
			continue
		}
		_ = p.Signal(s.(unix.Signal))
	}
}

// notify asks for the signals that are passed on. What podbox was started with
// ignored, by nohup(1) or a shell's background job, the program ignores too.
func notify(signals chan<- os.Signal, which []os.Signal) {
	for _, s := range which {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
}

// forwarded are the signals that are passed on to a program: all that can be
// caught, but those that are about podbox itself (its children, its pipes, its
// runtime) or about the job control of the shell that it was started from. The
// first six are the urgent ones.
var forwarded = []os.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGALRM, unix.SIGCONT, unix.SIGWINCH, unix.SIGIO, unix.SIGPWR,
}
