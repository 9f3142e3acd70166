package main

import (
	"errors"
	"fmt"
	"sync"

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
			var stopped []string
			for _, i := range infos {
				if i.State == sandbox.Stopped {
					stopped = append(stopped, i.ID)
				}
			}
			var mu sync.Mutex // of the output
			return errors.Join(err, together(stopped, func(id string) error {
				pod, err := rt.Open(id)
				if err == nil {
					err = pod.RemoveStopped(cmd.Context())
				}
				switch {
				case err == nil:
					mu.Lock()
					defer mu.Unlock()
					fmt.Fprintln(cmd.OutOrStdout(), id)
				case errors.Is(err, sandbox.ErrNotFound), errors.Is(err, sandbox.ErrBusy):
					return nil // removed or started meanwhile
				}
				return err
			}))
		},
	}
}
