package netns

import (
	"fmt"
	"net"
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

// BenchmarkPoliced connects a pod to one that a policy allows it to, in the last of its
// places, beside those of others: with no policy at all, with one, and with 2,000.
func BenchmarkPoliced(b *testing.B) {
	for _, n := range []int{0, 1, 2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			host, err := Create()
			if err != nil {
				b.Fatal(err)
			}
			defer host.Close()
			var pods [2]*NS
			err = host.Do(func() error {
				for i, a := range []Address{addrA, addrB} {
					if pods[i], err = Create(); err != nil {
						return err
					}
					if err := Connect(pods[i], fmt.Sprint(linkPrefix, i), a, 1500); err != nil {
						return err
					}
				}
				var policed []Policed
				for i := range n {
					policed = append(policed, benchPolicy(i+10))
				}
				if n > 0 {
					policed[0] = policedA(Policy{From: mustParsePeers("192.0.2.0/24 198.51.100.0/24 label:x=y pod:b:80"), Isolate: "x"})
					policed[0].Isolated = LabelGroup("app", "web")
					policed = append(policed, policedB(Policy{To: mustParsePeers("host pod:a")}))
				}
				return Rules{Table: DefaultTable}.Replace(nil, Uplinks{}, policed...)
			})
			if err != nil {
				b.Fatal(err)
			}
			defer pods[0].Close()
			defer pods[1].Close()
			c, err := serve(pods[0], "A", "tcp", ":80")
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			err = pods[1].Do(func() error {
				for b.Loop() {
					c, err := net.Dial("tcp", addrA.IP.String()+":80")
					if err != nil {
						return err
					}
					_ = c.(*net.TCPConn).SetLinger(0)
					c.Close()
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}
