// Package kubecli is the command line of podbox-kube: the verbs that podbox leaves to
// it. To the user they are verbs of podbox.
package kubecli

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/cmd/internal/global"
	"github.com/podbox/podbox/cmd/internal/twin"
)

// Run does what the command line says and returns the exit status. SIGINT and SIGTERM
// end it in order.
func Run(args []string) int {
	if err := twin.Accept(); err != nil {
		return exit.Report(os.Stderr, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	cmd := new(app).command()
	cmd.SetArgs(args)
	return exit.Report(os.Stderr, cmd.ExecuteContext(ctx))
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
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("no command %q: podbox --help lists those there are", args[0])
			}
			return cmd.Help()
		},
	}
	a.Add(cmd.PersistentFlags())
	makers := map[string]func() *cobra.Command{
		"image": a.image,
	}
	for _, v := range twin.Verbs() {
		c := makers[v.Name]()
		c.Short = v.Short
		cmd.AddCommand(c)
	}
	return cmd
}
