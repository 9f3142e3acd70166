package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
)

func (a *app) update() *cobra.Command {
	var rates rateFlags
	var names nameFlags
	var policy policyFlags
	var labels []string
	cmd := &cobra.Command{
		Use:   "update [flags] POD...",
		Short: "Change what a pod may, while it runs",
		Long: `Change what a pod may, while it runs, and its labels. What no flag names stays as it
is. Of a pod that does not run it is changed what it is started with.

--allow-from and --allow-to take the place of those before; any lifts the restriction,
and so does an empty key for --isolate. Connections that are not allowed any more end.
--dns and --dns-search take the place of those before; an empty word brings the host's
back. --add-host adds a host, or takes one away (name-). Programs that run see it at
once.`,
		Example: `  podbox update --ingress 100M --egress 10M web
  podbox update --egress 0 web          # no limit any more
  podbox update --allow-from 10.0.0.0/8:443 --allow-from proxy web
  podbox update --label tier=front --label old- web
  podbox update --dns 192.0.2.53 --add-host db:10.1.2.3 --add-host old- web
  podbox update --dns '' web            # the host's resolvers again`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !rates.given() && !policy.given() && !names.given() && len(labels) == 0 {
				return fmt.Errorf("update: %w: no flag says what to change", sandbox.ErrInvalid)
			}
			change := sandbox.Change{}
			var err error
			if change.Labels, err = labelChanges(labels); err != nil {
				return err
			}
			by := func(is *sandbox.Spec) (sandbox.Change, error) {
				c := change
				if names.given() {
					c.Names = &sandbox.Names{DNS: is.DNS, Hosts: is.Hosts}
					if err := names.set(&c.Names.DNS, &c.Names.Hosts); err != nil {
						return c, err
					}
				}
				if rates.given() {
					b := is.Bandwidth
					c.Bandwidth = &b
					if err := rates.set(c.Bandwidth); err != nil {
						return c, err
					}
				}
				if policy.given() {
					p := is.Policy
					c.Policy = &p
					if err := policy.set(c.Policy); err != nil {
						return c, err
					}
				}
				return c, nil
			}
			return a.each(args, func(pod *sandbox.Sandbox) error { return pod.UpdateBy(cmd.Context(), by) })
		},
	}
	fl := cmd.Flags()
	rates.add(fl)
	policy.add(fl)
	names.add(fl)
	fl.StringArrayVar(&labels, "label", nil, "`key=value` to set, or key- to take away")
	return cmd
}

// labelChanges reads labels to set, key=value, and to take away, key-.
func labelChanges(words []string) (map[string]*string, error) {
	m := make(map[string]*string, len(words))
	for _, w := range words {
		k, v, set := strings.Cut(w, "=")
		value := &v
		if !set {
			var minus bool
			if k, minus = strings.CutSuffix(w, "-"); !minus || k == "" {
				return nil, fmt.Errorf("--label %q: %w: want key=value, or key- to take it away", w, sandbox.ErrInvalid)
			}
			value = nil
		}
		if _, twice := m[k]; twice {
			return nil, fmt.Errorf("--label %q: %w: given twice", k, sandbox.ErrInvalid)
		}
		m[k] = value
	}
	return m, nil
}
