package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/podbox/podbox/netns"
)

// rateFlags are the flags that limit what passes a pod's link, as they are given.
type rateFlags struct{ ingress, egress string }

func (f *rateFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.ingress, "ingress", "", "`rate` at which the pod receives at most, in bits a second, such as 10M or 512Ki; 0 is no limit")
	fl.StringVar(&f.egress, "egress", "", "`rate` at which the pod sends at most")
}

func (f *rateFlags) given() bool { return f.ingress != "" || f.egress != "" }

// set changes what of b is given.
func (f *rateFlags) set(b *netns.Bandwidth) error {
	for _, r := range []struct {
		flag, text string
		rate       *uint64
	}{{"--ingress", f.ingress, &b.Ingress}, {"--egress", f.egress, &b.Egress}} {
		if r.text == "" {
			continue
		}
		var err error
		if *r.rate, err = netns.ParseRate(r.text); err != nil {
			return fmt.Errorf("%s: %w", r.flag, err)
		}
	}
	return nil
}
