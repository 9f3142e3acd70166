package netns

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Uplinks are links of the host, by IP version, that forward for the sake of pods
// only. What answers a pod, or is sent to a port that it publishes, comes in by such a
// link, and the kernel forwards what comes in by a link only if that is told to. The
// host shall not thereby become a router for others: Rules guard these links.
type Uplinks struct {
	V4 []string `json:"v4,omitempty"`
	V6 []string `json:"v6,omitempty"`
	// Router6 says that pods are why the host forwards IPv6 by all its links, not its
	// owner: before Linux 6.17 there is no switch for a link.
	Router6 bool `json:"router6,omitempty"`
}

// IsZero reports whether there is nothing to be kept of u.
func (u Uplinks) IsZero() bool { return len(u.V4)+len(u.V6) == 0 && !u.Router6 }

const conf4 = "/proc/sys/net/ipv4/conf/"

// FindUplinks returns the links that would have to be told to forward, and those
// that known or another installation's rules have as such already. Of a host that is
// a router by its owner's will there are none.
func FindUplinks(known Uplinks) (Uplinks, error) {
	others, err := guardedByOthers("")
	if err != nil {
		return Uplinks{}, err
	}
	u := Uplinks{Router6: !switches6(conf6) && (known.Router6 || len(others.V6) > 0 || !on(conf6+"all/forwarding"))}
	u.V4, err = findUplinks(conf4, "forwarding", append(known.V4, others.V4...), false)
	if err != nil {
		return Uplinks{}, err
	}
	u.V6, err = findUplinks(conf6, "force_forwarding", append(known.V6, others.V6...), u.Router6)
	return u, err
}

// switches6 reports whether links have a switch of their own for IPv6, or none needs one.
func switches6(conf string) bool {
	_, err := os.Stat(conf + "default/force_forwarding")
	return err == nil || !IPv6()
}

// findUplinks looks below a directory of sysctls for links whose switch is off, or
// that are known. If the host is a router there are none, unless it is one for pods only.
func findUplinks(conf, name string, known []string, forPods bool) ([]string, error) {
	if on(conf+"all/forwarding") && !forPods {
		return nil, nil
	}
	links, err := os.ReadDir(conf)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) { // no IPv6
			err = nil
		}
		return nil, err
	}
	var found []string
	for _, l := range links {
		link := l.Name()
		switch {
		case link == "all" || link == "default" || link == "lo" || isPods(link):
		case !on(conf+link+"/"+name) || slices.Contains(known, link):
			found = append(found, link)
		}
	}
	return found, nil
}

// on reports whether a switch is on. One that there is not is off.
func on(sysctl string) bool {
	b, err := os.ReadFile(sysctl)
	return err == nil && string(bytes.TrimSpace(b)) != "0"
}

// Forward tells the links to forward. The rules that guard them are there already.
// Before Linux 6.17 IPv6 has no switch for a link; then Connect turns that of the
// host on.
func (u Uplinks) Forward() error { return u.set("1") }

// Stop tells the links not to forward any more, except those that another
// installation's rules guard, and all if the host has become a router meanwhile.
// table is that of the installation that ends.
func (u Uplinks) Stop(table string) error {
	others, err := guardedByOthers(table)
	if err != nil {
		return err
	}
	mine := func(conf string, all, theirs []string) []string {
		if on(conf + "all/forwarding") {
			return nil
		}
		return slices.DeleteFunc(slices.Clone(all), func(l string) bool { return slices.Contains(theirs, l) })
	}
	return Uplinks{V4: mine(conf4, u.V4, others.V4), V6: mine(conf6, u.V6, others.V6)}.set("0")
}

// Left returns what is still to be known when the links have been told to stop: of whom
// it is that the host forwards IPv6, which it goes on to do.
func (u Uplinks) Left() Uplinks {
	return Uplinks{Router6: u.Router6 && on(conf6+"all/forwarding")}
}

func (u Uplinks) set(value string) error {
	var errs []error
	set := func(path string) {
		if err := setSysctl(path, value); !errors.Is(err, fs.ErrNotExist) { // the link is gone
			errs = append(errs, err)
		}
	}
	for _, l := range u.V4 {
		set(conf4 + l + "/forwarding")
	}
	for _, l := range u.V6 {
		set(conf6 + l + "/force_forwarding")
	}
	return errors.Join(errs...)
}

// guardedByOthers returns the links that tables of installations other than that of
// the given table guard.
func guardedByOthers(table string) (Uplinks, error) {
	c := new(nftables.Conn)
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return Uplinks{}, Rules{Table: table}.wrap("look beside", err)
	}
	var u Uplinks
	for _, t := range tables {
		if t.Name == table || !isOurs(t.Name) {
			continue
		}
		sets := newBatch(t).sets
		for family, links := range map[string]*[]string{"4": &u.V4, "6": &u.V6} {
			elems, err := elementsOf(c, sets["uplinks"+family])
			if err != nil {
				return Uplinks{}, Rules{Table: t.Name}.wrap("read", err)
			}
			for _, e := range elems {
				*links = append(*links, unix.ByteSliceToString(e.Key))
			}
		}
	}
	return u, nil
}
