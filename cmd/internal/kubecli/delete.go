package kubecli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/kube"
	"github.com/podbox/podbox/sandbox"
)

func (a *app) delete() *cobra.Command {
	files := manifestFlags{lenient: true} // what was dropped when it was applied is no matter now
	var (
		grace time.Duration
		force bool
	)
	cmd := &cobra.Command{
		Use: "delete [flags] -f FILE",
		Long: `Remove the Pods, ConfigMaps and Secrets that Pod YAML names, the last one first. What is
not there is no error. Containers have as much time to end as their pod says.`,
		Example: `  podbox delete -f web.yaml
  podbox delete -f web.yaml --force`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			m, err := files.read(cmd)
			if err != nil {
				return err
			}
			o, err := a.kubeOptions(cmd)
			if err != nil {
				return err
			}
			defer closing(o.Runtime, &err)
			stop := sandbox.StopOptions{Grace: grace}
			if force || cmd.Flags().Changed("grace-period") && grace == 0 {
				stop.Grace = -1
			}
			return kube.Delete(cmd.Context(), m, o, stop)
		},
	}
	files.add(cmd)
	cmd.Flags().DurationVar(&grace, "grace-period", 0, "how long containers have to end, such as 10s; 0: none (default: what each pod says)")
	cmd.Flags().BoolVar(&force, "force", false, "end containers at once")
	return cmd
}
