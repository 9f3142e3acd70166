package netns

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/nftables"
)

// contents lists what is in the sets of a table.
func contents(table string) ([]string, error) {
	t := Rules{Table: table}.table()
	var all []string
	for name, s := range newBatch(t).sets {
		if s.Dynamic {
			continue // what has been heard, not what has been said
		}
		elems, err := elementsOf(new(nftables.Conn), s)
		if err != nil {
			return nil, err
		}
		for _, e := range elems {
			all = append(all, fmt.Sprintf("%s %x-%x %x", name, e.Key, e.KeyEnd, e.Val))
		}
	}
	slices.Sort(all)
	return all, nil
}

// mark adds a chain of somebody else's to a table, which goes only with the table.
func mark(r Rules) error {
	return r.commit("mark", false, func(c *nftables.Conn, t *nftables.Table) error {
		c.AddChain(&nftables.Chain{Name: "mark", Table: t})
		return nil
	})
}

func marked(r Rules) (bool, error) {
	chains, err := new(nftables.Conn).ListChainsOfTableFamily(nftables.TableFamilyINet)
	return slices.ContainsFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name == r.Table && c.Name == "mark" }), err
}

// Rules that are made anew are the same whether what was there could stay or not, and
// chains and elements that are as they shall be do stay. What others have made of the
// table does not matter.
func TestRefresh(t *testing.T) {
	inLab(t, func(l *lab) error {
		a := Publication{addrA, []Port{
			mustParsePort("8080:80"), mustParsePort("127.0.0.1:9090:80"), mustParsePort("7000-7009:7000-7009"), mustParsePort("[::]:6000-6002:80-82/udp"),
		}}
		fewer := Publication{addrA, a.Ports[:3]}
		moved := Publication{addrB, a.Ports}
		up := Uplinks{V4: []string{"up0"}, V6: []string{"up0"}}
		same := func(name string, stays bool, change func() error, pubs []Publication, policed []Policed) error {
			if err := mark(l.rules); err != nil {
				return err
			}
			if err := change(); err != nil {
				return err
			}
			if err := l.rules.Replace(pubs, up, policed...); err != nil {
				return err
			}
			if stayed, err := marked(l.rules); err != nil || stayed != stays {
				t.Errorf("%s: that the table stayed is %v, %v, want %v", name, stayed, err, stays)
			}
			got, err := contents(l.rules.Table)
			if err != nil {
				return err
			}
			if err := l.rules.Remove(); err != nil {
				return err
			}
			if err := l.rules.Replace(pubs, up, policed...); err != nil {
				return err
			}
			want, err := contents(l.rules.Table)
			if err != nil {
				return err
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s:\n got %q\nwant %q", name, got, want)
			}
			return nil
		}
		everybody, err := ParsePeers([]string{"0.0.0.0/0:80", "[::/0]:1-65535/udp", "label:team=red:80-90"})
		if err != nil {
			return err
		}
		some := Policed{Address: addrA, Policy: Policy{From: everybody}}
		others := Policed{Address: addrB, Policy: Policy{To: everybody, From: []Peer{}}, Groups: Groups("b", map[string]string{"team": "red"})}
		nothing := func() error { return nil }
		other := func(f func(*nftables.Conn, *nftables.Table, *batch)) func() error {
			return func() error {
				return l.rules.commit("spoil", false, func(c *nftables.Conn, t *nftables.Table) error {
					f(c, t, newBatch(t))
					return nil
				})
			}
		}
		if err := l.replace(a); err != nil {
			return err
		}
		for _, tt := range []struct {
			name   string
			stays  bool
			change func() error
			pubs   []Publication
			police []Policed
		}{
			{"unchanged", true, nothing, []Publication{a}, nil},
			{"fewer", true, nothing, []Publication{fewer}, nil},
			{"more", true, nothing, []Publication{a}, nil},
			{"of another pod", true, nothing, []Publication{moved}, nil},
			{"none", true, nothing, nil, nil},
			{"some, after none", true, nothing, []Publication{a}, nil},
			{"elements missing", true, func() error { return l.rules.Delete(a, true) }, []Publication{a}, nil},
			{"too many elements", true, func() error { return l.rules.Add(Publication{addrB, []Port{mustParsePort("5000-5100:5000-5100")}}) }, []Publication{a}, nil},
			{"rules flushed", true, other(func(c *nftables.Conn, t *nftables.Table, _ *batch) { c.FlushTable(t) }), []Publication{a}, nil},
			{"a chain that drops", false, other(func(c *nftables.Conn, t *nftables.Table, _ *batch) {
				drop := nftables.ChainPolicyDrop
				c.AddChain(&nftables.Chain{Name: "x", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
			}), []Publication{a}, nil},
			{"one more set", false, other(func(c *nftables.Conn, t *nftables.Table, _ *batch) {
				_ = c.AddSet(&nftables.Set{Table: t, Name: "x", ID: 99, KeyType: nftables.TypeIPAddr}, nil)
			}), []Publication{a}, nil},
			{"a set of another kind", false, func() error {
				if err := l.rules.Remove(); err != nil {
					return err
				}
				return other(func(c *nftables.Conn, t *nftables.Table, b *batch) {
					c.AddTable(t)
					for name, s := range b.sets {
						if name == "any4" {
							s = &nftables.Set{Table: t, Name: name, ID: s.ID, KeyType: nftables.TypeIPAddr}
						}
						_ = c.AddSet(s, nil)
					}
				})()
			}, []Publication{a}, nil},
			{"gone", false, l.rules.Remove, []Publication{a}, nil},
			{"the first policy", false, nothing, []Publication{a}, []Policed{some}},
			{"the same policy", true, nothing, []Publication{a}, []Policed{some}},
			{"another policy", true, nothing, []Publication{a}, []Policed{others}},
			{"two policies", true, nothing, []Publication{a}, []Policed{some, others}},
			{"no policy", false, nothing, []Publication{a}, nil},
		} {
			if err := same(tt.name, tt.stays, tt.change, tt.pubs, tt.police); err != nil {
				return fmt.Errorf("%s: %w", tt.name, err)
			}
			// A connection comes through at the end of each.
			if len(tt.pubs) > 0 && tt.pubs[0].Address == addrA {
				c, err := serve(l.pods[0], "A", "tcp", ":80")
				if err != nil {
					return err
				}
				_, _, err = ask(l.outside, "tcp", hostOutside+":8080")
				c.Close()
				if err != nil {
					t.Errorf("%s: %v", tt.name, err)
				}
			}
		}
		return nil
	})
}
