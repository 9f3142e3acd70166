package main

import (
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
)

func (a *app) restart() *cobra.Command {
	var grace int
	cmd := &cobra.Command{
		Use:               "restart [flags] POD...",
		Short:             "Stop pods and start them again",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(pod *sandbox.Sandbox) error {
				if err := pod.Stop(cmd.Context(), stopOptions(grace)); err != nil {
					return err
				}
				return pod.Start(cmd.Context())
			})
		},
	}
	graceFlag(cmd, &grace)
	return cmd
}
