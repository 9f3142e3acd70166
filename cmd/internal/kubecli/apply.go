package kubecli

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/fdtable"
	"github.com/podbox/podbox/kube"
	"github.com/podbox/podbox/sandbox"
)

func (a *app) apply() *cobra.Command {
	var (
		files manifestFlags
		pull  pullFlags
		opts  kube.ApplyOptions
		wait  string
		quiet bool
	)
	cmd := &cobra.Command{
		Use: "apply [flags] -f FILE",
		Long: `Make what Pod YAML describes, or change what is there of the same names: Pods,
ConfigMaps and Secrets, as for Kubernetes. To apply the same again does nothing.

Nothing is made unless all of it is right. What podbox does not do is an error that
names the field, or with --lenient a warning; what is about a cluster is told of and
passed over. docs/POD-YAML.md has what becomes of each field.`,
		Example: `  podbox apply -f web.yaml
  podbox apply -f config/ -f web.yaml --wait=1m
  podbox generate web | podbox --root /run/other apply -f -`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			fdtable.Grow()
			if opts.Wait, err = parseWait(wait); err != nil {
				return err
			}
			m, err := files.read(cmd)
			if err != nil {
				return err
			}
			o, err := a.kubeOptions(cmd)
			if err != nil {
				return err
			}
			defer closing(o.Runtime, &err)
			store, err := a.store()
			if err != nil {
				return err
			}
			from, err := pull.options()
			if err != nil {
				return err
			}
			o.Images = &images{store: store, opts: from, quiet: quiet, out: os.Stderr}
			return kube.Apply(cmd.Context(), m, o, opts)
		},
	}
	files.add(cmd)
	pull.add(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&files.lenient, "lenient", false, "drop fields that podbox does not do, with a warning")
	fl.BoolVar(&opts.DryRun, "dry-run", false, "print what would be done, and do nothing")
	fl.BoolVar(&opts.Replace, "replace", false, "remove pods that cannot be changed, and make them anew")
	fl.StringVar(&wait, "wait", "", "wait until the pods are ready or have ended well, at most `DURATION` such as 30s")
	fl.Lookup("wait").NoOptDefVal = "forever"
	fl.BoolVarP(&quiet, "quiet", "q", false, "show nothing of how images come in")
	return cmd
}

// parseWait reads the value of --wait.
func parseWait(s string) (time.Duration, error) {
	switch s {
	case "":
		return 0, nil
	case "forever":
		return -1, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("--wait %q: %w: want a duration such as 30s", s, sandbox.ErrInvalid)
	}
	return d, nil
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s %s: want no arguments, but -f FILE", cmd.Name(), strings.Join(args, " "))
	}
	return nil
}
