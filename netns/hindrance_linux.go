package netns

import (
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
)

// A Hindrance is what keeps packets from pods, or from their published ports, whatever
// our rules say: in nftables to be accepted by one table is not to be accepted by all.
type Hindrance struct {
	What string // such as: table ip filter, chain FORWARD: drops by default
	Cure string
}

const letThrough = "let the pods' links through: iptables -I FORWARD -i pbx+ -j ACCEPT; iptables -I FORWARD -o pbx+ -j ACCEPT; " +
	"the same for ip6tables; with Docker in DOCKER-USER instead of FORWARD"

// Hindrances returns what can be seen to stand in the way of pods on this host. It does
// not see what single rules do.
func Hindrances() ([]Hindrance, error) {
	c := new(nftables.Conn)
	chains, err := c.ListChains()
	if err != nil {
		return nil, Rules{}.wrap("look at", err)
	}
	families := map[nftables.TableFamily]string{
		nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
	}
	var found []Hindrance
	firewalld := false
	for _, chain := range chains {
		family, is := families[chain.Table.Family]
		firewalld = firewalld || is && chain.Table.Name == "firewalld"
		if !is || chain.Hooknum == nil || *chain.Hooknum != *nftables.ChainHookForward || chain.Policy == nil || *chain.Policy != nftables.ChainPolicyDrop {
			continue
		}
		found = append(found, Hindrance{
			fmt.Sprintf("table %s %s, chain %s: drops by default what is forwarded", family, chain.Table.Name, chain.Name), letThrough,
		})
	}
	if firewalld {
		found = append(found, Hindrance{
			"firewalld refuses what is forwarded from links of no zone",
			"firewall-cmd --permanent --zone=trusted --add-interface=pbx+; firewall-cmd --reload; podbox network reload",
		})
	}
	// The old iptables are not nftables, and nobody but them can be asked.
	for _, version := range []string{"ip", "ip6"} {
		b, err := os.ReadFile("/proc/thread-self/net/" + version + "_tables_names")
		if err == nil && strings.Contains(string(b), "filter") {
			found = append(found, Hindrance{
				version + "tables-legacy has rules, which may drop what is forwarded: " + version + "tables-legacy -S FORWARD tells", letThrough,
			})
		}
	}
	if link := silent(); link != "" {
		found = append(found, Hindrance{
			fmt.Sprintf("link %s, of the default route, is younger than the rules: answers to pods do not come in by it", link), "podbox network reload",
		})
	}
	return found, nil
}

// silent returns the link of the host's default route if there are rules of ours but it
// does not forward.
func silent() string {
	c := new(nftables.Conn)
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	link := defaultLink()
	if err != nil || link == "" || on(conf4+link+"/forwarding") {
		return ""
	}
	for _, t := range tables {
		if isOurs(t.Name) {
			return link
		}
	}
	return ""
}
