package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/sandbox"
)

func (a *app) exists() *cobra.Command {
	return &cobra.Command{
		Use:               "exists POD",
		Short:             "Tell by the exit status whether a pod exists: 0 or 1",
		Example:           `  podbox exists web || podbox create web`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.pods(1),
		RunE: func(_ *cobra.Command, args []string) error {
			err := a.each(args, func(*sandbox.Sandbox) error { return nil })
			if errors.Is(err, sandbox.ErrNotFound) {
				return exit.Status(1)
			}
			return err
		},
	}
}
