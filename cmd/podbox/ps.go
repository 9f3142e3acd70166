package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/form"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// A containerRow is a container as ps shows it to templates and as JSON.
type containerRow struct {
	*supervisor.Status
	PodName string `json:"podName"`
}

func (a *app) ps() *cobra.Command {
	var (
		out        form.Choice
		all, quiet bool
	)
	cmd := &cobra.Command{
		Use:   "ps [flags] [POD...]",
		Short: "List containers",
		Long: `List the containers that run, of all pods or of those named; with --all also
those that do not.`,
		Example: `  podbox ps
  podbox ps -a web
  podbox ps --format '{{.Name}} {{.State}}'`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := out.Parse()
			if err != nil {
				return err
			}
			rows, lerr := a.containers(cmd, args)
			if !all {
				rows = slices.DeleteFunc(rows, func(r containerRow) bool { return r.State == supervisor.Exited || r.State == supervisor.Created })
			}
			w := cmd.OutOrStdout()
			switch {
			case quiet:
				for _, r := range rows {
					fmt.Fprintln(w, r.ID)
				}
			case t != nil:
				err = form.Each(w, t, rows)
			case out.Form == "json" || out.Form == "yaml":
				err = form.Encode(w, out.Form, rows)
			case out.Form == "name":
				for _, r := range rows {
					fmt.Fprintln(w, r.Name)
				}
			case len(rows) > 0 || lerr == nil: // no titles above an error alone
				err = printContainers(cmd, rows, out.Form == "wide")
			}
			return errors.Join(err, lerr)
		},
	}
	out.Flags(cmd, "table", "wide", "json", "yaml", "name")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "show also containers that do not run")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	return cmd
}

// containers returns what is known of the containers of pods, or of all.
func (a *app) containers(cmd *cobra.Command, refs []string) ([]containerRow, error) {
	rt, err := a.Runtime()
	if err != nil {
		return nil, err
	}
	var errs []error
	if len(refs) == 0 {
		infos, err := rt.List(cmd.Context())
		errs = append(errs, err)
		for _, i := range infos {
			refs = append(refs, i.ID)
		}
	}
	rows := []containerRow{}
	for _, ref := range refs {
		pod, err := rt.Open(ref)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		info, err := pod.Info()
		if errors.Is(err, sandbox.ErrNotFound) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list, err := supervisor.Open(pod, supervisor.Options{}).List()
		errs = append(errs, err)
		for _, s := range list {
			rows = append(rows, containerRow{s, info.Name})
		}
	}
	return rows, errors.Join(errs...)
}

func printContainers(cmd *cobra.Command, list []containerRow, wide bool) error {
	titles := []string{"NAME", "ID", "POD", "STATE", "COMMAND", "CREATED", "RESTARTS"}
	if wide {
		titles = append(titles, "PID", "ROOT", "USER", "POLICY", "LOG")
	}
	var rows [][]string
	for _, r := range list {
		command := strings.Join(r.Spec.Process.Args, " ")
		if letters := []rune(command); len(letters) > 40 && !wide {
			command = string(letters[:37]) + "..."
		}
		row := []string{r.Name, r.ID[:12], r.PodName, stateText(r.Status), command, units.HumanDuration(time.Since(r.Created)) + " ago", fmt.Sprint(r.Restarts)}
		if wide {
			pid, root := "-", "-"
			if r.PID != 0 {
				pid = fmt.Sprint(r.PID)
			}
			if r.Image != "" {
				root = r.Image
			} else if r.Spec.Root != nil {
				root = r.Spec.Root.Path
			}
			user := r.Spec.Process.User
			row = append(row, pid, root, fmt.Sprintf("%d:%d", user.UID, user.GID), string(r.Restart), form.Dash(r.Log))
		}
		rows = append(rows, row)
	}
	return form.Table(cmd.OutOrStdout(), titles, rows)
}

// stateText is a container's state for people: exited (137, out of memory).
func stateText(s *supervisor.Status) string {
	switch {
	case s.State == supervisor.Running && s.Background && !s.Supervised:
		return "running (no supervisor)"
	case s.State == supervisor.Restarting && !s.Supervised:
		return "restarting (no supervisor)"
	case s.State == supervisor.Restarting:
		return fmt.Sprintf("restarting in %s", max(0, time.Until(s.Next)).Round(time.Second))
	case s.State != supervisor.Exited:
		return string(s.State)
	case s.ExitCode == nil:
		return "exited (unknown)"
	case s.OOM:
		return fmt.Sprintf("exited (%d, out of memory)", *s.ExitCode)
	}
	return fmt.Sprintf("exited (%d)", *s.ExitCode)
}
