package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/supervisor"
)

func (a *app) wait() *cobra.Command {
	var c containerFlag
	cmd := &cobra.Command{
		Use:   "wait [flags] POD...",
		Short: "Wait until pods do not run any more",
		Long: `Wait until pods do not run any more. With -c, until a container has ended and will
not be restarted, and print its exit status; -1 if nobody knows.`,
		Example: `  podbox wait web
  podbox wait -c job web && echo done`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return c.each(ctx, a, args,
				func(p *supervisor.Pod) error { return p.Wait(ctx) },
				func(c *supervisor.Container) error {
					status, err := c.Wait(ctx)
					if err == nil {
						fmt.Fprintln(cmd.OutOrStdout(), status)
					}
					return err
				})
		},
	}
	c.add(a, cmd, "wait for")
	return cmd
}
