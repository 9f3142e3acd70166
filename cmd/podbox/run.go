package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/fdtable"
	"github.com/podbox/podbox/cmd/internal/misuse"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

func (a *app) run() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] POD [-- COMMAND [ARG...]]",
		Short: "Run a container in a pod",
		Long: `Run a container in a pod: a program with a name, a record and, with --image or
--rootfs, a root of its own and the usual isolation. It shares the pod's network, IPC objects,
/dev/shm, volumes and host name with the pod's other containers.

In the foreground the container has podbox's streams and ends with podbox; the exit
status is the program's own, as with podbox exec. With -d it runs in the background:
podbox prints its ID, and one small supervisor for all such containers of the pod
writes their logs and restarts them.

An image says itself what is run, as which user, with which environment, in which
directory; a COMMAND takes the place of its command, and --entrypoint of its
entrypoint too. It is fetched if it is not here. Each time the container is started
its files are as in the image; its anonymous volumes stay until it is removed.`,
		Example: `  podbox run -d --name cache --image redis:8 web
  podbox run -it --rm --image alpine web -- sh
  podbox run --rm --rootfs /srv/alpine web -- /bin/sh -c 'ip addr'
  podbox run -it --rm --rootfs /srv/alpine web -- sh
  podbox run -d --name db --restart always -v data:/var/lib/redis --rootfs /srv/redis web -- redis-server
  podbox run -d --memory 256m --cpus 0.5 --read-only --tmpfs /tmp --rootfs /srv/app web -- /app`,
		Args:              podAndCommand("run"),
		ValidArgsFunction: a.podThenCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			fdtable.Grow()
			spec, err := f.spec(cmd.Context(), a, cmd.Flags(), args[1:])
			if err != nil {
				return err
			}
			pod, err := a.pod(args[0])
			if err != nil {
				return err
			}
			if err := f.settle(pod, &spec); err != nil {
				return err
			}
			if spec.About.MadeBy, err = f.words(cmd.Flags(), args[1:]); err != nil {
				return err
			}
			if !f.detach {
				return runForeground(cmd.Context(), pod, spec, &f)
			}
			c, err := pod.RunBackground(cmd.Context(), spec)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), c.ID())
			return nil
		},
	}
	cmd.SetFlagErrorFunc(dashHint("run"))
	f.add(cmd)
	return cmd
}

// dashHint says of an unknown flag that it may be one of the command's.
func dashHint(verb string) func(*cobra.Command, error) error {
	return func(_ *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) {
			return fmt.Errorf("%s: %w (put -- before the command)", verb, err)
		}
		return fmt.Errorf("%s: %w", verb, misuse.FlagError(err))
	}
}

// podAndCommand checks the arguments POD -- COMMAND....
func podAndCommand(verb string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if dash := cmd.ArgsLenAtDash(); dash > 1 || dash == 0 {
			return fmt.Errorf("%s: want one POD before --", verb)
		}
		if len(args) < 1 || len(args) < 2 && !cmd.Flags().Changed("bundle") && !cmd.Flags().Changed("image") {
			return fmt.Errorf("%s: want POD -- COMMAND", verb)
		}
		return nil
	}
}

func (a *app) podThenCommand(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.pods(1)(cmd, args, word)
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// runForeground runs a container to its end, and answers with its exit status.
func runForeground(ctx context.Context, pod *supervisor.Pod, spec supervisor.Spec, f *runFlags) error {
	return inForeground(ctx, spec.OCI.Process, f.interactive, func(ctx context.Context, stdio launcher.IO) (foreground, error) {
		p, err := pod.Run(ctx, spec, stdio)
		if err != nil {
			return nil, err
		}
		return p, nil
	})
}

// parseRestart reads never, on-failure[:N] and always.
func parseRestart(s string) (supervisor.Restart, error) {
	var r supervisor.Restart
	var n int
	switch {
	case s == "no": // podman's word
		r.Policy = supervisor.Never
	case s == "":
	default:
		r.Policy = supervisor.Policy(s)
		if _, err := fmt.Sscanf(s, "on-failure:%d", &n); err == nil && fmt.Sprintf("on-failure:%d", n) == s && n > 0 {
			r.Policy, r.Retries = supervisor.OnFailure, n
		}
	}
	switch r.Policy {
	case "", supervisor.Never, supervisor.OnFailure, supervisor.Always:
		return r, nil
	}
	return r, fmt.Errorf("--restart %q: %w: want never, on-failure[:N] or always", s, sandbox.ErrInvalid)
}

// parseStopSignal reads a signal's name; 0 if there is none.
func parseStopSignal(s string) (unix.Signal, error) {
	if s == "" {
		return 0, nil
	}
	return parseSignal(s)
}
