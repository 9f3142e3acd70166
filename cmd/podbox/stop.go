package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
)

func (a *app) stop() *cobra.Command {
	var grace int
	cmd := &cobra.Command{
		Use:   "stop [flags] POD...",
		Short: "End the programs in pods and give their namespaces up; records and addresses stay",
		Long: `Ask the programs in pods to end by SIGTERM, kill those that have not after the
grace period, and end the pods' network and namespaces. Record, name and address
are kept: podbox start brings a pod up again.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(pod *sandbox.Sandbox) error {
				return pod.Stop(cmd.Context(), stopOptions(grace))
			})
		},
	}
	graceFlag(cmd, &grace)
	return cmd
}

func graceFlag(cmd *cobra.Command, grace *int) {
	cmd.Flags().IntVarP(grace, "time", "t", int(sandbox.DefaultGrace/time.Second), "grace period in `seconds`")
}

func stopOptions(grace int) sandbox.StopOptions {
	if grace <= 0 {
		return sandbox.StopOptions{Grace: -1}
	}
	return sandbox.StopOptions{Grace: time.Duration(grace) * time.Second}
}
