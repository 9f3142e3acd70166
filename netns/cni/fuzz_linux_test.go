package cni

import (
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types/create"
)

// What is taken of a description is the same when it is read again from what is kept of it.
func FuzzNetwork(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.0.0","name":"lan","plugins":[{"type":"bridge","args":{"cni":{"x":1}},"ipam":{"type":"host-local"}},{"type":"portmap","capabilities":{"portMappings":true}}]}`), true)
	f.Add([]byte(`{"cniVersion":"0.3.1","name":"lan","type":"ptp"}`), false)
	f.Add([]byte(`{"cniVersions":["0.4.0","1.1.0"],"name":"lan","disableGC":"true","plugins":[{"type":"x"}]}`), true)
	f.Fuzz(func(t *testing.T, b []byte, list bool) {
		n, err := parseNetwork(b, list)
		if err != nil || n.check() != nil {
			return
		}
		for _, p := range n.Plugins() {
			if strings.ContainsRune(p, '/') || p == "" {
				t.Errorf("plugin %q", p)
			}
		}
		a, err := n.Attach(strings.Repeat("0", 64), "eth0", Request{MAC: "02:00:00:00:00:01"})
		if err != nil {
			return
		}
		again, err := parseNetwork(a.Config, true)
		if err != nil {
			t.Fatalf("%s: %v", a.Config, err)
		}
		if again.Name != n.Name || again.Version != n.Version || !slices.Equal(again.Plugins(), n.Plugins()) || again.Has("portMappings") != n.Has("portMappings") {
			t.Errorf("%s became %s", b, a.Config)
		}
	})
}

// What is believed of an answer can do no harm where it is written.
func FuzzResult(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/x"}],"ips":[{"address":"10.0.0.1/8","gateway":"10.0.0.2","interface":0}],"dns":{"nameservers":["1.1.1.1"],"domain":"a","search":["b"],"options":["c"]}}`))
	f.Add([]byte(`{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.1/8"},"ip6":{"ip":"fd00::1/64"}}`))
	f.Add([]byte(`{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.1/8","interface":-7}]}`))
	f.Add([]byte(`{"cniVersion":"1.1.0","interfaces":[null],"ips":[null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		answer, err := create.CreateFromBytes(b)
		if err != nil {
			return
		}
		r, err := believe(&Attachment{Network: "lan", Interface: "eth0"}, answer)
		if err != nil {
			return
		}
		for _, s := range slices.Concat(r.DNS.Search, r.DNS.Options, []string{r.MAC}) {
			if strings.ContainsAny(s, " \n\t") {
				t.Errorf("%q in %+v", s, r)
			}
		}
		for _, ip := range r.IPs {
			if !ip.Address.IsValid() || ip.Address.Addr().Zone() != "" {
				t.Errorf("address %v", ip)
			}
		}
	})
}
