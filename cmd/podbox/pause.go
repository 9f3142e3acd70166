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
		Long: `Stop all programs in pods where they are, at one moment, by their cgroup. Nothing
can be started in a pod that is paused. With -c only a container is stopped.`,
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
