package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/form"
	"github.com/podbox/podbox/sandbox"
)

func (a *app) ls() *cobra.Command {
	var (
		out     form.Choice
		quiet   bool
		filters []string
	)
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List pods",
		Long: `List pods in the order of their creation. Of several filters of one kind one
must match, of several kinds each.`,
		Example: `  podbox ls
  podbox ls --filter state=running --filter label=app=web
  podbox ls --format '{{.Name}} {{.IP}}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keep, err := parseFilters(filters)
			if err != nil {
				return err
			}
			t, err := out.Parse()
			if err != nil {
				return err
			}
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			infos, lerr := rt.List(cmd.Context())
			infos = slices.DeleteFunc(infos, func(i *sandbox.Info) bool { return !keep(i) })
			w := cmd.OutOrStdout()
			switch {
			case quiet:
				for _, i := range infos {
					fmt.Fprintln(w, i.ID)
				}
			case t != nil:
				err = form.Each(w, t, infos)
			default:
				err = printPods(w, out.Form, infos)
			}
			return errors.Join(err, lerr)
		},
	}
	out.Flags(cmd, "table", "wide", "json", "yaml", "name")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	cmd.Flags().StringArrayVarP(&filters, "filter", "f", nil, "show pods with `what`: state=STATE, label=KEY[=VALUE] or name=NAME")
	return cmd
}

func printPods(w io.Writer, how string, infos []*sandbox.Info) error {
	switch how {
	case "json", "yaml":
		return form.Encode(w, how, infos)
	case "name":
		for _, i := range infos {
			fmt.Fprintln(w, i.Name)
		}
		return nil
	}
	titles := []string{"NAME", "ID", "STATE", "NETWORK", "IP", "CREATED"}
	if how == "wide" {
		titles = append(titles, "IP6", "PORTS", "MAC", "HOSTNAME", "SHARE", "PAUSE", "LABELS")
	}
	rows := make([][]string, len(infos))
	for n, i := range infos {
		rows[n] = podRow(i, how == "wide")
	}
	return form.Table(w, titles, rows)
}

// parseFilters returns whether a pod passes all filters.
func parseFilters(filters []string) (func(*sandbox.Info) bool, error) {
	kinds := map[string][]func(*sandbox.Info) bool{}
	for _, f := range filters {
		kind, want, _ := strings.Cut(f, "=")
		var match func(*sandbox.Info) bool
		switch {
		case want == "":
		case kind == "state":
			states := []sandbox.State{sandbox.Created, sandbox.Running, sandbox.Degraded, sandbox.Stopped, sandbox.Removing, sandbox.Broken}
			if slices.Contains(states, sandbox.State(want)) {
				match = func(i *sandbox.Info) bool { return string(i.State) == want }
			}
		case kind == "name":
			match = func(i *sandbox.Info) bool { return i.Name == want }
		case kind == "label":
			k, v, valued := strings.Cut(want, "=")
			match = func(i *sandbox.Info) bool {
				has, ok := i.Labels[k]
				return ok && (!valued || has == v)
			}
		}
		if match == nil {
			return nil, fmt.Errorf("filter %q: %w: want state=STATE, label=KEY[=VALUE] or name=NAME", f, sandbox.ErrInvalid)
		}
		kinds[kind] = append(kinds[kind], match)
	}
	return func(i *sandbox.Info) bool {
		for _, alternatives := range kinds {
			if !slices.ContainsFunc(alternatives, func(f func(*sandbox.Info) bool) bool { return f(i) }) {
				return false
			}
		}
		return true
	}, nil
}

func podRow(i *sandbox.Info, wide bool) []string {
	row := []string{i.Name, i.ID[:12], string(i.State), i.Network, form.Dash(i.IP), units.HumanDuration(time.Since(i.Created)) + " ago"}
	if !wide {
		return row
	}
	var share, labels, ports []string
	for _, n := range i.Share {
		share = append(share, string(n))
	}
	for _, k := range slices.Sorted(maps.Keys(i.Labels)) {
		labels = append(labels, k+"="+i.Labels[k])
	}
	for _, p := range i.Ports {
		ports = append(ports, p.String())
	}
	pid := "-"
	if i.PausePID != 0 {
		pid = fmt.Sprint(i.PausePID)
	}
	return append(row, form.Dash(i.IP6), form.Dash(strings.Join(ports, ",")), form.Dash(i.MAC), form.Dash(i.Hostname), strings.Join(share, ","), pid, form.Dash(strings.Join(labels, ",")))
}
