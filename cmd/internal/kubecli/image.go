package kubecli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
)

func (a *app) image() *cobra.Command {
	return &cobra.Command{
		Use:  "image COMMAND",
		Args: cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("image: %w", sandbox.ErrNotSupported)
		},
	}
}
