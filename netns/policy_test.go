package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestParsePeer(t *testing.T) {
	for s, want := range map[string]Peer{
		"10.0.0.0/8":                     {Prefix: netip.MustParsePrefix("10.0.0.0/8")},
		"10.1.2.3":                       {Prefix: netip.MustParsePrefix("10.1.2.3/32")},
		"10.0.0.0/8:80":                  {Prefix: netip.MustParsePrefix("10.0.0.0/8"), Port: 80, Count: 1, Protocol: TCP},
		"10.1.2.3:53/udp":                {Prefix: netip.MustParsePrefix("10.1.2.3/32"), Port: 53, Count: 1, Protocol: UDP},
		"fd00::/8":                       {Prefix: netip.MustParsePrefix("fd00::/8")},
		"fd00::1":                        {Prefix: netip.MustParsePrefix("fd00::1/128")},
		"fd00::80":                       {Prefix: netip.MustParsePrefix("fd00::80/128")},
		"[fd00::/8]:80-90/sctp":          {Prefix: netip.MustParsePrefix("fd00::/8"), Port: 80, Count: 11, Protocol: SCTP},
		"[fd00::1]:80":                   {Prefix: netip.MustParsePrefix("fd00::1/128"), Port: 80, Count: 1, Protocol: TCP},
		"0.0.0.0/0":                      {Prefix: netip.MustParsePrefix("0.0.0.0/0")},
		"db":                             {Pod: "db"},
		"db:5432":                        {Pod: "db", Port: 5432, Count: 1, Protocol: TCP},
		"pod:any":                        {Pod: "any"},
		"pod:host:1-65535":               {Pod: "host", Port: 1, Count: 65535, Protocol: TCP},
		"label:app=web":                  {Label: "app=web"},
		"label:app=":                     {Label: "app="},
		"label:example.com/app=a_b.c:80": {Label: "example.com/app=a_b.c", Port: 80, Count: 1, Protocol: TCP},
		"host":                           {Host: true},
		"host:53/udp":                    {Host: true, Port: 53, Count: 1, Protocol: UDP},
		"any":                            {},
		"any:443":                        {Port: 443, Count: 1, Protocol: TCP},
	} {
		got, err := ParsePeer(s)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", s, got, err, want)
		}
		if again, err := ParsePeer(got.String()); err != nil || again != got {
			t.Errorf("%q: written as %q, read as %+v, %v", s, got, again, err)
		}
	}
	for _, s := range []string{
		"", ":", ":80", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8:", "10.0.0.0/8:0", "10.0.0.0/8:65536", "10.0.0.0/8:80/icmp",
		"10.0.0.0/8:90-80", "10.0.0.0/8/udp", "0.0.0.0", "::", "fd00::/8:80", "[fd00::/8]", "[fd00::/8]80", "[fd00::/8", "[10.0.0.0/8]:80",
		"::ffff:10.0.0.1", "fe80::1%eth0", "Db", "db.example", "-db", "pod:", "pod:Db", "pod:db:", "label:", "label:app", "label:=web", "label:a b=c",
		"label:app=web web", "label:app=web:http", "host:", "hosts/80", "any/80", strings.Repeat("a", 64), "label:a=" + strings.Repeat("b", 64), strings.Repeat("x", 1000),
	} {
		if got, err := ParsePeer(s); !errors.Is(err, ErrInvalid) || len(err.Error()) > 700 {
			t.Errorf("%q: %+v, %v, want invalid", s, got, err)
		}
	}
}

func TestParsePeers(t *testing.T) {
	for _, tt := range []struct {
		words string
		want  string
	}{
		{"", "null"},
		{"none", "[]"},
		{"any", "null"},
		{"10.0.0.0/8 any", "null"},
		{"any:80", `["any:80/tcp"]`},
		{"web web 10.0.0.0/8", `["pod:web","10.0.0.0/8"]`},
	} {
		peers, err := ParsePeers(strings.Fields(tt.words))
		b, _ := json.Marshal(peers)
		if err != nil || string(b) != tt.want {
			t.Errorf("%q: %s, %v, want %s", tt.words, b, err, tt.want)
		}
		// What is nobody does not become everybody on its way through a record.
		p := Policy{From: peers}
		b, err = json.Marshal(p)
		var q Policy
		if err != nil || json.Unmarshal(b, &q) != nil || (q.From == nil) != (p.From == nil) || len(q.From) != len(p.From) {
			t.Errorf("%q: %s is read as %+v", tt.words, b, q)
		}
	}
	if peers, err := ParsePeers([]string{"none", "web"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("none and another: %v, %v", peers, err)
	}
}

func TestPolicyValidate(t *testing.T) {
	many := func(n int, form string) (peers []Peer) {
		for i := range n {
			peers = append(peers, mustParsePeers(fmt.Sprintf(form, i+1))...)
		}
		return peers
	}
	for _, p := range []Policy{{}, {From: []Peer{}}, {To: many(16, "10.0.%d.0/24")}, {From: many(8, "pod:p%d")}, {To: many(4, "host:%d")}, {Isolate: "example.com/team"}} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, p := range []Policy{
		{To: many(17, "10.0.%d.0/24")},
		{From: many(9, "label:a=%d")},
		{To: many(5, "host:%d")},
		{Isolate: "a b"},
		{Isolate: "a=b"},
		{From: []Peer{{Pod: "a", Host: true}}},
		{From: []Peer{{Protocol: UDP}}},
		{From: []Peer{{Count: 3}}},
		{From: []Peer{{Port: 65535, Count: 2}}},
		{From: []Peer{{Port: 1, Protocol: "icmp"}}},
		{To: []Peer{{Prefix: netip.MustParsePrefix("10.0.0.1/8")}}},
		{To: []Peer{{Prefix: netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 99)}}},
		{To: []Peer{{Label: "app"}}},
	} {
		if err := p.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v, want invalid", p, err)
		}
	}
}

func FuzzParsePeer(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8:80", "[fd00::/8]:1-2/udp", "label:a/b=c:80", "pod:x", "host:53/udp", "any", "web:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePeer(s)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if err := p.Validate(); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if again, err := ParsePeer(p.String()); err != nil || again != p {
			t.Errorf("%q: written as %q, read as %+v, %v", s, p, again, err)
		}
	})
}
