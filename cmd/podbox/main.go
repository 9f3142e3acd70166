// Command podbox makes and keeps pod sandboxes. See podbox --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	a := new(app)
	cmd := a.command()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(context.Background())
	return report(os.Stderr, err)
}

// An app is what the verbs share: the values of the global flags, and the
// runtime that they name.
type app struct {
	root     string
	stateDir string
	logLevel string
}

func (a *app) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "podbox",
		Short: "Pod sandboxes: shared network, IPC and memory for programs and containers",
		Long: `Podbox makes pods: one IP address, one localhost, one set of message queues,
semaphores and shared memory, for programs and containers that come and go.`,
		Example: `  podbox create web
  podbox exec web -- ip addr
  podbox rm web`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&a.root, "root", sandbox.DefaultRoot, "directory of the pods' records")
	f.StringVar(&a.stateDir, "state-dir", "/var/lib/podbox", "directory for what outlives a reboot (nothing yet)")
	f.StringVar(&a.logLevel, "log-level", "warn", "what is told on stderr: debug, info, warn or error")
	cmd.AddGroup(&cobra.Group{ID: "pod", Title: "Pods:"}, &cobra.Group{ID: "use", Title: "Use them:"},
		&cobra.Group{ID: "host", Title: "The host:"})
	for group, verbs := range map[string][]func() *cobra.Command{
		"pod":  {a.create, a.ls, a.inspect, a.exists, a.start, a.stop, a.restart, a.rm, a.prune},
		"use":  {a.exec, a.kill, a.wait, a.ipc, a.spec},
		"host": {a.gc, a.doctor, a.version},
	} {
		for _, verb := range verbs {
			v := verb()
			v.GroupID = group
			cmd.AddCommand(v)
		}
	}
	cmd.AddCommand(a.ociHook())
	cmd.SetHelpCommandGroupID("host")
	cmd.SetCompletionCommandGroupID("host")
	return cmd
}

// runtime opens the runtime that the global flags name.
func (a *app) runtime() (*sandbox.Runtime, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", a.logLevel)
	}
	return sandbox.Open(sandbox.Options{
		Root:   a.root,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	})
}

// each calls f for each pod named, all of them even if it fails for some.
func (a *app) each(refs []string, f func(*sandbox.Sandbox) error) error {
	rt, err := a.runtime()
	if err != nil {
		return err
	}
	var errs []error
	for _, ref := range refs {
		pod, err := rt.Load(ref)
		if err == nil {
			err = f(pod)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// pods completes names of pods; at most n of them, any number if n is 0.
func (a *app) pods(n int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		rt, err := a.runtime()
		if err != nil || n > 0 && len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		infos, _ := rt.List(context.Background())
		var names []string
		for _, i := range infos {
			names = append(names, cobra.CompletionWithDesc(i.Name, string(i.State)))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
