package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/form"
	"github.com/podbox/podbox/sandbox"
)

func (a *app) events() *cobra.Command {
	var (
		out    form.Choice
		since  string
		stream bool
	)
	cmd := &cobra.Command{
		Use:   "events [flags] [POD...]",
		Short: "Show what happens to pods and containers",
		Long: `Show what happens to pods and containers, from now on until it is interrupted, and
with --since what has happened. --stream=false shows only that.`,
		Example: `  podbox events
  podbox events --since 1h --stream=false web
  podbox events --format '{{.Action}} {{.Container}}' web`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := parseTime("--since", since)
			if err != nil {
				return err
			}
			if since == "" && stream {
				from = time.Now()
			}
			t, err := out.Parse()
			if err != nil {
				return err
			}
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, unix.SIGTERM)
			defer stop()
			w := cmd.OutOrStdout()
			err = rt.Events(ctx, from, stream, func(e sandbox.Event) error {
				switch {
				case len(args) > 0 && !slices.Contains(args, e.Name) && !slices.Contains(args, e.Pod):
					return nil
				case t != nil:
					return form.Each(w, t, []sandbox.Event{e})
				case out.Form == "json":
					return form.EncodeLine(w, e)
				}
				_, err := fmt.Fprintln(w, eventText(e))
				return err
			})
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	out.Flags(cmd, "text", "json")
	cmd.Flags().StringVar(&since, "since", "", "begin with what is younger than `TIME`: an RFC 3339 time, or a duration such as 10m")
	cmd.Flags().BoolVar(&stream, "stream", true, "go on with what happens")
	return cmd
}

func eventText(e sandbox.Event) string {
	text := fmt.Sprintf("%s pod %s %s (%.12s)", e.Time.Format(time.RFC3339Nano), e.Action, e.Name, e.Pod)
	if e.Container != "" {
		text = fmt.Sprintf("%s container %s %s of pod %s (%.12s)", e.Time.Format(time.RFC3339Nano), e.Action, e.Container, e.Name, e.Pod)
	}
	if e.ExitCode != nil {
		text += fmt.Sprintf(", exit status %d", *e.ExitCode)
	}
	if e.OOM {
		text += ", out of memory"
	}
	return text
}
