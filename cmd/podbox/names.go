package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/podbox/podbox/sandbox"
)

// nameFlags are the flags that say what a pod finds in resolv.conf and hosts, as they are
// given.
type nameFlags struct{ dns, search, hosts []string }

func (f *nameFlags) add(fl *pflag.FlagSet) {
	fl.StringArrayVar(&f.dns, "dns", nil, "`address` of a DNS server (default those of the host)")
	fl.StringArrayVar(&f.search, "dns-search", nil, "DNS search `domain` (default those of the host)")
	fl.StringArrayVar(&f.hosts, "add-host", nil, "`name:address` to add to /etc/hosts")
}

func (f *nameFlags) given() bool { return len(f.dns)+len(f.search)+len(f.hosts) > 0 }

// set changes what is given. An empty word takes the servers, or the domains, that there
// are away, and name- a host.
func (f *nameFlags) set(dns *sandbox.DNS, hosts *[]sandbox.Host) error {
	if len(f.dns) > 0 {
		dns.Servers = nil
	}
	for _, v := range f.dns {
		if v == "" {
			continue
		}
		addr, err := netip.ParseAddr(v)
		if err != nil {
			return fmt.Errorf("--dns %q: %w: want an IP address", v, sandbox.ErrInvalid)
		}
		dns.Servers = append(dns.Servers, addr)
	}
	if len(f.search) > 0 {
		dns.Search = slices.DeleteFunc(slices.Clone(f.search), func(domain string) bool { return domain == "" })
	}
	*hosts = slices.Clone(*hosts)
	for _, v := range f.hosts {
		name, ip, found := strings.Cut(v, ":")
		if old, minus := strings.CutSuffix(name, "-"); !found && minus && old != "" {
			were := len(*hosts)
			if *hosts = slices.DeleteFunc(*hosts, func(h sandbox.Host) bool { return h.Name == old }); len(*hosts) == were {
				return fmt.Errorf("--add-host %q: %w: the pod has no host %s", v, sandbox.ErrInvalid, old)
			}
			continue
		}
		addr, err := netip.ParseAddr(ip)
		if err != nil || name == "" {
			return fmt.Errorf("--add-host %q: %w: want name:address", v, sandbox.ErrInvalid)
		}
		*hosts = append(*hosts, sandbox.Host{Name: name, IP: addr})
	}
	return nil
}
