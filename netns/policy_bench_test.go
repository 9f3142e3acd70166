package netns

import (
	"fmt"
	"testing"
)

// BenchmarkPolice gives and takes one pod a policy beside those of others, and makes all
// of them anew.
func BenchmarkPolice(b *testing.B) {
	for _, n := range []int{0, 1, 2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			host, err := Create()
			if err != nil {
				b.Fatal(err)
			}
			defer host.Close()
			var pods []Policed
			for i := range n {
				pods = append(pods, benchPolicy(i+10))
			}
			r, one := Rules{Table: DefaultTable}, benchPolicy(2)
			for _, op := range []struct {
				name string
				do   func() error
			}{
				{"replace", func() error { return r.Replace(nil, Uplinks{}, pods...) }},
				{"add+delete", func() error {
					if n == 0 {
						return nil
					}
					if err := r.Police(Policed{}, one); err != nil {
						return err
					}
					return r.Police(one, Policed{})
				}},
			} {
				b.Run(op.name, func(b *testing.B) {
					for b.Loop() {
						if err := host.Do(op.do); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}

// benchPolicy is that of a pod which others of its team and a network reach, and which
// goes to a few places.
func benchPolicy(i int) Policed {
	team := fmt.Sprint("t", i/10)
	return Policed{
		Address: Address{IP: nth(DefaultRange, uint64(i)), IP6: nth(DefaultRange6, uint64(i))},
		Policy: Policy{
			From:    mustParsePeers("label:team=" + team + ":80 192.0.2.0/24 10.0.0.0/8:443"),
			To:      mustParsePeers("host:53/udp label:team=" + team + " 198.51.100.0/24:443"),
			Isolate: "team",
		},
		Groups:   Groups(fmt.Sprint("p", i), map[string]string{"team": team}),
		Isolated: LabelGroup("team", team),
	}
}
