package main

import (
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/supervisor"
)

func (a *app) pause() *cobra.Command {
	var c containerFlag
	cmd := &cobra.Command{
		Use:   "pause [flags] POD...",
		Short: "Stop all programs in pods where they are, until unpause",
		Long: `Stop all programs in pods where they are, at one moment, by their cgroup. With -c only
a container is stopped.

In a pod that is paused nothing can be started: run, exec, start -c and restart -c say
so, and so do stop -c and rm -f -c, for it cannot be asked to end. What is just being started is
started first. A signal (kill) arrives when it goes on, SIGKILL at once (where cgroup v2 is); stop and rm -f of the
whole pod let it go on, so that it can end. attach, logs -f and wait wait for
what comes then, until they are interrupted.`,
		Example: `  podbox pause web
  podbox pause -c db web`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return c.each(ctx, a, args,
				func(p *supervisor.Pod) error { return p.Pause(ctx) },
				func(c *supervisor.Container) error { return c.Pause(ctx) })
		},
	}
	c.add(a, cmd, "stop")
	return cmd
}

func (a *app) unpause() *cobra.Command {
	var c containerFlag
	cmd := &cobra.Command{
		Use:               "unpause [flags] POD...",
		Short:             "Let paused pods go on",
		Example:           `  podbox unpause web`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return c.each(ctx, a, args,
				func(p *supervisor.Pod) error { return p.Unpause(ctx) },
				func(c *supervisor.Container) error { return c.Unpause() })
		},
	}
	c.add(a, cmd, "let go on")
	return cmd
}
