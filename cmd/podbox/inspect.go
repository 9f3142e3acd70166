package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/form"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

func (a *app) inspect() *cobra.Command {
	var (
		out form.Choice
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
			t, err := out.Parse()
			if err != nil {
				return err
			}
			w, first := cmd.OutOrStdout(), true
			show := func(thing any, err error) error {
				switch {
				case err != nil:
					return err
				case t != nil:
					return form.Each(w, t, []any{thing})
				case !first && out.Form == "yaml":
					fmt.Fprintln(w, "---")
				}
				first = false
				return form.Encode(w, out.Form, thing)
			}
			return c.each(cmd.Context(), a, args,
				func(p *supervisor.Pod) error {
					i, err := inspectPod(p)
					return show(i, err)
				},
				func(c *supervisor.Container) error {
					s, err := c.Status()
					return show(s, err)
				})
		},
	}
	c.add(a, cmd, "show")
	out.Flags(cmd, "json", "yaml")
	return cmd
}

// A podInfo is what is shown of a pod.
type podInfo struct {
	*sandbox.Info
	// Status is that of the containers that the pod leads, if it does.
	Status *supervisor.PodStatus `json:"status,omitempty"`
}

func inspectPod(p *supervisor.Pod) (*podInfo, error) {
	i, err := p.Info()
	if err != nil {
		return nil, err
	}
	s, err := p.Status()
	return &podInfo{i, s}, err
}
