package main

import (
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/cmd/internal/twin"
)

// kube returns the verbs that podbox-kube does. It is given the whole command line,
// whatever of it podbox has understood, to complete it or to help with it too.
func (a *app) kube() []verb {
	var verbs []verb
	for _, v := range twin.Verbs() {
		verbs = append(verbs, verb{v.Name, "kube", func() *cobra.Command {
			cmd := &cobra.Command{
				Use:                v.Name,
				Short:              v.Short,
				Args:               cobra.ArbitraryArgs,
				DisableFlagParsing: true,
				RunE:               func(*cobra.Command, []string) error { return twin.Become(a.args) },
				ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
					cobra.CompErrorln(twin.Become(a.args).Error())
					return nil, cobra.ShellCompDirectiveError
				},
			}
			cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
				exit.Report(cmd.ErrOrStderr(), twin.Become(a.args))
			})
			return cmd
		}})
	}
	return verbs
}
