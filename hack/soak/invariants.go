//go:build linux

package main

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/podbox/podbox/netns"
)

// An invariant is something that must hold whenever nobody is at work, and the garbage of
// whatever was killed has been collected.
type invariant struct {
	name   string
	reason string
	broken func(s *soak, w *world) []string // what does not agree
}

// always is what holds at every rest, however it came to it; reloaded besides, once the rules
// have been made anew, or if nothing has happened that makes this necessary: a flush, a kill of
// podbox or of a pause.
var (
	always   = slices.Concat(invariants, cniInvariants)
	reloaded = slices.Concat(afterReload, policyInvariants)
)

var invariants = []invariant{{
	"records", "a record that cannot be read, or that is neither running nor stopped after a collection, is a pod that nobody can use",
	func(_ *soak, w *world) (bad []string) {
		for id, r := range w.records {
			if r.State != "running" && r.State != "stopped" {
				bad = append(bad, fmt.Sprintf("pod %.12s: state %s", id, r.State))
			}
			if _, told := w.pods[id]; !told {
				bad = append(bad, fmt.Sprintf("pod %.12s is recorded, and podbox ls does not tell of it", id))
			}
		}
		return bad
	},
}, {
	"pauses", "a pod that runs has one process that holds it, one that does not has none, and there is none without a pod",
	func(_ *soak, w *world) (bad []string) {
		for id, pids := range w.pauses {
			if _, has := w.records[id]; !has {
				bad = append(bad, fmt.Sprintf("pauses %v of a pod that is gone, %.12s", pids, id))
			}
		}
		for id, p := range w.pods {
			n, want := len(w.pauses[id]), 0
			if p.PausePID != 0 {
				want = 1
			}
			if n != want || p.runs() && n != 1 || p.State == "stopped" && n != 0 {
				bad = append(bad, fmt.Sprintf("pod %q is %s: %d pauses", p.Name, p.State, n))
			}
		}
		return bad
	},
}, {
	"links", "a pod that runs has its link, and none is left of others: links are what a host runs out of, and a stranger's address leads into them",
	func(_ *soak, w *world) (bad []string) {
		left := maps.Clone(w.podLinks)
		for _, p := range w.pods {
			if p.runs() && p.Link != "" && !left[p.Link] {
				bad = append(bad, fmt.Sprintf("pod %q has no link", p.Name))
			}
			if p.State != "stopped" {
				delete(left, p.Link)
			}
		}
		for link := range left {
			bad = append(bad, fmt.Sprintf("link %s is of no pod that runs", link))
		}
		return bad
	},
}, {
	"routes", "the addresses of a pod that runs lead to its link, nothing else to links of pods",
	func(_ *soak, w *world) (bad []string) {
		want, runs := make(map[string]string), make(map[string]bool)
		for _, p := range w.pods {
			if p.Link == "" || !w.podLinks[p.Link] {
				continue
			}
			for _, a := range []string{p.IP, p.IP6} {
				if a != "" {
					want[a], runs[a] = p.Link, p.runs()
				}
			}
		}
		for a, link := range want {
			// A link that somebody was killed over is not finished, and its pod says so.
			if runs[a] && w.routes[a] != link {
				bad = append(bad, fmt.Sprintf("%s leads to %q, not to %s", a, w.routes[a], link))
			}
		}
		for a, link := range w.routes {
			// The gateway's address, which all links have, makes routes too.
			if want[a] == "" && !strings.HasPrefix(a, "fe80:") && !strings.HasPrefix(a, "169.254.1.1") && a != "multicast" && a != "ff00::/8" && a != "local" && a != "anycast" {
				bad = append(bad, fmt.Sprintf("route to %s by %s is of no pod", a, link))
			}
		}
		return bad
	},
}, {
	"addresses", "an address is its pod's as long as there is a record, and nobody else's: two pods with one address is the worst that can happen",
	func(_ *soak, w *world) (bad []string) {
		has := make(map[string]string)
		for id, r := range w.records {
			for _, a := range []netip.Addr{r.Address.IP, r.Address.IP6} {
				if !a.IsValid() || r.Spec.Network.Mode != "pod" { // CNI's plugins keep their own books
					continue
				}
				if other, twice := has[a.String()]; twice {
					bad = append(bad, fmt.Sprintf("%s is on record for %.12s and %.12s", a, id, other))
				}
				has[a.String()] = id
				if w.leases[a.String()] != id {
					bad = append(bad, fmt.Sprintf("%s of pod %.12s is leased to %.12q", a, id, w.leases[a.String()]))
				}
			}
		}
		for a, id := range w.leases {
			if has[a] != id {
				bad = append(bad, fmt.Sprintf("%s is leased to %.12s, which has it not on record", a, id))
			}
		}
		return bad
	},
}, {
	"names", "each pod can be called by its name, and no name is kept by a pod that is gone",
	func(_ *soak, w *world) (bad []string) {
		for id, r := range w.records {
			if r.Spec.Name != "" && w.names[r.Spec.Name] != id {
				bad = append(bad, fmt.Sprintf("name %q of pod %.12s means %.12q", r.Spec.Name, id, w.names[r.Spec.Name]))
			}
		}
		for name, id := range w.names {
			if w.records[id].Spec.Name != name {
				bad = append(bad, fmt.Sprintf("name %q means %.12s, which is called %q", name, id, w.records[id].Spec.Name))
			}
		}
		return bad
	},
}, {
	"claims", "whatever is claimed is on record, or nobody ever gives it back",
	func(_ *soak, w *world) (bad []string) {
		for claim, id := range w.claims {
			if !slices.ContainsFunc(w.records[id].Spec.Ports, func(p netns.Port) bool { return slices.Contains(claimsOf(p), claim) }) {
				bad = append(bad, fmt.Sprintf("port %s is claimed by %.12s, which has it not on record", claim, id))
			}
		}
		return bad
	},
}, {
	"processes", "whatever runs is in a pod that is there, keeps one that is there, or is a leak",
	func(_ *soak, w *world) (bad []string) {
		in := make(map[uint64]bool)
		for _, r := range w.records {
			for kind, n := range r.Namespaces {
				if kind == "net" || kind == "ipc" {
					in[n.Inode] = true
				}
			}
		}
		for _, p := range w.others {
			if p.state == "Z" || !in[p.net] && !in[p.ipc] {
				bad = append(bad, fmt.Sprintf("process %d (state %s, parent %d): %q", p.pid, p.state, p.ppid, p.args))
			}
		}
		for kind, m := range map[string]map[string][]int{"supervisor": w.supervisors, "guardian": w.guardians} {
			for id, pids := range m {
				if _, has := w.records[id]; !has || len(pids) > 1 {
					bad = append(bad, fmt.Sprintf("%s %v of pod %.12s, of which there are %d", kind, pids, id, len(pids)))
				}
			}
		}
		return bad
	},
}, {
	"containers", "what is said to run does, in its pod; a container is never lost from sight",
	func(_ *soak, w *world) (bad []string) {
		for _, c := range w.containers {
			if c.State != "running" {
				continue
			}
			i := slices.IndexFunc(w.others, func(p process) bool { return p.pid == c.PID })
			if i < 0 {
				bad = append(bad, fmt.Sprintf("container %q of pod %.12s is said to run, and process %d is not there", c.Name, c.Pod, c.PID))
				continue
			}
			if n := w.records[c.Pod].Namespaces["net"].Inode; n != 0 && w.others[i].net != n {
				bad = append(bad, fmt.Sprintf("container %q of pod %.12s is elsewhere, process %d", c.Name, c.Pod, c.PID))
			}
		}
		return bad
	},
}, {
	"cgroups", "a cgroup without a pod is never removed by anybody",
	func(s *soak, w *world) (bad []string) {
		for _, g := range w.groups {
			_, rest, _ := strings.Cut(g, "/podbox-"+rootHash(s.root))
			id, _, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
			if _, has := w.records[id]; !has && id != "" && (id != "keepers" || len(w.records) == 0) {
				bad = append(bad, g)
			}
		}
		return bad
	},
}, {
	"mounts", "pods add no mounts to the host",
	func(s *soak, w *world) []string {
		// Others of the machine may take theirs away meanwhile, and so from us.
		return slices.DeleteFunc(differ("mounts", s.empty.mounts, w.mounts), func(text string) bool { return strings.HasPrefix(text, "mounts: fewer") })
	},
}, {
	"memory", "what programs put into /dev/shm and System V IPC is the pod's, and goes with it",
	func(s *soak, w *world) []string {
		return append(differ("/dev/shm", strings.Join(s.empty.shm, "\n"), strings.Join(w.shm, "\n")), differ("/proc/sysvipc", s.empty.ipcs, w.ipcs)...)
	},
}, {
	"disk", "what a pod has on the disk goes with it",
	func(_ *soak, w *world) (bad []string) {
		if most := 300; w.uses > most {
			bad = append(bad, fmt.Sprintf("%d uses of images are noted", w.uses))
		}
		for _, id := range w.stateDirs {
			if _, has := w.records[id]; !has {
				bad = append(bad, "files of pod "+id)
			}
		}
		return bad
	},
}, {
	"descriptors", "who keeps a pod for months must not gather descriptors",
	func(_ *soak, w *world) (bad []string) {
		count := make(map[string]int)
		for _, c := range w.containers {
			count[c.Pod]++
		}
		for id, pids := range w.supervisors {
			for _, pid := range pids {
				if n, most := fds(pid), 40+16*count[id]; n > most {
					bad = append(bad, fmt.Sprintf("supervisor %d has %d descriptors open, with %d containers", pid, n, count[id]))
				}
			}
		}
		for _, pids := range w.guardians {
			for _, pid := range pids {
				if n := fds(pid); n > 16 {
					bad = append(bad, fmt.Sprintf("guardian %d has %d descriptors open", pid, n))
				}
			}
		}
		return bad
	},
}, {
	"rules for others", "an element of nftables that belongs to no pod sends packets to whoever gets the address next",
	func(_ *soak, w *world) (bad []string) {
		of := make(map[string]pod)
		for _, p := range w.pods {
			of[p.IP], of[p.IP6] = p, p
		}
		of["10.88.0.0"] = pod{} // the range
		for key, value := range w.elements {
			addr, _, _ := strings.Cut(value, " . ")
			p, has := of[addr]
			if !has {
				bad = append(bad, fmt.Sprintf("%s leads to %s, which is no pod's", key, value))
				continue
			}
			if want := elementsOf(p.IP, p.IP6, p.Ports); want[key] != value {
				bad = append(bad, fmt.Sprintf("%s leads to %s, and pod %q does not publish that", key, value, p.Name))
			}
		}
		for _, a := range podAddress.FindAllString(w.ruleset, -1) {
			if _, has := of[a]; !has {
				bad = append(bad, a+" is in the rules, and no pod's")
			}
		}
		return bad
	},
}}

var afterReload = []invariant{{
	"rules", "what a pod that runs has on record, and has claimed, is published, and nothing else is",
	func(_ *soak, w *world) (bad []string) {
		want := make(map[string]string)
		for id, p := range w.pods {
			if p.Link == "" || !w.podLinks[p.Link] {
				continue
			}
			ports := slices.DeleteFunc(slices.Clone(p.Ports), func(port netns.Port) bool {
				return slices.ContainsFunc(claimsOf(port), func(claim string) bool { return w.claims[claim] != id })
			})
			maps.Copy(want, elementsOf(p.IP, p.IP6, ports))
		}
		for key, value := range want {
			if w.elements[key] != value {
				bad = append(bad, fmt.Sprintf("%s leads to %q, not to %s", key, w.elements[key], value))
			}
		}
		for key, value := range w.elements {
			if want[key] != value {
				bad = append(bad, fmt.Sprintf("%s leads to %s, which is not published", key, value))
			}
		}
		return bad
	},
}}

// whenEmpty holds when all pods have been removed.
var whenEmpty = []invariant{{
	"an empty world", "whatever is left of a pod that was removed is a leak",
	func(s *soak, w *world) (bad []string) {
		e := s.empty
		bad = append(bad, differ("links", strings.Join(e.links, "\n"), strings.Join(w.links, "\n"))...)
		bad = append(bad, differ("network", e.network, w.network)...)
		bad = append(bad, differ("sysctls", e.sysctls, w.sysctls)...)
		bad = append(bad, differ("nftables", e.ruleset, w.ruleset)...)
		bad = append(bad, differ("cgroups", strings.Join(e.groups, "\n"), strings.Join(w.groups, "\n"))...)
		bad = append(bad, differ("files", strings.Join(e.files, "\n"), strings.Join(w.files, "\n"))...)
		for id := range w.records {
			bad = append(bad, "pod "+id)
		}
		if there, err := s.reachesLoopback6(); there || err != nil {
			bad = append(bad, fmt.Sprintf("programs for ::1 at the root of the control groups, %v", err))
		}
		return bad
	},
}}

// podAddress is one of the ranges that pods have their addresses from. The range itself may
// be in the rules.
var podAddress = regexp.MustCompile(`10\.88\.[0-9]+\.[0-9]+\b|fd70:6f64:626f:7800::[0-9a-f]+\b`)

// differ tells which lines there are more, or fewer, than before.
func differ(what, before, after string) (bad []string) {
	count := make(map[string]int)
	for line := range strings.Lines(after + "\n") {
		count[strings.TrimRight(line, " \n")]++
	}
	for line := range strings.Lines(before + "\n") {
		count[strings.TrimRight(line, " \n")]--
	}
	for _, line := range slices.Sorted(maps.Keys(count)) {
		switch n := count[line]; {
		case line == "":
		case n > 0:
			bad = append(bad, what+": more: "+line)
		case n < 0:
			bad = append(bad, what+": fewer: "+line)
		}
	}
	return bad
}

// claimsOf are the names of a port's claims.
func claimsOf(p netns.Port) []string {
	p = p.WithDefaults()
	at := "all"
	if p.HostIP.IsValid() {
		at = p.HostIP.String()
	}
	var names []string
	for i := range p.Count {
		names = append(names, fmt.Sprintf("%s-%d/%s", p.Protocol, p.HostPort+i, at))
	}
	return names
}

// elementsOf are the elements of the maps for what a pod publishes, as nft prints them.
func elementsOf(ip, ip6 string, ports []netns.Port) map[string]string {
	m := make(map[string]string)
	for _, p := range ports {
		p = p.WithDefaults()
		for family, addr := range map[string]string{"4": ip, "6": ip6} {
			if addr == "" || p.HostIP.IsValid() && p.HostIP.Is4() != (family == "4") {
				continue
			}
			anywhere := !p.HostIP.IsValid() || p.HostIP.IsUnspecified()
			if p.Count > 1 && p.HostPort == p.Port {
				at := p.HostIP.String()
				if anywhere {
					at = map[string]string{"4": "0.0.0.0/0", "6": "::/0"}[family]
				}
				m[fmt.Sprintf("range%s %s . %s . %d-%d", family, p.Protocol, at, p.HostPort, p.HostPort+p.Count-1)] = addr
				continue
			}
			for i := range p.Count {
				host := strconv.Itoa(int(p.HostPort + i))
				key := "any" + family + " " + string(p.Protocol) + " . " + host
				if !anywhere {
					key = "one" + family + " " + string(p.Protocol) + " . " + p.HostIP.String() + " . " + host
				}
				m[key] = fmt.Sprintf("%s . %d", addr, p.Port+i)
			}
		}
	}
	return m
}

func fds(pid int) int {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return len(names)
}
