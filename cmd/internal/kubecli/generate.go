package kubecli

import (
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/kube"
	"github.com/podbox/podbox/supervisor"
)

func (a *app) generate() *cobra.Command {
	cmd := &cobra.Command{
		Use: "generate POD",
		Long: `Print a pod as Pod YAML that can be applied again. Of a pod that was applied it is what
was applied; of others, as much as Pod YAML can say, and what it cannot is an error.
Contents of Secrets are not in it.

A pod that is called like a command below is named by its ID.`,
		Example: `  podbox generate web > web.yaml
  podbox generate systemd web`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			defer closing(rt, &err)
			pod, err := rt.Open(args[0])
			if err != nil {
				return err
			}
			text, err := kube.Generate(supervisor.Open(pod, supervisor.Options{}))
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
		ValidArgsFunction: a.pods,
	}
	cmd.AddCommand(a.generateSystemd())
	return cmd
}

// pods completes one pod's name.
func (a *app) pods(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	rt, err := a.Runtime()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, _ := rt.List(cmd.Context())
	var names []cobra.Completion
	for _, info := range list {
		names = append(names, info.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
