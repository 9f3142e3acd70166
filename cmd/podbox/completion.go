package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
)

// shells are those for which there is a script.
var shells = []cobra.Completion{"bash", "fish", "zsh"}

func (a *app) completion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a script that completes command lines, for bash, fish or zsh",
		Long: `Print a script with which a shell completes commands, flags, pods, containers, images,
volumes and files. The packages, and make install, put it where the shell finds it.
bash needs the package bash-completion.`,
		Example: `  source <(podbox completion bash)
  podbox completion fish > ~/.config/fish/completions/podbox.fish
  podbox completion zsh > "${fpath[1]}/_podbox"`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			w := cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(w, true)
			case "fish":
				return cmd.Root().GenFishCompletion(w, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(w)
			}
			return fmt.Errorf("completion %q: %w: want %s", args[0], sandbox.ErrInvalid, strings.Join(shells, ", "))
		},
	}
}
