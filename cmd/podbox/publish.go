package main

import (
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/sandbox"
)

func (a *app) publish() *cobra.Command {
	return &cobra.Command{
		Use:   "publish POD [HOST-IP:]HOST-PORT:PORT[/PROTOCOL]...",
		Short: "Make ports of a pod those of the host",
		Long: `Make ports of a pod those of the host, while it runs. Without an address they
are reached at all addresses of the host: from other machines, from the host itself,
by 127.0.0.1 too, and from pods; not at ::1, by which the kernel lets nothing out.
The protocol is tcp, udp or sctp; ranges such as 8000-8010:80-90 are as long on both
sides. A port that another pod publishes or a process of the host listens on is
refused.`,
		Example: `  podbox publish web 8080:80
  podbox publish web 127.0.0.1:5432:5432 '[::]:53:53/udp' 7000-7099:7000-7099`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.pods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ports, err := parsePorts(args[1:])
			if err != nil {
				return err
			}
			return a.each(args[:1], func(pod *sandbox.Sandbox) error { return pod.Publish(cmd.Context(), ports...) })
		},
	}
}

func (a *app) unpublish() *cobra.Command {
	return &cobra.Command{
		Use:   "unpublish POD [HOST-IP:]HOST-PORT:PORT[/PROTOCOL]...",
		Short: "Make ports of a pod its own again",
		Long: `Make ports of a pod its own again, each as it was published: podbox port shows
them. Connections by them end.`,
		Example: `  podbox unpublish web 8080:80
  podbox port -o name web | xargs podbox unpublish web`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.pods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ports, err := parsePorts(args[1:])
			if err != nil {
				return err
			}
			return a.each(args[:1], func(pod *sandbox.Sandbox) error { return pod.Unpublish(cmd.Context(), ports...) })
		},
	}
}
