package main

import (
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/fdtable"
	"github.com/podbox/podbox/supervisor"
)

func (a *app) start() *cobra.Command {
	var c containerFlag
	cmd := &cobra.Command{
		Use:   "start [flags] POD...",
		Short: "Bring stopped pods up and heal degraded ones, with the same addresses",
		Long: `Bring stopped pods up again, each with the address that it had, and start the
containers that ran in the background when they were stopped. A pod whose pause was
killed while programs run in it gets a new pause, which joins the namespaces that
they still hold; containers whose supervisor was killed get a new one. Nothing is
done to a pod that runs.

With -c a container that does not run is started, in the background.`,
		Example: `  podbox start web
  podbox start -c db web`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			fdtable.Grow()
			ctx := cmd.Context()
			return c.each(ctx, a, args,
				func(p *supervisor.Pod) error { return p.Start(ctx) },
				func(c *supervisor.Container) error { return c.Start(ctx) })
		},
	}
	c.add(a, cmd, "start")
	return cmd
}
