package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

func (a *app) logs() *cobra.Command {
	var (
		c                  containerFlag
		follow, timestamps bool
		since, until, tail string
	)
	cmd := &cobra.Command{
		Use:   "logs [flags] POD",
		Short: "Show what a container in the background has written",
		Long: `Show what a container in the background has written, its error output on stderr.
--container may be left out if the pod has one container only.`,
		Example: `  podbox logs -f -c db web
  podbox logs --since 10m --tail 100 -t web`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.pods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts := supervisor.LogOptions{Follow: follow}
			var err error
			if opts.Since, err = parseTime("--since", since); err != nil {
				return err
			}
			if opts.Until, err = parseTime("--until", until); err != nil {
				return err
			}
			if opts.Tail, err = parseTail(tail); err != nil {
				return err
			}
			pod, err := a.pod(args[0])
			if err != nil {
				return err
			}
			container, err := c.one(pod)
			if err != nil {
				return err
			}
			return printLogs(cmd.Context(), container, opts, timestamps, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.add(a, cmd, "show")
	fl := cmd.Flags()
	fl.BoolVarP(&follow, "follow", "f", false, "go on until the container has ended")
	fl.BoolVarP(&timestamps, "timestamps", "t", false, "begin each line with its time")
	fl.StringVar(&since, "since", "", "show what is younger than `TIME`: an RFC 3339 time, or a duration such as 10m")
	fl.StringVar(&until, "until", "", "show what is older than `TIME`")
	fl.StringVar(&tail, "tail", "all", "begin with the last `N` lines")
	return cmd
}

// parseTime reads an RFC 3339 time, or how long ago it is.
func parseTime(flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, fmt.Errorf("%s %q: %w: want an RFC 3339 time, Unix seconds, or a duration such as 10m", flag, s, sandbox.ErrInvalid)
	}
	return t, nil
}

func parseTail(s string) (int, error) {
	if s == "all" || s == "-1" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("--tail %q: %w: want a number of lines, or all", s, sandbox.ErrInvalid)
	}
	if n == 0 {
		return supervisor.NoLines, nil
	}
	return n, nil
}

func printLogs(ctx context.Context, c *supervisor.Container, opts supervisor.LogOptions, timestamps bool, stdout, stderr io.Writer) error {
	out, errw := bufio.NewWriterSize(stdout, 64<<10), stderr
	flush := func() error { return nil }
	if opts.Follow {
		flush = out.Flush
	}
	err := c.Logs(ctx, opts, func(e supervisor.LogEntry) error {
		w := io.Writer(out)
		if e.Stream == "stderr" {
			if err := out.Flush(); err != nil {
				return err
			}
			w = errw
		}
		if timestamps && !e.Continued {
			fmt.Fprintf(w, "%s ", e.Time.Format(time.RFC3339Nano))
		}
		if _, err := w.Write(e.Text); err != nil {
			return err
		}
		if !e.Partial {
			if _, err := w.Write([]byte{'\n'}); err != nil {
				return err
			}
		}
		return flush()
	})
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, supervisor.ErrNotFound) {
		err = nil // it has not written anything yet
	}
	return errors.Join(err, out.Flush())
}

func (a *app) attach() *cobra.Command {
	var (
		c       containerFlag
		noStdin bool
		keys    string
	)
	cmd := &cobra.Command{
		Use:   "attach [flags] POD",
		Short: "Connect to the streams of a container in the background",
		Long: `Connect to the streams of a container in the background, from now on. Its input is
connected if it was started with -i. The detach keys, ctrl-p ctrl-q by default, end
the connection and leave the container running, if it has a terminal; so does
ctrl-c if it has none. The exit status is the container's own.`,
		Example: `  podbox attach -c shell web
  podbox attach --detach-keys ctrl-q -c shell web`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.pods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			detach, err := parseKeys(keys)
			if err != nil {
				return err
			}
			pod, err := a.pod(args[0])
			if err != nil {
				return err
			}
			container, err := c.one(pod)
			if err != nil {
				return err
			}
			return attach(cmd.Context(), container, !noStdin, detach)
		},
	}
	c.add(a, cmd, "connect to")
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "do not connect the input")
	cmd.Flags().StringVar(&keys, "detach-keys", "ctrl-p,ctrl-q", "`keys` that end the connection")
	return cmd
}

// attach connects to a container until it ends or the keys are typed.
func attach(ctx context.Context, c *supervisor.Container, stdin bool, keys []byte) error {
	s, err := c.Status()
	if err != nil {
		return err
	}
	stdin = stdin && s.Stdin
	terminal := s.Spec.Process.Terminal
	att, err := c.Attach(ctx, stdin)
	if err != nil {
		return err
	}
	defer att.Close()
	if terminal {
		restore, err := makeRaw(os.Stdin)
		if err != nil {
			return err
		}
		defer restore()
		stop := followSize(att)
		defer stop()
	}
	detached := make(chan struct{})
	if stdin {
		go func() {
			if copyKeys(att, os.Stdin, keys) {
				close(detached)
				att.Close()
			} else {
				_ = att.CloseInput()
			}
		}()
	}
	err = att.Copy(os.Stdout, os.Stderr)
	select {
	case <-detached:
		return nil
	default:
	}
	if err != nil {
		return err
	}
	switch status := att.ExitCode(); {
	case status == nil:
		return fmt.Errorf("%v: its exit status is not known", c)
	case *status != 0:
		return exit.Status(*status)
	}
	return nil
}
