package netns

import (
	"testing"

	"github.com/google/nftables"
)

// A table that is about to go, or is another version's, has none of the sets that are
// looked for in it. Then nobody has anything there.
func TestOthersWithoutSets(t *testing.T) {
	inLab(t, func(l *lab) error {
		other := Rules{Table: DefaultTable + "-other"}
		err := other.commit("make", false, func(c *nftables.Conn, t *nftables.Table) error {
			c.AddTable(t)
			return nil
		})
		if err != nil {
			return err
		}
		if err := l.rules.Elsewhere([]Port{mustParsePort("8080:80")}); err != nil {
			t.Error(err)
		}
		if up, err := FindUplinks(Uplinks{}); err != nil || len(up.V4) == 0 {
			t.Errorf("uplinks %v, %v", up, err)
		}
		gone := newBatch(Rules{Table: DefaultTable + "-gone"}.table()).sets["any4"]
		if elems, err := elementsOf(new(nftables.Conn), gone); err != nil || len(elems) > 0 {
			t.Errorf("of a table that is not there: %v, %v", elems, err)
		}
		return nil
	})
}
