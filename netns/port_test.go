package netns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParsePort(t *testing.T) {
	ip := netip.MustParseAddr
	for s, want := range map[string]Port{
		"80:8080":                       {netip.Addr{}, 80, 8080, 1, TCP},
		"53:53/udp":                     {netip.Addr{}, 53, 53, 1, UDP},
		"65535:1/sctp":                  {netip.Addr{}, 65535, 1, 1, SCTP},
		"127.0.0.1:80:81/tcp":           {ip("127.0.0.1"), 80, 81, 1, TCP},
		"0.0.0.0:80:81":                 {ip("0.0.0.0"), 80, 81, 1, TCP},
		"[::]:80:81":                    {ip("::"), 80, 81, 1, TCP},
		"[::1]:80:81":                   {ip("::1"), 80, 81, 1, TCP},
		"[2001:db8::1]:8000-8009:80-89": {ip("2001:db8::1"), 8000, 80, 10, TCP},
		"1-65535:1-65535/udp":           {netip.Addr{}, 1, 1, 65535, UDP},
		"80":                            {netip.Addr{}, 0, 80, 1, TCP},
		":80":                           {netip.Addr{}, 0, 80, 1, TCP},
		"0:80/udp":                      {netip.Addr{}, 0, 80, 1, UDP},
		"80-89/sctp":                    {netip.Addr{}, 0, 80, 10, SCTP},
		"127.0.0.1::80":                 {ip("127.0.0.1"), 0, 80, 1, TCP},
		"[::]:0:80":                     {ip("::"), 0, 80, 1, TCP},
	} {
		got, err := ParsePort(s)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", s, got, err, want)
		}
		if again, err := ParsePort(got.String()); err != nil || again != got {
			t.Errorf("%s: written as %s, which is %+v, %v", s, got, again, err)
		}
	}
	for _, s := range []string{
		"", ":", "::", "::80", "/tcp", "0", "0:0", "80:", "80:0", "127.0.0.1:80", "127.0.0.1::", "0-1:80-81", "00:80", "65536:80", "80:65536", "-1:80", "+80:80", "080:80", "a:b", "80:80/", "80:80/TCP", "80:80/icmp",
		"80:80:80", "localhost:80:80", "::1:80:80", "[127.0.0.1]:80:80", "[fd00::1:80:80", "fd00::1]:80:80", "[fe80::1%eth0]:80:80", "[fe80::1]:80:80",
		"[::1]:80:80/sctp", "[ff02::1]:80:80", "224.0.0.1:80:80", "255.255.255.255:80:80",
		"80-81:80", "80:80-81", "81-80:81-80", "80-:80-", "-80:-80", "80-82:80-81", "1-65535:2-65535", "80 :80", "80:80 ", "80:80/udp/tcp",
	} {
		if p, err := ParsePort(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %+v, %v", s, p, err)
		}
	}
}

func FuzzParsePort(f *testing.F) {
	for _, s := range []string{"80:80", "127.0.0.1:1-2:3-4/udp", "[::]:80:80/sctp", "::::", "[", "80:80/", "80", "0.0.0.0::80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePort(s)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if again, err := ParsePort(p.String()); err != nil || again != p || p.Validate() != nil {
			t.Errorf("%q: %+v, written as %s, which is %+v, %v", s, p, p, again, err)
		}
		if p.Overlaps(p) != (p.HostPort != 0) {
			t.Errorf("%q does not overlap itself", s)
		}
	})
}

func TestOverlaps(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"80:1", "80:2", true},
		{"80:1", "81:1", false},
		{"80:1", "80:1/udp", false},
		{"80-90:80-90", "90:1", true},
		{"80-90:80-90", "91:1", false},
		{"80:1", "127.0.0.1:80:1", true},
		{"0.0.0.0:80:1", "127.0.0.1:80:1", true},
		{"[::]:80:1", "127.0.0.1:80:1", false},
		{"[::]:80:1", "80:1", true},
		{"127.0.0.1:80:1", "127.0.0.2:80:1", false},
		{"65535:1", "60000-65535:1-5536", true},
		{"80", "80", false},
		{"80", "1-65535:1-65535", false},
	} {
		a, b := mustParsePort(tt.a), mustParsePort(tt.b)
		if a.Overlaps(b) != tt.want || b.Overlaps(a) != tt.want {
			t.Errorf("%s and %s: want %v", a, b, tt.want)
		}
	}
}

func TestValidatePorts(t *testing.T) {
	many := make([]Port, maxPorts+1)
	for i := range many {
		many[i] = Port{HostPort: uint16(i + 1), Port: 1}
	}
	if err := ValidatePorts(many[1:]); err != nil {
		t.Error(err)
	}
	for _, ps := range [][]Port{
		many,
		{{HostPort: 80, Port: 80}, {HostPort: 70, Port: 70, Count: 20}},
		{{HostPort: 80}},
		{{HostPort: 65535, Port: 1, Count: 2}},
		{{HostPort: 1, Port: 65535, Count: 2}},
		{{HostPort: 1, Port: 1, Protocol: "icmp"}},
	} {
		if err := ValidatePorts(ps); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v", ps, err)
		}
	}
}

// Of claims that overlap one wins; what was given back is free.
func TestClaims(t *testing.T) {
	ctx := context.Background()
	c := &Claims{Dir: filepath.Join(t.TempDir(), "ports")}
	claim := func(owner string, ports ...string) error {
		var ps []Port
		for _, s := range ports {
			ps = append(ps, mustParsePort(s))
		}
		return c.Claim(ctx, owner, ps)
	}
	for _, tt := range []struct {
		owner, port, holder string
	}{
		{"a", "80:80", ""},
		{"a", "80:80", ""}, // again
		{"b", "80:80", "a"},
		{"b", "127.0.0.1:80:80", "a"},
		{"b", "70-90:70-90", "a"},
		{"b", "80:80/udp", ""},
		{"b", "127.0.0.1:90:90", ""},
		{"a", "127.0.0.2:90:90", ""},
		{"c", "0.0.0.0:90:90", "b"},
		{"c", "[::]:90:90", ""},
		{"d", "90:90", "b"},
		{"b", "90:90", "a"}, // its own comes first
	} {
		err := claim(tt.owner, tt.port)
		var ce *ClaimedError
		if tt.holder == "" && err != nil || tt.holder != "" && (!errors.As(err, &ce) || !errors.Is(err, ErrInUse)) {
			t.Errorf("%s claims %s: %v, want it to be %q's", tt.owner, tt.port, err, tt.holder)
		}
	}
	// All or nothing.
	if err := claim("e", "1000:1", "80:1"); !errors.Is(err, ErrInUse) || c.Has("e", mustParsePort("1000:1")) {
		t.Errorf("%v, and 1000 is claimed: %v", err, c.Has("e", mustParsePort("1000:1")))
	}
	if err := c.Release(ctx, "b", []Port{mustParsePort("80:80")}); err != nil || !c.Has("a", mustParsePort("80:80")) {
		t.Errorf("b gives back what a has: %v", err)
	}
	if err := c.Release(ctx, "a", []Port{mustParsePort("80:80")}); err != nil || claim("b", "80:80") != nil {
		t.Errorf("given back: %v", err)
	}
	freed, err := c.Sweep(ctx, func(owner string) bool { return owner != "c" })
	if err != nil || len(freed) != 4 {
		t.Errorf("swept %q, %v", freed, err)
	}
	left, err := os.ReadDir(c.Dir)
	if err != nil || len(left) != 1 || left[0].Name() != "tcp-90" {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestClaimsRace(t *testing.T) {
	c := &Claims{Dir: t.TempDir()}
	forms := []string{"8080:80", "127.0.0.1:8080:80", "0.0.0.0:8080:80", "8000-8090:8000-8090"}
	won := make(chan string)
	const n = 40
	for i := range n {
		go func() {
			owner := fmt.Sprint("pod", i)
			if err := c.Claim(context.Background(), owner, []Port{mustParsePort(forms[i%len(forms)])}); err != nil {
				if !errors.Is(err, ErrInUse) {
					t.Error(err)
				}
				owner = ""
			}
			won <- owner
		}()
	}
	var winners []string
	for range n {
		if w := <-won; w != "" {
			winners = append(winners, w)
		}
	}
	if len(winners) != 1 {
		t.Errorf("won: %s", strings.Join(winners, ", "))
	}
}
