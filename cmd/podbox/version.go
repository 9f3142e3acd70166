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
		Args:  cobra.NoArgs,
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
				fmt.Fprintf(w, "commit %s%s\n", v.Commit, changed)
			}
			fmt.Fprintf(w, "pause %s, %s, %s\n", v.Pause, v.Go, v.Platform)
			return nil
		},
	}
	out.Flags(cmd, "text", "json", "yaml")
	return cmd
}
