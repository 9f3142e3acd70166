package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/form"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

func (a *app) port() *cobra.Command {
	var out form.Choice
	cmd := &cobra.Command{
		Use:   "port [flags] POD",
		Short: "Show which ports of the host are a pod's",
		Long: `Show which ports of the host are a pod's, as podbox publish and unpublish take
them. A pod that does not run keeps its ports.`,
		Example: `  podbox port web
  podbox port -o name web | xargs podbox unpublish web`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.pods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := out.Parse()
			if err != nil {
				return err
			}
			return a.each(args, func(pod *sandbox.Sandbox) error {
				i, err := pod.Info()
				if err != nil {
					return err
				}
				ports := i.Ports
				if ports == nil {
					ports = []netns.Port{} // a list in JSON, too
				}
				w := cmd.OutOrStdout()
				switch {
				case t != nil:
					return form.Each(w, t, ports)
				case out.Form == "name":
					for _, p := range ports {
						fmt.Fprintln(w, p)
					}
					return nil
				case out.Form != "table":
					return form.Encode(w, out.Form, ports)
				}
				rows := make([][]string, len(ports))
				for n, p := range ports {
					rows[n] = portRow(p)
				}
				return form.Table(w, []string{"HOST", "POD", "PROTOCOL"}, rows)
			})
		},
	}
	out.Flags(cmd, "table", "json", "yaml", "name")
	return cmd
}

// portRow is a port in columns: of the host, of the pod, and its protocol.
func portRow(p netns.Port) []string {
	s, protocol, _ := strings.Cut(p.String(), "/")
	if p.HostPort == 0 { // somebody was killed before one was chosen
		return []string{"-", s[strings.LastIndexByte(s, ':')+1:], protocol}
	}
	i := strings.LastIndexByte(s, ':')
	host := s[:i]
	if !p.HostIP.IsValid() {
		host = "*:" + host
	}
	return []string{host, s[i+1:], protocol}
}

// parsePorts reads ports as they are given to a flag or a command.
func parsePorts(words []string) ([]netns.Port, error) {
	var ports []netns.Port
	for _, w := range words {
		p, err := netns.ParsePort(w)
		if err != nil {
			return nil, err
		}
		ports = append(ports, p)
	}
	return ports, nil
}
