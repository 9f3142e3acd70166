package netns

import (
	"errors"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// elementsOf returns what is in a set, and nothing if there is no such set: others may
// remove theirs at any moment, and of another version of podbox have others.
func elementsOf(c *nftables.Conn, s *nftables.Set) ([]nftables.SetElement, error) {
	elems, err := c.GetSetElements(s)
	if err == nil {
		return elems, nil
	}
	// The library hides what the kernel has said to that, but not what it says to this.
	if _, gone := c.GetSetByName(s.Table, s.Name); errors.Is(gone, unix.ENOENT) {
		return nil, nil
	}
	return nil, err
}
