package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/form"
	"github.com/podbox/podbox/cmd/internal/release"
)

func (a *app) version() *cobra.Command {
	var out form.Choice
	cmd := &cobra.Command{
		Use:   "version [flags]",
		Short: "Show the version",
		Long: `Show the version, the commit that it was built of and when that was made, the version of
the pause within, that of Go, and the platform.`,
		Example: `  podbox version
  podbox version -o json
  podbox version --format '{{.Commit}}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, w := release.Build(), cmd.OutOrStdout()
			t, err := out.Parse()
			switch {
			case err != nil:
				return err
			case t != nil:
				return form.Each(w, t, []release.Info{v})
			case out.Form != "text":
				return form.Encode(w, out.Form, v)
			}
			fmt.Fprintf(w, "podbox %s\n", v.Version)
			if v.Commit != "" {
				changed := ""
				if v.Modified {
					changed = " with changes"
				}
				fmt.Fprintf(w, "commit %s%s, %s\n", v.Commit, changed, v.Date)
			}
			fmt.Fprintf(w, "pause %s, %s, %s\n", v.Pause, v.Go, v.Platform)
			return nil
		},
	}
	out.Flags(cmd, "text", "json", "yaml")
	return cmd
}
