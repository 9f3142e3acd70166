package netns

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// A Hindrance is what keeps packets from pods, or from their published ports, whatever
// our rules say: in nftables to be accepted by one table is not to be accepted by all.
type Hindrance struct {
	What string // such as: table ip filter, chain FORWARD, drops what is forwarded
	Cure string // commands, with "; " between
}

// Hindrances returns what can be seen to stand in the way of pods on this host: whatever
// is refused unless a rule accepts it, where no rule accepts what comes from or goes to the
// links of pods. It does not see that single rules refuse it, nor what addresses accept it.
func Hindrances() ([]Hindrance, error) {
	c := new(nftables.Conn)
	chains, err := c.ListChains()
	if err != nil {
		return nil, Rules{}.wrap("look at", err)
	}
	var found []Hindrance
	for _, chain := range chains {
		if !filtersForwarded(chain) || isOurs(chain.Table.Name) && chain.Table.Family == nftables.TableFamilyINet {
			continue
		}
		f := &firewall{base: chain, rules: make(map[string][]*nftables.Rule)}
		for _, other := range chains {
			if other.Table.Name != chain.Table.Name || other.Table.Family != chain.Table.Family {
				continue
			}
			rules, err := c.GetRules(chain.Table, other)
			if err != nil {
				return nil, Rules{Table: chain.Table.Name}.wrap("look at", err)
			}
			f.rules[other.Name] = rules
		}
		if f.refuses() && !f.letsThrough() {
			found = append(found, f.hindrance())
		}
	}
	// The old iptables are not nftables, and nobody but them can be asked.
	for _, version := range []string{"ip", "ip6"} {
		b, err := os.ReadFile("/proc/thread-self/net/" + version + "_tables_names")
		if err == nil && strings.Contains(string(b), "filter") {
			tables := version + "tables-legacy"
			found = append(found, Hindrance{
				tables + " has rules, which may drop what is forwarded: " + tables + " -S FORWARD tells", insert(tables, "FORWARD"),
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

// familyNames are those of the families by which pods' packets are forwarded, as nft(8)
// has them.
var familyNames = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
}

func filtersForwarded(c *nftables.Chain) bool {
	return familyNames[c.Table.Family] != "" && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && c.Type == nftables.ChainTypeFilter
}

// A firewall is a table of somebody else with a chain that forwarded packets go through.
type firewall struct {
	base  *nftables.Chain
	rules map[string][]*nftables.Rule // by chain
}

// refuses reports whether what no rule accepts is dropped or rejected: by the chain's
// policy, or by its last rule.
func (f *firewall) refuses() bool {
	if f.base.Policy != nil && *f.base.Policy == nftables.ChainPolicyDrop {
		return true
	}
	rules := f.rules[f.base.Name]
	if len(rules) == 0 {
		return false
	}
	refuses := false
	for _, e := range rules[len(rules)-1].Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Reject:
			refuses = true
		case *expr.Target:
			refuses = e.Name == "REJECT"
		case *expr.Verdict:
			refuses = e.Kind == expr.VerdictDrop
		default:
			return false // a condition
		}
	}
	return refuses
}

// letsThrough reports whether there are rules that accept, or have a chain of its own for,
// what comes from pods' links, and what goes to them or has been translated as for
// published ports.
func (f *firewall) letsThrough() bool {
	var in, out bool
	seen := map[string]bool{f.base.Name: true}
	for queue := []string{f.base.Name}; len(queue) > 0; queue = queue[1:] {
		for _, r := range f.rules[queue[0]] {
			c, v := condition(r.Exprs)
			if v == nil {
				continue
			}
			onward := v.Kind == expr.VerdictJump || v.Kind == expr.VerdictGoto
			if onward || v.Kind == expr.VerdictAccept {
				in = in || c == fromPods
				out = out || c == toPods || c == toPublished && !onward
			}
			if onward && c == always && !seen[v.Chain] {
				seen[v.Chain] = true
				queue = append(queue, v.Chain)
			}
		}
	}
	return in && out
}

// A subject is what packets a rule is about.
type subject int

const (
	something subject = iota
	always
	fromPods
	toPods
	toPublished
)

// condition reads a rule of one condition at most.
func condition(exprs []expr.Any) (about subject, v *expr.Verdict) {
	about = always
	var rest []expr.Any
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Verdict:
			v = e
		default:
			rest = append(rest, e)
		}
	}
	if len(rest) == 0 {
		return always, v
	}
	about = something
	last, is := rest[len(rest)-1].(*expr.Cmp)
	if !is {
		return about, v
	}
	switch first := rest[0].(type) {
	case *expr.Meta:
		if len(rest) != 2 || last.Op != expr.CmpOpEq || string(last.Data) != linkPrefix {
			break
		}
		switch first.Key {
		case expr.MetaKeyIIFNAME:
			about = fromPods
		case expr.MetaKeyOIFNAME:
			about = toPods
		}
	case *expr.Ct:
		// ct status dnat
		mask, is := rest[1].(*expr.Bitwise)
		if len(rest) == 3 && first.Key == expr.CtKeySTATUS && is && last.Op == expr.CmpOpNeq && len(mask.Mask) == 4 && binaryutil.NativeEndian.Uint32(mask.Mask) == statusDstNAT {
			about = toPublished
		}
	}
	return about, v
}

// hindrance tells of the firewall, and of what lets pods through for good with the program
// whose it is.
func (f *firewall) hindrance() Hindrance {
	family, table := familyNames[f.base.Table.Family], f.base.Table.Name
	h := Hindrance{What: fmt.Sprintf("table %s %s, chain %s: refuses by default what is forwarded", family, table, f.base.Name)}
	has := func(chain string) bool { _, has := f.rules[chain]; return has }
	switch {
	case family == "inet" && table == "firewalld":
		h.What = "firewalld refuses what is forwarded from links of no zone"
		h.Cure = "firewall-cmd --permanent --zone=trusted --add-interface=" + linkPrefix + "+; firewall-cmd --reload"
	case has("ufw-user-forward") || has("ufw6-user-forward"):
		h.What = "ufw refuses what is forwarded (" + family + ")"
		h.Cure = "ufw route allow in on " + linkPrefix + "+; ufw route allow out on " + linkPrefix + "+"
	case family == "inet" || f.base.Name != "FORWARD" || table != "filter":
		h.Cure = fmt.Sprintf(`nft insert rule %[1]s %[2]s %[3]s iifname "%[4]s*" accept; nft insert rule %[1]s %[2]s %[3]s oifname "%[4]s*" accept; and in the file that they come from`,
			family, table, f.base.Name, linkPrefix)
	case has("DOCKER-USER"):
		h.What += ", as Docker has it"
		h.Cure = insert(family+"tables", "DOCKER-USER")
	default:
		h.Cure = insert(family+"tables", "FORWARD")
	}
	return h
}

// insert is how iptables let pods through.
func insert(iptables, chain string) string {
	return fmt.Sprintf("%[1]s -I %[2]s -i %[3]s+ -j ACCEPT; %[1]s -I %[2]s -o %[3]s+ -j ACCEPT", iptables, chain, linkPrefix)
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
	if slices.ContainsFunc(tables, func(t *nftables.Table) bool { return isOurs(t.Name) }) {
		return link
	}
	return ""
}
