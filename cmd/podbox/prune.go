package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
)

func (a *app) prune() *cobra.Command {
	return &cobra.Command{
		Use:     "prune",
		Short:   "Remove all stopped pods and print their IDs",
		Example: `  podbox prune`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			infos, err := rt.List(cmd.Context())
			errs := []error{err}
			for _, i := range infos {
				if i.State != sandbox.Stopped {
					continue
				}
				pod, err := rt.Open(i.ID)
				if err == nil {
					err = pod.RemoveStopped(cmd.Context())
				}
				switch {
				case err == nil:
					fmt.Fprintln(cmd.OutOrStdout(), i.ID)
				case errors.Is(err, sandbox.ErrNotFound), errors.Is(err, sandbox.ErrBusy):
					// Removed or started meanwhile.
				default:
					errs = append(errs, err)
				}
			}
			return errors.Join(errs...)
		},
	}
}
