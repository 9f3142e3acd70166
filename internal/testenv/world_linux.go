package testenv

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// A World is all that podbox could leave behind, a line for each thing.
type World []string

// Look looks at the world: pause processes and mounts of pods, links, addresses,
// routes and neighbours of this network namespace, cgroups, files below root, and
// descriptors and threads of this process.
func Look(t testing.TB, root string) World {
	t.Helper()
	var w World
	add := func(kind, format string, args ...any) { w = append(w, kind+" "+fmt.Sprintf(format, args...)) }

	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, path := range procs {
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), root) && !strings.Contains(string(b), "-test.") {
			add("process", "%s %q", path, b)
		}
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		_, rest, _ := strings.Cut(line, " - ")
		add("mount", "%s %s", strings.Fields(line)[4], strings.TrimSpace(rest))
	}
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		add("link", "%s %s", l.Attrs().Name, l.Type())
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		addrs, err := netlink.AddrList(nil, family)
		must(t, err)
		for _, a := range addrs {
			add("address", "%s", a.IPNet)
		}
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		must(t, err)
		for _, r := range routes {
			add("route", "%s", r)
		}
		neighs, err := netlink.NeighList(0, family)
		must(t, err)
		for _, n := range neighs {
			if n.State&netlink.NUD_NOARP != 0 { // the kernel's own, as of a loopback link
				continue
			}
			add("neighbour", "%s %s", n.IP, n.HardwareAddr)
		}
	}
	// Those of other tests, which go on at the same time, are not ours.
	sum := sha256.Sum256([]byte(root))
	ours := fmt.Sprintf("podbox-%x", sum[:4])
	lookRules(t, ours, add)
	group := "/" + ours
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, group) {
			add("cgroup", "%s", path)
		}
		return nil
	})
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		// The directories of a runtime and the cursors of its ranges stay, and before Linux 6.17 that it was
		// for pods that the host forwards IPv6.
		if err == nil && strings.Count(strings.TrimPrefix(path, root), "/") > 1 && !strings.HasPrefix(d.Name(), "next-") && !forwarded(path) {
			add("file", "%s", path)
		}
		return nil
	})
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	cgroups := false
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			if to == "/sys/fs/cgroup" && !cgroups {
				cgroups = true // where it is cgroup v2, the library for that keeps it open from its first use on
				continue
			}
			add("descriptor", "%s", to)
		}
	}
	sort.Strings(w)
	return w
}

// forwarded reports whether a file says what netns.Uplinks.Left has to say.
func forwarded(path string) bool {
	if filepath.Base(path) != "uplinks" {
		return false
	}
	b, err := os.ReadFile(path)
	return err == nil && string(b) == `{"router6":true}`
}

// lookRules looks at a table of nftables, and at the elements of its sets.
func lookRules(t testing.TB, table string, add func(kind, format string, args ...any)) {
	t.Helper()
	c := new(nftables.Conn)
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	must(t, err)
	for _, tbl := range tables {
		if tbl.Name != table {
			continue
		}
		add("nftables", "table %s", table)
		sets, err := c.GetSets(tbl)
		must(t, err)
		for _, s := range sets {
			elems, err := c.GetSetElements(s)
			must(t, err)
			for _, e := range elems {
				add("nftables", "%s: %x-%x: %x", s.Name, e.Key, e.KeyEnd, e.Val)
			}
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Same fails the test unless the world is, or within a few seconds becomes, as it
// was before: the kernel frees namespaces in its own time.
func (before World) Same(t testing.TB, root, when string) {
	t.Helper()
	var diff string
	for end := time.Now().Add(Patience(3 * time.Second)); ; time.Sleep(30 * time.Millisecond) {
		if diff = before.diff(Look(t, root)); diff == "" {
			return
		}
		if time.Now().After(end) {
			break
		}
	}
	t.Errorf("%s, the world has changed:\n%s", when, diff)
}

func (before World) diff(after World) string {
	count := map[string]int{}
	for _, s := range after {
		count[s]++
	}
	for _, s := range before {
		count[s]--
	}
	var lines []string
	for s, n := range count {
		switch {
		case n > 0:
			lines = append(lines, "+ "+s)
		case n < 0:
			lines = append(lines, "- "+s)
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// Threads returns the number of threads of this process.
func Threads(t testing.TB) int {
	tasks, err := os.ReadDir("/proc/self/task")
	must(t, err)
	return len(tasks)
}
