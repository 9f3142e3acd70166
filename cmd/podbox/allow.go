package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/podbox/podbox/netns"
)

// policyFlags are the flags that say who connects with a pod, as they are given.
type policyFlags struct {
	from, to []string
	isolate  string
	flags    *pflag.FlagSet
}

func (f *policyFlags) add(fl *pflag.FlagSet) {
	f.flags = fl
	fl.StringArrayVar(&f.from, "allow-from", nil, "`who[:port]` may connect to the pod: network, pod, label:key=value, any, or none; others may not (default any)")
	fl.StringArrayVar(&f.to, "allow-to", nil, "`who[:port]` the pod may connect to, host among them; to others it may not (default any)")
	fl.StringVar(&f.isolate, "isolate", "", "`key` of a label: of all pods, only those with the same value reach the pod, and are reached by it")
}

func (f *policyFlags) given() bool {
	return len(f.from)+len(f.to) > 0 || f.isolates()
}

// isolates reports whether --isolate is given: "" is a value too.
func (f *policyFlags) isolates() bool { return f.flags != nil && f.flags.Changed("isolate") }

// set changes what of p is given.
func (f *policyFlags) set(p *netns.Policy) error {
	for _, way := range []struct {
		flag  string
		words []string
		peers *[]netns.Peer
	}{{"--allow-from", f.from, &p.From}, {"--allow-to", f.to, &p.To}} {
		if len(way.words) == 0 {
			continue
		}
		var err error
		if *way.peers, err = netns.ParsePeers(way.words); err != nil {
			return fmt.Errorf("%s %w", way.flag, err)
		}
	}
	if f.isolates() {
		p.Isolate = f.isolate
	}
	return nil
}
