package global

import (
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Complete says how values of flags are completed, by the flags' names, for a program and all
// of its commands, where they do not say so themselves. What nobody says of is no file.
func Complete(root *cobra.Command, flags map[string]cobra.CompletionFunc) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	dirs := cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	all := map[string]cobra.CompletionFunc{
		"log-level":      cobra.FixedCompletions([]cobra.Completion{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp),
		"root":           dirs,
		"state-dir":      dirs,
		"cert-dir":       dirs,
		"cni-conf-dir":   dirs,
		"cni-plugin-dir": dirs,
		"authfile":       cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
		"platform":       cobra.FixedCompletions([]cobra.Completion{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"}, cobra.ShellCompDirectiveNoFileComp),
	}
	for name, f := range flags {
		all[name] = f
	}
	todo := []*cobra.Command{root}
	for len(todo) > 0 {
		cmd := todo[0]
		todo = slices.Concat(todo[1:], cmd.Commands())
		cmd.NonInheritedFlags().VisitAll(func(flag *pflag.Flag) {
			if f, ok := all[flag.Name]; ok {
				_ = cmd.RegisterFlagCompletionFunc(flag.Name, f) // or it has one
			}
		})
	}
}
