package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
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
		Short: "Run a program in a pod, on the host's filesystem",
		Long: `Run a program of the host in a pod: it has the pod's network, IPC objects,
/dev/shm, host name and DNS settings, and the host's files. The exit status is
the program's own; 128+N if signal N ended it; 125 if podbox failed, 126 if the
program cannot be executed, 127 if there is none. Signals sent to podbox are
passed on, and the program is killed if podbox is, unless it has gained privileges
by a set-user-ID file. It may have at most 1,024 files open unless it raises that
limit itself. The working directory is entered before the user is changed.`,
		Example: `  podbox exec web -- ip addr
  podbox exec web -- redis-server &
  podbox exec -it web -- bash
  podbox exec -u www-data -e DEBUG=1 -w /srv web -- ./server`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash > 1 || dash == 0 {
				return errors.New("exec: want one POD before --")
			}
			if len(args) < 2 {
				return errors.New("exec: want POD -- COMMAND")
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return a.pods(1)(cmd, args, word)
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.container != "" {
				return fmt.Errorf("--container: %w", sandbox.ErrNotSupported)
			}
			process, err := f.process(args[1:])
			if err != nil {
				return err
			}
			rt, err := a.runtime()
			if err != nil {
				return err
			}
			pod, err := rt.Open(args[0])
			if err != nil {
				return err
			}
			return execute(cmd.Context(), pod, process, f.interactive)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("exec: %w (put -- before the command)", err)
	})
	fl := cmd.Flags()
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "pass standard input on")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give the program a terminal")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "set `NAME=VALUE`, or NAME to the value that podbox has")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "working `directory` (default that of podbox)")
	fl.StringVarP(&f.user, "user", "u", "", "run as `USER[:GROUP]`, names or numbers, with the user's groups")
	fl.StringVarP(&f.container, "container", "c", "", "")
	_ = fl.MarkHidden("container")
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
	for _, e := range f.env {
		name, value, found := strings.Cut(e, "=")
		if name == "" {
			return nil, fmt.Errorf("--env %q: %w: want NAME=VALUE", e, sandbox.ErrInvalid)
		}
		if !found {
			if value, found = os.LookupEnv(name); !found {
				continue
			}
		}
		env.set(name, value)
	}
	p.Env = env.list
	if f.tty {
		if size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ); err == nil {
			p.ConsoleSize = &specs.Box{Width: uint(size.Col), Height: uint(size.Row)}
		}
	}
	return p, nil
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

// lookUpUser finds a user of the host with all groups.
func lookUpUser(name string, u *specs.User) (home string, err error) {
	found, err := user.GetExecUserPath(name, &user.ExecUser{Home: "/"}, "/etc/passwd", "/etc/group")
	if err != nil {
		return "", fmt.Errorf("--user %q: %w", name, err)
	}
	u.UID, u.GID = uint32(found.Uid), uint32(found.Gid)
	for _, g := range found.Sgids {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	return found.Home, nil
}

// execute runs a program to its end, and answers with its exit status.
func execute(ctx context.Context, pod *sandbox.Sandbox, process *specs.Process, interactive bool) error {
	// From now on signals are the program's. To ask for all of them takes as long
	// as a start: those that people and service managers send come first, the
	// others while the program starts.
	signals := make(chan os.Signal, 32)
	const urgent = 4
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
	p, err := start(ctx, pod, process, stdio, signals)
	if err != nil {
		return err
	}
	go forward(signals, p, process.Terminal)
	status, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	if status != 0 {
		return exit(status)
	}
	return nil
}

// start starts the program. A signal that comes before it runs ends the start,
// which may hang: on a file server, or because a program in the pod stops all that
// it sees.
func start(ctx context.Context, pod *sandbox.Sandbox, process *specs.Process, stdio launcher.IO, signals chan os.Signal) (*launcher.Process, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var first unix.Signal
	started, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case s := <-signals:
				if s != unix.SIGWINCH && s != unix.SIGCONT {
					first = s.(unix.Signal)
					cancel()
					return
				}
			case <-started:
				return
			}
		}
	}()
	p, err := launcher.Start(ctx, pod, &specs.Spec{Process: process}, stdio)
	close(started)
	<-watched
	if first == 0 {
		return p, err
	}
	if err != nil {
		return nil, exit(128 + int(first))
	}
	_ = p.Signal(first)
	return p, nil
}

// forward passes signals on to a program.
func forward(signals <-chan os.Signal, p *launcher.Process, terminal bool) {
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
// first four are the urgent ones.
var forwarded = []os.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGALRM, unix.SIGCONT, unix.SIGWINCH, unix.SIGIO, unix.SIGPWR,
}
