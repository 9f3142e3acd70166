package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
)

func (a *app) inspect() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "inspect [flags] POD...",
		Short: "Show all that is known of pods",
		Example: `  podbox inspect web
  podbox inspect --format '{{.IP}}' web`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := out.template()
			if err != nil {
				return err
			}
			first := true
			return a.each(args, func(pod *sandbox.Sandbox) error {
				i, err := pod.Info()
				if err != nil {
					return err
				}
				w := cmd.OutOrStdout()
				if t != nil {
					return printEach(w, t, []*sandbox.Info{i})
				}
				if !first && out.form == "yaml" {
					fmt.Fprintln(w, "---")
				}
				first = false
				return encode(w, out.form, i)
			})
		},
	}
	out.flags(cmd, "json", "yaml")
	return cmd
}
