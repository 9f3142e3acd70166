package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/fdtable"
	"github.com/podbox/podbox/cmd/internal/form"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/volumes"
)

// createFlags are the flags of create as they are given.
type createFlags struct {
	hostname, network, ip, ip6, mac, ipRange, ip6Range, shmSize string

	share, sysctls, labels, volumes, ports []string

	names nameFlags

	limits limitFlags
	rates  rateFlags
	policy policyFlags
	cni    cniFlags

	plan bool
}

func (a *app) create() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use:   "create [flags] [NAME]",
		Short: "Make a pod and print its ID",
		Long: `Make a pod and print its ID. Without NAME the pod is called by the first
12 digits of its ID.`,
		Example: `  podbox create web
  podbox create --ip 10.88.7.7 --hostname db --sysctl net.core.somaxconn=4096 db
  podbox create --network none --share net,ipc,uts,pid --shm-size 1g
  podbox create -p 8080:80 -p 127.0.0.1:5353:53/udp web
  podbox create --ingress 100M --egress 10M guest
  podbox create --allow-from label:app=web:5432 --allow-to none db
  podbox create --label team=red --isolate team web
  podbox create --network cni:lan,storage web     # eth0 in lan, eth1 in storage
  podbox create --plan web        # what would be done, step by step`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			fdtable.Grow()
			spec, err := f.spec()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if args[0] == "" {
					return fmt.Errorf("name %q: %w: empty", args[0], sandbox.ErrInvalid)
				}
				spec.Name = args[0]
			}
			if a.CNI, err = f.cni.driver(); err != nil {
				return err
			}
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			if f.plan {
				return printPlan(cmd, rt, spec)
			}
			if err := f.note(&spec, cmd.Flags(), a.CNI); err != nil {
				return err
			}
			pod, err := rt.Create(cmd.Context(), spec)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), pod.ID())
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.hostname, "hostname", "", "`name` that members see as the host's (default NAME)")
	fl.StringVar(&f.network, "network", "", "`mode`: pod, none, host, ns:PATH or cni:NAME[,NAME] (default pod)")
	fl.StringVar(&f.ip, "ip", "", "IPv4 `address` (default the next free one)")
	fl.StringVar(&f.ip6, "ip6", "", "IPv6 `address` (default the next free one)")
	fl.StringVar(&f.mac, "mac", "", "hardware `address` (default derived from the ID)")
	fl.StringVar(&f.ipRange, "ip-range", "", "`network` to take the IPv4 address from (default "+netns.DefaultRange.String()+")")
	fl.StringVar(&f.ip6Range, "ip6-range", "", "`network` to take the IPv6 address from (default "+netns.DefaultRange6.String()+")")
	fl.StringSliceVar(&f.share, "share", nil, "`namespaces` that members share: net, ipc, uts, pid (default net,ipc,uts)")
	fl.StringVar(&f.shmSize, "shm-size", "", "`size` of /dev/shm, such as 64m or 1g (default 64m)")
	fl.StringArrayVar(&f.sysctls, "sysctl", nil, "`name=value` to set in the pod's namespaces")
	f.names.add(fl)
	fl.StringArrayVar(&f.labels, "label", nil, "`key=value` for your own use")
	fl.StringArrayVar(&f.volumes, "volume", nil, "volume for the pod's containers: `NAME[:disk|memory[,size=64Mi]]` or NAME:hostpath=/PATH[,type=TYPE]")
	fl.StringArrayVarP(&f.ports, "publish", "p", nil, "port of the pod that is one of the host: `[HOST-IP:][HOST-PORT:]PORT[/udp|/sctp]`, or ranges; without HOST-PORT a free one")
	f.rates.add(fl)
	f.policy.add(fl)
	f.limits.add(fl)
	f.cni.add(fl)
	fl.BoolVar(&f.plan, "plan", false, "print the steps and do nothing")
	_ = cmd.RegisterFlagCompletionFunc("network", f.cni.completeNetwork)
	return cmd
}

// spec turns the flags into a Spec. What can be judged without knowing how it was
// written is left to Spec.Validate.
func (f *createFlags) spec() (sandbox.Spec, error) {
	s := sandbox.Spec{Hostname: f.hostname}
	var err error
	if f.network != "" {
		if s.Network, err = netns.Parse(f.network); err != nil {
			return s, err
		}
	}
	s.Network.MAC = f.mac
	for _, v := range []struct {
		flag, text string
		addr       *netip.Addr
		prefix     *netip.Prefix
	}{
		{"--ip", f.ip, &s.Network.IP, nil},
		{"--ip6", f.ip6, &s.Network.IP6, nil},
		{"--ip-range", f.ipRange, nil, &s.Network.Range},
		{"--ip6-range", f.ip6Range, nil, &s.Network.Range6},
	} {
		switch {
		case v.text == "":
		case v.addr != nil:
			*v.addr, err = netip.ParseAddr(v.text)
		default:
			*v.prefix, err = netip.ParsePrefix(v.text)
		}
		if err != nil {
			want := "an IP address"
			if v.prefix != nil {
				want = "a network such as 10.88.0.0/16"
			}
			return s, fmt.Errorf("%s %q: %w: want %s", v.flag, v.text, sandbox.ErrInvalid, want)
		}
	}
	for _, n := range f.share {
		s.Share = append(s.Share, sandbox.Namespace(n))
	}
	if f.shmSize != "" {
		if s.ShmSize, err = parseSize("--shm-size", f.shmSize); err != nil {
			return s, err
		}
	}
	if s.Sysctls, err = pairs("--sysctl", f.sysctls); err != nil {
		return s, err
	}
	if s.Labels, err = pairs("--label", f.labels); err != nil {
		return s, err
	}
	if err := f.names.set(&s.DNS, &s.Hosts); err != nil {
		return s, err
	}
	for _, v := range f.volumes {
		volume, err := volumes.Parse(v)
		if err != nil {
			return s, err
		}
		s.Volumes = append(s.Volumes, volume)
	}
	if s.Ports, err = parsePorts(f.ports); err != nil {
		return s, err
	}
	if err := f.rates.set(&s.Bandwidth); err != nil {
		return s, err
	}
	if err := f.policy.set(&s.Policy); err != nil {
		return s, err
	}
	s.Limits, err = f.limits.limits()
	return s, err
}

func pairs(flag string, words []string) (map[string]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(words))
	for _, w := range words {
		k, v, found := strings.Cut(w, "=")
		if !found {
			return nil, fmt.Errorf("%s %q: %w: want key=value", flag, w, sandbox.ErrInvalid)
		}
		if _, twice := m[k]; twice {
			return nil, fmt.Errorf("%s %q: %w: given twice", flag, k, sandbox.ErrInvalid)
		}
		m[k] = v
	}
	return m, nil
}

func printPlan(cmd *cobra.Command, rt *sandbox.Runtime, spec sandbox.Spec) error {
	plan, err := rt.Plan(spec)
	if err != nil {
		return err
	}
	var rows [][]string
	for i, p := range plan {
		undo := p.Undo
		if undo == "" {
			undo = "-"
		}
		rows = append(rows, []string{fmt.Sprint(i + 1), p.Name, p.Do, undo})
	}
	return form.Table(cmd.OutOrStdout(), []string{"", "STEP", "DOES", "IF A LATER STEP FAILS"}, rows)
}
