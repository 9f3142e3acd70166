package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/supervisor"
)

func (a *app) inspect() *cobra.Command {
	var (
		out output
		c   containerFlag
	)
	cmd := &cobra.Command{
		Use:   "inspect [flags] POD...",
		Short: "Show all that is known of pods, or of a container",
		Example: `  podbox inspect web
  podbox inspect --format '{{.IP}}' web
  podbox inspect -c db web`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := out.template()
			if err != nil {
				return err
			}
			w, first := cmd.OutOrStdout(), true
			show := func(thing any, err error) error {
				switch {
				case err != nil:
					return err
				case t != nil:
					return printEach(w, t, []any{thing})
				case !first && out.form == "yaml":
					fmt.Fprintln(w, "---")
				}
				first = false
				return encode(w, out.form, thing)
			}
			return c.each(cmd.Context(), a, args,
				func(p *supervisor.Pod) error {
					i, err := p.Info()
					return show(i, err)
				},
				func(c *supervisor.Container) error {
					s, err := c.Status()
					return show(s, err)
				})
		},
	}
	c.add(a, cmd, "show")
	out.flags(cmd, "json", "yaml")
	return cmd
}
