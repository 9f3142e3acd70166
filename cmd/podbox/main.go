// Command podbox makes and keeps pod sandboxes. See podbox --help.
package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/cmd/internal/global"
	"github.com/podbox/podbox/cmd/internal/misuse"
	"github.com/podbox/podbox/cmd/internal/twin"
	"github.com/podbox/podbox/sandbox"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == twin.Supervise {
		// Without a command line's worth of memory: it stays.
		os.Exit(runSupervisor(os.Args[2:]))
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	a := new(app)
	cmd := a.command(args)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(context.Background())
	return exit.Report(os.Stderr, err)
}

// An app is what the verbs share: the values of the global flags, with the
// runtime that they name, and the whole command line.
type app struct {
	global.Flags
	args []string
}

// command builds the command line. args tell which of the verbs it can do without.
func (a *app) command(args []string) *cobra.Command {
	a.args = args
	cmd := &cobra.Command{
		Use:   "podbox",
		Short: "Pod sandboxes: shared network, IPC and memory for programs and containers",
		Long: `Podbox makes pods: one IP address, one localhost, one set of message queues,
semaphores and shared memory, for programs and containers that come and go.`,
		Example: `  podbox create web
  podbox exec web -- ip addr
  podbox rm web`,
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misuse.Unknown(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	a.Add(cmd.PersistentFlags())
	cmd.AddGroup(&cobra.Group{ID: "pod", Title: "Pods:"}, &cobra.Group{ID: "run", Title: "Containers and programs in them:"},
		&cobra.Group{ID: "kube", Title: "Images and Pod YAML:"}, &cobra.Group{ID: "use", Title: "Join them from elsewhere:"},
		&cobra.Group{ID: "host", Title: "The host:"})
	known := a.knows(args) // to build all commands takes as long as to run some
	for _, v := range a.verbs() {
		if known == "" || known == v.name {
			c := v.make()
			c.GroupID = v.group
			cmd.AddCommand(c)
		}
	}
	cmd.SetHelpCommandGroupID("host")
	cmd.CompletionOptions.DisableDefaultCmd = true // it has one of its own
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		a.complete(cmd)
	}
	misuse.Explain(cmd)
	return cmd
}

// A verb is one command of podbox.
type verb struct {
	name, group string
	make        func() *cobra.Command
}

func (a *app) verbs() []verb {
	verbs := []verb{
		{"create", "pod", a.create},
		{"ls", "pod", a.ls},
		{"inspect", "pod", a.inspect},
		{"exists", "pod", a.exists},
		{"start", "pod", a.start},
		{"stop", "pod", a.stop},
		{"restart", "pod", a.restart},
		{"rm", "pod", a.rm},
		{"prune", "pod", a.prune},
		{"update", "pod", a.update},
		{"run", "run", a.run},
		{"ps", "run", a.ps},
		{"logs", "run", a.logs},
		{"attach", "run", a.attach},
		{"top", "run", a.top},
		{"stats", "run", a.stats},
		{"events", "pod", a.events},
		{"port", "pod", a.port},
		{"publish", "pod", a.publish},
		{"unpublish", "pod", a.unpublish},
		{"port-forward", "pod", a.portForward},
		{"exec", "run", a.exec},
		{"kill", "run", a.kill},
		{"wait", "run", a.wait},
		{"pause", "pod", a.pause},
		{"unpause", "pod", a.unpause},
		{"ipc", "use", a.ipc},
		{"spec", "use", a.spec},
		{"oci-hook", "use", a.ociHook},
		{"network", "host", a.network},
		{"gc", "host", a.gc},
		{"doctor", "host", a.doctor},
		{"version", "host", a.version},
		{"completion", "host", a.completion},
		{"manual", "host", a.manual},
	}
	return append(verbs, a.kube()...)
}

// knows returns the verb that the command line begins with, or "".
func (a *app) knows(args []string) string {
	for _, v := range a.verbs() {
		if len(args) > 0 && args[0] == v.name {
			return v.name
		}
	}
	return ""
}

// each calls f for each pod named, all of them even if it fails for some.
func (a *app) each(refs []string, f func(*sandbox.Sandbox) error) error {
	rt, err := a.Runtime()
	if err != nil {
		return err
	}
	var errs []error
	for _, ref := range refs {
		pod, err := rt.Open(ref)
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
		rt, err := a.Runtime()
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
