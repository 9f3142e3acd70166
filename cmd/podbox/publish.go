package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

func (a *app) publish() *cobra.Command {
	return &cobra.Command{
		Use:   "publish POD [HOST-IP:][HOST-PORT:]PORT[/PROTOCOL]...",
		Short: "Make ports of a pod those of the host",
		Long: `Make ports of a pod those of the host, while it runs. Without an address they
are reached at all addresses of the host: from other machines, from the host itself,
by 127.0.0.1 and ::1 too, and from pods.
The protocol is tcp, udp or sctp; ranges such as 8000-8010:80-90 are as long on both
sides. Without HOST-PORT podbox chooses a free one and prints it. A port that
another pod publishes or a process of the host listens on is refused.`,
		Example: `  podbox publish web 8080:80
  podbox publish web 80 127.0.0.1::443
  podbox publish web 127.0.0.1:5432:5432 '[::]:53:53/udp' 7000-7099:7000-7099`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.pods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ports, err := parsePorts(args[1:])
			if err != nil {
				return err
			}
			return a.each(args[:1], func(pod *sandbox.Sandbox) error {
				before, err := pod.Info()
				if err != nil {
					return err
				}
				if err := pod.Publish(cmd.Context(), ports...); err != nil {
					return err
				}
				return printChosen(cmd.OutOrStdout(), pod, before.Ports, ports)
			})
		},
	}
}

// printChosen prints, of the ports that a pod publishes and did not before, those that
// were asked for without saying at which of the host.
func printChosen(w io.Writer, pod *sandbox.Sandbox, before, asked []netns.Port) error {
	open := func(p netns.Port) bool { return p.HostPort == 0 }
	if !slices.ContainsFunc(asked, open) {
		return nil
	}
	i, err := pod.Info()
	if err != nil {
		return err
	}
	for _, p := range i.Ports {
		like := p
		like.HostPort = 0
		if !slices.Contains(before, p) && !slices.Contains(asked, p) && slices.Contains(asked, like) {
			if _, err := fmt.Fprintln(w, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) unpublish() *cobra.Command {
	return &cobra.Command{
		Use:   "unpublish POD [HOST-IP:]HOST-PORT:PORT[/PROTOCOL]...",
		Short: "Make ports of a pod its own again",
		Long: `Make ports of a pod its own again, each as it was published: podbox port shows
them. Connections by them end, other than those of the host by ::1.`,
		Example: `  podbox unpublish web 8080:80
  podbox port -o name web | xargs podbox unpublish web`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.podThenPorts,
		RunE: func(cmd *cobra.Command, args []string) error {
			ports, err := parsePorts(args[1:])
			if err != nil {
				return err
			}
			return a.each(args[:1], func(pod *sandbox.Sandbox) error { return pod.Unpublish(cmd.Context(), ports...) })
		},
	}
}
