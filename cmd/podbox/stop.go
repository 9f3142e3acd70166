package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

func (a *app) stop() *cobra.Command {
	var (
		c     containerFlag
		grace int
	)
	cmd := &cobra.Command{
		Use:   "stop [flags] POD...",
		Short: "End the programs in pods and give their namespaces up; records and addresses stay",
		Long: `End the containers of pods, the last started first: each is asked by its stop
signal, and killed if it has not ended after the grace period. Then the other
programs in the pods, by SIGTERM in the same way, and last the pods' network and
namespaces. Record, name, address and volumes are kept: podbox start brings a pod up
again, and with it the containers that ran in the background.

With -c only a container is ended, and not restarted.`,
		Example: `  podbox stop web
  podbox stop -t 30 web db
  podbox stop -c db web`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if c.name == "" {
				rt, err := a.Runtime()
				if err != nil {
					return err
				}
				return together(args, func(ref string) error {
					pod, err := rt.Open(ref)
					if err != nil {
						return err
					}
					return a.open(pod).Stop(ctx, stopOptions(grace))
				})
			}
			return c.each(ctx, a, args, nil,
				func(c *supervisor.Container) error { return c.Stop(ctx, containerStop(grace)) })
		},
	}
	c.add(a, cmd, "end")
	graceFlag(cmd, &grace)
	return cmd
}

func graceFlag(cmd *cobra.Command, grace *int) {
	cmd.Flags().IntVarP(grace, "time", "t", int(sandbox.DefaultGrace/time.Second), "grace period in `seconds`")
}

func graceOf(seconds int) time.Duration {
	if seconds <= 0 {
		return -1
	}
	return time.Duration(seconds) * time.Second
}

func stopOptions(grace int) sandbox.StopOptions { return sandbox.StopOptions{Grace: graceOf(grace)} }

func containerStop(grace int) supervisor.StopOptions {
	return supervisor.StopOptions{Grace: graceOf(grace)}
}
