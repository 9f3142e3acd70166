package main

import (
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/supervisor"
)

func (a *app) kill() *cobra.Command {
	var (
		c    containerFlag
		name string
	)
	cmd := &cobra.Command{
		Use:   "kill [flags] POD...",
		Short: "Send a signal to all programs in pods",
		Long: `Send a signal to all programs in pods. The pause processes are spared: addresses,
namespaces and what is in them stay. With -c, to the first process of a container,
which is restarted if its policy says so.`,
		Example: `  podbox kill web
  podbox kill -s HUP -c proxy web`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			sig, err := parseSignal(name)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			return c.each(ctx, a, args,
				func(p *supervisor.Pod) error { return p.Kill(ctx, sig) },
				func(c *supervisor.Container) error { return c.Kill(sig) })
		},
	}
	c.add(a, cmd, "to")
	cmd.Flags().StringVarP(&name, "signal", "s", "KILL", "`signal` by name or number")
	return cmd
}

// parseSignal reads KILL, SIGKILL, sigkill, 9 or RTMIN+3.
func parseSignal(s string) (unix.Signal, error) { return image.ParseSignal(s) }
