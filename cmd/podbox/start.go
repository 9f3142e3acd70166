package main

import (
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
)

func (a *app) start() *cobra.Command {
	return &cobra.Command{
		Use:   "start POD...",
		Short: "Bring stopped pods up and heal degraded ones, with the same addresses",
		Long: `Bring stopped pods up again, each with the address that it had. A pod whose pause
was killed while programs run in it gets a new pause, which joins the namespaces
that they still hold. Nothing is done to a pod that runs.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(pod *sandbox.Sandbox) error { return pod.Start(cmd.Context()) })
		},
	}
}
