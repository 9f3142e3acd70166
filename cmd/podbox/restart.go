package main

import (
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/supervisor"
)

func (a *app) restart() *cobra.Command {
	var (
		c     containerFlag
		grace int
	)
	cmd := &cobra.Command{
		Use:   "restart [flags] POD...",
		Short: "Stop pods and start them again",
		Long: `Stop pods, as podbox stop does, and start them again, as podbox start does. With -c
only a container, which runs in the background afterwards; the pod notices nothing.`,
		Example: `  podbox restart web
  podbox restart -t 30 -c db web`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return c.each(ctx, a, args,
				func(p *supervisor.Pod) error {
					if err := p.Stop(ctx, stopOptions(grace)); err != nil {
						return err
					}
					return p.Start(ctx)
				},
				func(c *supervisor.Container) error {
					if err := c.Stop(ctx, containerStop(grace)); err != nil {
						return err
					}
					return c.Start(ctx)
				})
		},
	}
	c.add(a, cmd, "restart")
	graceFlag(cmd, &grace)
	return cmd
}
