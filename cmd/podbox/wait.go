package main

import (
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
)

func (a *app) wait() *cobra.Command {
	return &cobra.Command{
		Use:               "wait POD...",
		Short:             "Wait until pods do not run any more",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(pod *sandbox.Sandbox) error { return pod.Wait(cmd.Context()) })
		},
	}
}
