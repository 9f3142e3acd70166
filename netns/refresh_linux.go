package netns

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
)

// errOther says that the table is not one to be refreshed.
var errOther = errors.New("made otherwise")

// refresh begins a transaction that leaves in a table what is as it shall be: chains stay
// where they are hooked in, their rules are written anew, and of elements only the
// difference is deleted and, later, added. Where chains are deleted and made in one
// transaction there is a moment at which a packet has passed the new one as it is before
// the transaction, empty, and comes to the old one as it is after it, empty too: then a
// connection to a published port is refused.
//
// A table that others have changed, or another version of podbox has made, is errOther or
// an error of the kernel's; then it is made anew.
func (r Rules) refresh(c *nftables.Conn, t *nftables.Table, b *batch) error {
	q := new(nftables.Conn)
	sets, err := q.GetSets(t)
	if err != nil {
		return err
	}
	if len(sets) != len(b.sets) {
		return fmt.Errorf("%w: %d sets", errOther, len(sets))
	}
	for _, s := range sets {
		if want := b.sets[s.Name]; want == nil || s.Dynamic != want.Dynamic {
			return fmt.Errorf("%w: set %s", errOther, s.Name)
		}
	}
	chains, err := q.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return err
	}
	for _, chain := range chains {
		if chain.Table.Name != t.Name {
			continue
		}
		if chain.Policy != nil && *chain.Policy != nftables.ChainPolicyAccept {
			return fmt.Errorf("%w: chain %s drops by default", errOther, chain.Name)
		}
		chain.Table = t
		c.FlushChain(chain)
	}
	for name, s := range b.sets {
		if s.Dynamic {
			continue // what is in it is the kernel's
		}
		has, err := elementsOf(q, s)
		if err != nil {
			return err
		}
		surplus := b.difference(name, has)
		for len(surplus) > 0 {
			n := min(len(surplus), chunk)
			if err := c.SetDeleteElements(s, surplus[:n]); err != nil {
				return err
			}
			surplus = surplus[n:]
		}
	}
	return nil
}

// difference takes from the elements of a set those that it has, and returns those that
// it has beyond them.
func (b *batch) difference(set string, has []nftables.SetElement) (surplus []nftables.SetElement) {
	type element struct{ key, end, value string }
	of := func(e nftables.SetElement) element { return element{string(e.Key), string(e.KeyEnd), string(e.Val)} }
	wanted := make(map[element]bool)
	for _, e := range b.elements[set] {
		wanted[of(e)] = true
	}
	there := make(map[element]bool)
	for _, e := range has {
		if there[of(e)] = true; !wanted[of(e)] {
			surplus = append(surplus, e)
		}
	}
	var missing []nftables.SetElement
	for _, e := range b.elements[set] {
		if !there[of(e)] {
			missing = append(missing, e)
		}
	}
	b.elements[set] = missing
	return surplus
}
