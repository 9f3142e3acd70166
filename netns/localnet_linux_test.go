package netns

import (
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/podbox/podbox/internal/testenv"
)

// Of many links those are changed that 127.0.0.1 does not reach yet, and no others.
func TestReachLoopbackBy(t *testing.T) {
	testenv.NeedRoot(t)
	ns, err := Create()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
		names := []string{"one", "two", "three", "other"}
		for _, name := range names {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = name
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "-peer"}); err != nil {
				return err
			}
		}
		if err := ReachLoopback("two", true); err != nil {
			return err
		}
		reached, err := reachedByLoopback()
		if err != nil || len(reached) != 1 || !reached["two"] {
			t.Errorf("reached: %v, %v", reached, err)
		}
		for range 2 {
			if err := ReachLoopbackBy([]string{"one", "two", "three", "gone"}); err != nil {
				return err
			}
			for i, name := range names {
				b, err := os.ReadFile(conf4 + name + "/route_localnet")
				if err != nil {
					return err
				}
				if is := strings.TrimSpace(string(b)) == "1"; is != (i < 3) {
					t.Errorf("route_localnet of %s: %s", name, b)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
