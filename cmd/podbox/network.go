package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
)

func (a *app) network() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "network",
		Short:   "Look after the host's part of pods' networks",
		Example: `  podbox network reload`,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("network %q: %w: want reload", args[0], sandbox.ErrInvalid)
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "reload",
		Short: "Make the host's nftables for pods anew from their records",
		Long: `Make the host's nftables for pods anew from their records, in one transaction:
after others have flushed them, or when the host has got a new link. Connections
go on.`,
		Example: `  nft flush ruleset && podbox network reload`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			return rt.ReloadNetwork(cmd.Context())
		},
	})
	return cmd
}
