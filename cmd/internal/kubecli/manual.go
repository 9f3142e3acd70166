package kubecli

import (
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/manual"
	"github.com/podbox/podbox/cmd/internal/release"
)

// manual is what podbox has podbox-kube do at the end of its own.
func (a *app) manual() *cobra.Command {
	return &cobra.Command{
		Use:     "manual DIR",
		Short:   "Write the manual pages into a directory",
		Example: "  podbox manual bin/man",
		Hidden:  true,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			opts := release.Manual()
			opts.NotRoot = true
			return manual.Write(args[0], new(app).command(), opts)
		},
	}
}
