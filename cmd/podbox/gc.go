package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) gc() *cobra.Command {
	return &cobra.Command{
		Use:   "gc",
		Short: "Clear away what crashes have left, and print what that was",
		Long: `Clear away what crashes have left: pods whose creation or removal was cut short,
names and addresses of pods that are gone, pause processes that no record knows.
Pods in any other state are left alone.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			done, err := rt.Sweep(cmd.Context())
			for _, line := range done {
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			return err
		},
	}
}
