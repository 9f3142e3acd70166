package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/supervisor"
)

func (a *app) gc() *cobra.Command {
	return &cobra.Command{
		Use:   "gc",
		Short: "Clear away what crashes have left, and print what that was",
		Long: `Clear away what crashes have left: pods whose creation or removal was cut short,
names, addresses and CNI attachments of pods that are gone, pause processes that no record knows,
containers that were to be removed at their end, images whose fetching was cut short.
Pods in any other state are left alone.`,
		Example: `  podbox gc`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			done, err := rt.Sweep(ctx)
			errs := []error{err}
			infos, err := rt.List(ctx)
			errs = append(errs, err)
			for _, i := range infos {
				pod, err := rt.Open(i.ID)
				if err != nil {
					continue // removed meanwhile
				}
				swept, err := a.open(pod).Sweep(ctx)
				done, errs = append(done, swept...), append(errs, err)
			}
			store, err := supervisor.Images(rt)
			if err == nil {
				var n int
				if n, err = store.Sweep(); n > 0 {
					done = append(done, fmt.Sprintf("%d unfinished in the image store", n))
				}
				err = errors.Join(err, store.ForgetUses(ctx))
			}
			for _, line := range done {
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			return errors.Join(append(errs, err)...)
		},
	}
}
