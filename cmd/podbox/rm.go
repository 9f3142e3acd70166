package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

func (a *app) rm() *cobra.Command {
	var (
		c          containerFlag
		force, all bool
		grace      int
	)
	cmd := &cobra.Command{
		Use:   "rm [flags] POD...",
		Short: "Remove pods",
		Long: `Remove pods: their pause, namespaces, link, address, name and record. A pod in
which programs run is left alone, unless --force ends them: by SIGTERM, and after
the grace period by SIGKILL. With --force a pod that does not exist is no error.

With -c only a container is removed, with its log.`,
		Example: `  podbox rm web db
  podbox rm -f -t 3 web
  podbox rm -c cache web
  podbox rm -f -a`,
		Args: func(cmd *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return errors.New("rm: want POD... or --all, not both")
			}
			if all {
				return nil
			}
			return cobra.MinimumNArgs(1)(cmd, args)
		},
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.name != "" {
				return c.remove(cmd.Context(), a, args, force, grace)
			}
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			if all {
				infos, err := rt.List(cmd.Context())
				if err != nil && !force {
					return err
				}
				for _, i := range infos {
					args = append(args, i.ID)
				}
			}
			return together(args, func(ref string) error { return a.remove(cmd.Context(), rt, ref, force, grace) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "end the programs in the pods")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "remove all pods")
	c.add(a, cmd, "remove")
	graceFlag(cmd, &grace)
	return cmd
}

// remove removes a container.
func (f *containerFlag) remove(ctx context.Context, a *app, refs []string, force bool, grace int) error {
	err := f.each(ctx, a, refs, nil, func(c *supervisor.Container) error { return c.Remove(ctx, force, containerStop(grace)) })
	if force && (errors.Is(err, supervisor.ErrNotFound) || errors.Is(err, sandbox.ErrNotFound)) {
		return nil
	}
	return err
}

func (a *app) remove(ctx context.Context, rt *sandbox.Runtime, ref string, force bool, grace int) error {
	pod, err := rt.Open(ref)
	if errors.Is(err, sandbox.ErrNotFound) && force {
		return nil
	}
	if err != nil {
		return err
	}
	if !force {
		return a.open(pod).RemoveIdle(ctx)
	}
	return a.open(pod).Remove(ctx, stopOptions(grace))
}
