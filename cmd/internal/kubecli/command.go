// Package kubecli is the command line of podbox-kube: the verbs that podbox leaves to
// it. To the user they are verbs of podbox.
package kubecli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/cmd/internal/global"
	"github.com/podbox/podbox/cmd/internal/misuse"
	"github.com/podbox/podbox/cmd/internal/twin"
)

// Run does what the command line says and returns the exit status. The first SIGINT,
// SIGTERM or SIGHUP ends it in order, and the status is 128 and its number; the second
// one at once.
func Run(args []string) int {
	if err := twin.Accept(); err != nil {
		return exit.Report(os.Stderr, err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		s := <-signals
		signal.Stop(signals)
		cancel(exit.Status(128 + int(s.(unix.Signal))))
	}()
	a := new(app)
	cmd := a.command()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	var ended exit.Status
	if err != nil && errors.As(context.Cause(ctx), &ended) {
		return int(ended)
	}
	return exit.Report(os.Stderr, err, hint)
}

// An app is what the verbs share: the values of the global flags.
type app struct {
	global.Flags
}

func (a *app) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:           twin.Podbox,
		Short:         "Images and Pod YAML",
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.quieten()
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misuse.Unknown(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	cmd.CompletionOptions.DisableDefaultCmd = true // podbox has it
	a.Add(cmd.PersistentFlags())
	makers := map[string]func() *cobra.Command{
		"apply":    a.apply,
		"delete":   a.delete,
		"generate": a.generate,
		"image":    a.image,
	}
	for _, v := range twin.Verbs() {
		c := makers[v.Name]()
		c.Short = v.Short
		cmd.AddCommand(c)
	}
	cmd.AddCommand(a.manual())
	global.Complete(cmd, map[string]cobra.CompletionFunc{
		"input":  cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		"policy": cobra.FixedCompletions([]cobra.Completion{"always", "missing", "never"}, cobra.ShellCompDirectiveNoFileComp),
		"change": cobra.FixedCompletions([]cobra.Completion{
			"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
		}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace),
	})
	misuse.Explain(cmd)
	return cmd
}

// quieten has the libraries that log for themselves do so if debugging is asked for.
func (a *app) quieten() error {
	log, err := a.Logger()
	if err != nil {
		return err
	}
	logrus.SetOutput(io.Discard)
	if log.Enabled(context.Background(), slog.LevelDebug) {
		logrus.SetOutput(os.Stderr)
		logrus.SetLevel(logrus.DebugLevel)
	}
	return nil
}
