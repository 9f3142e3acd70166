package netns

import (
	"fmt"
	"net/netip"
	"testing"
)

// BenchmarkRules adds and deletes a port of one pod beside those of others.
func BenchmarkRules(b *testing.B) {
	for _, n := range []int{0, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			host, err := Create()
			if err != nil {
				b.Fatal(err)
			}
			defer host.Close()
			err = host.Do(func() error {
				var pods []Publication
				for i := range n {
					a := Address{IP: nth(DefaultRange, uint64(i+10)), IP6: nth(DefaultRange6, uint64(i+10))}
					pods = append(pods, Publication{a, []Port{{HostPort: uint16(10000 + i), Port: 80}}})
				}
				r := Rules{Table: DefaultTable}
				one := Publication{Address{IP: netip.MustParseAddr("10.88.0.2"), IP6: netip.MustParseAddr("fd70:6f64:626f:7800::2")}, []Port{{HostPort: 8080, Port: 80}}}
				if err := r.Replace(pods, Uplinks{}); err != nil {
					return err
				}
				for _, op := range []struct {
					name string
					do   func() error
				}{
					{"add", func() error { return r.Add(one) }},
					{"delete", func() error { return r.Delete(one, true) }},
					{"present", func() error { _, err := r.Present(); return err }},
					{"forget", func() error { return ForgetOthers(one) }},
					{"replace", func() error { return r.Replace(pods, Uplinks{}) }},
					{"remove+make", func() error {
						if err := r.Remove(); err != nil {
							return err
						}
						return r.Replace(pods, Uplinks{})
					}},
				} {
					b.Run(op.name, func(b *testing.B) {
						for b.Loop() {
							if op.name == "delete" {
								b.StopTimer()
								if err := host.Do(func() error { return r.Add(one) }); err != nil {
									b.Fatal(err)
								}
								b.StartTimer()
							}
							// The sub-benchmark is on a goroutine of its own.
							if err := host.Do(op.do); err != nil {
								b.Fatal(err)
							}
						}
					})
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}
