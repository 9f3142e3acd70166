package netns

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What is refused is told of, with who refuses it; what lets pods through, in whatever
// table and however far down, makes it good.
func TestHindrances(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v: CI installs nftables", err)
		}
		t.Skip("no nft to play the administrator")
	}
	const (
		drop   = "type filter hook forward priority 0; policy drop; "
		accept = "type filter hook forward priority 0; policy accept; "
		in     = `iifname "pbx*" counter accept; `
		out    = `oifname "pbx*" accept; `
	)
	for name, tt := range map[string]struct {
		table string // in nft's language
		what  string // "": nothing
		cure  string
	}{
		"accepts":           {`table ip filter { chain FORWARD { ` + accept + ` } }`, "", ""},
		"drops what is bad": {`table ip filter { chain FORWARD { ` + accept + `ct state invalid drop; } }`, "", ""},
		"another hook":      {`table ip filter { chain INPUT { type filter hook input priority 0; policy drop; } }`, "", ""},
		"another family":    {`table bridge filter { chain FORWARD { ` + drop + ` } }`, "", ""},
		"iptables":          {`table ip filter { chain FORWARD { ` + drop + ` } }`, "table ip filter, chain FORWARD", "iptables -I FORWARD -i pbx+ "},
		"ip6tables":         {`table ip6 filter { chain FORWARD { ` + drop + ` } }`, "table ip6 filter, chain FORWARD", "ip6tables -I FORWARD -i pbx+ "},
		"last rule":         {`table inet fw { chain f { ` + accept + `ct state established accept; counter reject; } }`, "table inet fw, chain f", "nft insert rule inet fw f iifname"},
		"last rule drops":   {`table inet fw { chain f { ` + accept + `log; drop; } }`, "table inet fw, chain f", "nft insert rule"},
		"half":              {`table inet fw { chain f { ` + drop + in + ` } }`, "table inet fw", "nft insert rule"},
		"the other half":    {`table inet fw { chain f { ` + drop + out + ` } }`, "table inet fw", "nft insert rule"},
		"lets through":      {`table inet fw { chain f { ` + drop + in + out + ` } }`, "", ""},
		"of other links":    {`table inet fw { chain f { ` + drop + `iifname "pbx0" accept; oifname != "pbx*" accept; iifname "pb*" tcp dport 80 accept; } }`, "table inet fw", "nft"},
		"Docker":            {`table ip filter { chain DOCKER-USER { } chain FORWARD { ` + drop + ` jump DOCKER-USER; } }`, "as Docker has it", "iptables -I DOCKER-USER -i pbx+ "},
		"Docker, let through": {
			`table ip filter { chain DOCKER-USER { ` + in + out + `return; } chain FORWARD { ` + drop + ` counter jump DOCKER-USER; } }`, "", "",
		},
		"a chain nobody comes to": {`table ip filter { chain pods { ` + in + out + ` } chain FORWARD { ` + drop + ` } }`, "table ip filter", "iptables"},
		"ufw": {`table ip filter { chain ufw-user-forward { } chain ufw-user-input { ` + in + out + ` }
			chain FORWARD { ` + drop + ` jump ufw-user-forward; } }`, "ufw refuses", "ufw route allow in on pbx+; ufw route allow out on pbx+"},
		"firewalld": {
			`table inet firewalld { chain zones { } chain filter_FORWARD { ` + accept + `ct status dnat accept; jump zones; reject with icmpx admin-prohibited; } }`,
			"firewalld refuses", "firewall-cmd --permanent --zone=trusted --add-interface=pbx+",
		},
		"firewalld, in a zone": {
			`table inet firewalld { chain trusted { accept; } chain zones { iifname "pbx*" goto trusted; }
			chain filter_FORWARD { ` + accept + `ct status dnat accept; jump zones; reject with icmpx admin-prohibited; } }`, "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func() error {
				cmd := exec.Command("nft", "-f", "-")
				cmd.Stdin = strings.NewReader(strings.ReplaceAll(tt.table, "}", "}\n"))
				if out, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				found, err := Hindrances()
				switch {
				case err != nil:
					return err
				case tt.what == "" && len(found) > 0:
					t.Errorf("found %q, want nothing", found)
				case tt.what == "":
				case len(found) != 1 || !strings.Contains(found[0].What, tt.what) || !strings.HasPrefix(found[0].Cure, tt.cure):
					t.Errorf("found %q, want %q, to be cured by %q", found, tt.what, tt.cure)
				}
				return nil
			})
		})
	}
}
