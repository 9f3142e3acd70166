//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/netns"
)

// A world is all that pods can have changed, as it is found by others than podbox: in /proc
// and /sys, by ip(8) and nft(8), and in files. Only pods is what podbox says itself.
type world struct {
	pods       map[string]pod // by ID
	containers []container
	records    map[string]record // by ID

	pauses      map[string][]int // by the ID in their command lines
	supervisors map[string][]int
	guardians   map[string][]int
	others      []process // neither of these, nor ours

	links      []string // all of the host
	podLinks   map[string]bool
	routes     map[string]string // destination to link, of links of pods
	shapers    map[string]bool   // links by which limited pods send
	buckets    map[string]bool   // links of pods that receive at a rate
	attached   []string          // in the book of our CNI plugin
	noted      map[string]bool   // IDs of pods for which plugins may have done something
	cached     []string          // results of CNI plugins
	lanLeases  map[string]string // of host-local: address to ID
	lanPorts   int               // of the bridge
	elements   map[string]string // of the maps in nftables: key to value
	policySets map[string]bool   // "from4 10.88.0.2", nil without a table
	ruleset    string
	network    string // addresses, routes, rules, neighbours: all, as text
	sysctls    string
	mounts     string
	groups     []string
	shm        []string
	ipcs       string
	names      map[string]string // to IDs
	leases     map[string]string
	claims     map[string]string // "tcp-8080/all" to IDs
	files      []string          // below the root, for an empty world
	uses       int               // of images, that are noted
	stateDirs  []string
}

// A pod is one as podbox ls tells.
type pod struct {
	ID, Name, State, Error, IP, IP6, Link, Network string
	Ports                                          []netns.Port
	PausePID                                       int
}

// runs reports whether all of the pod is there.
func (p pod) runs() bool { return p.State == "running" || p.State == "paused" }

type container struct {
	ID, Name, Pod, State string
	PID                  int
	Background           bool
}

// A record is what is relied on of a pod's record.json.
type record struct {
	State      string
	Error      string
	Changing   bool
	Namespaces map[string]struct{ Inode uint64 }
	Spec       struct {
		Name    string
		Labels  map[string]string
		Network struct {
			Mode  string
			Names []string
		}
		Ports     []netns.Port
		Policy    netns.Policy
		Bandwidth netns.Bandwidth
	}
	Address netns.Address
}

type process struct {
	pid   int
	state string
	ppid  int
	args  string
	net   uint64 // inodes of namespaces
	ipc   uint64
	own   bool // its network namespace is the host's
	fds   int
}

// look looks at the world.
func (s *soak) look() (*world, error) {
	w := &world{}
	if err := s.lookPods(w); err != nil {
		return nil, err
	}
	if err := s.lookFiles(w); err != nil {
		return nil, err
	}
	if err := s.lookProcesses(w); err != nil {
		return nil, err
	}
	if err := s.lookNetwork(w); err != nil {
		return nil, err
	}
	if err := s.lookCNI(w); err != nil {
		return nil, err
	}
	if err := s.lookRules(w); err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	w.mounts = string(mounts)
	w.groups = groups(s.root)
	if err := filepath.WalkDir("/dev/shm", func(path string, _ fs.DirEntry, err error) error {
		w.shm = append(w.shm, path)
		return err
	}); err != nil {
		return nil, err
	}
	for _, name := range []string{"msg", "sem", "shm"} {
		b, err := os.ReadFile("/proc/sysvipc/" + name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		w.ipcs += string(b)
	}
	for _, name := range []string{"ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding", "ipv4/conf/" + uplink + "/forwarding", "ipv6/conf/" + uplink + "/force_forwarding", "ipv4/conf/" + uplink + "/route_localnet"} {
		b, err := os.ReadFile("/proc/sys/net/" + name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		w.sysctls += name + " " + string(b)
	}
	return w, nil
}

// lookPods asks podbox.
func (s *soak) lookPods(w *world) error {
	var pods []pod
	if err := s.ask(&pods, "ls", "-o", "json"); err != nil {
		return err
	}
	w.pods = make(map[string]pod)
	for _, p := range pods {
		w.pods[p.ID] = p
	}
	return s.ask(&w.containers, "ps", "-a", "-o", "json")
}

// pod looks at one pod, if it is there.
func (s *soak) pod(ref string) *pod {
	p := new(pod)
	if err := s.ask(p, "inspect", ref); err != nil {
		return nil
	}
	return p
}

// ask runs podbox and reads the JSON that it prints.
func (s *soak) ask(v any, args ...string) error {
	r := s.podbox(observer, args...)
	if r.code != 0 {
		return fmt.Errorf("%s: %s", r.line(), r.stderr)
	}
	if err := json.Unmarshal([]byte(r.stdout), v); err != nil {
		return fmt.Errorf("%s: %w", r.line(), err)
	}
	return nil
}

// lookFiles reads what is below the root directory and the state directory.
func (s *soak) lookFiles(w *world) error {
	w.records = make(map[string]record)
	w.names, w.leases, w.claims = make(map[string]string), make(map[string]string), make(map[string]string)
	ids, err := os.ReadDir(filepath.Join(s.root, "pods"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, id := range ids {
		var r record
		b, err := os.ReadFile(filepath.Join(s.root, "pods", id.Name(), "record.json"))
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err != nil {
			r.State = "unreadable: " + err.Error()
		}
		w.records[id.Name()] = r
	}
	for kind, m := range map[string]map[string]string{"names": w.names, "leases": w.leases, "ports": w.claims} {
		dir := filepath.Join(s.root, kind)
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.Type()&fs.ModeSymlink == 0 {
				return err
			}
			m[strings.TrimPrefix(path, dir+"/")], err = os.Readlink(path)
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, top := range []string{s.root, s.state} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			// The log of events, and the cursors of the ranges, are for ever.
			if strings.Contains(path, "/images/uses/") {
				w.uses++ // they are cleared away from time to time
				return err
			}
			if err == nil && !d.IsDir() && d.Name() != "events" && d.Name() != "events.1" && !strings.HasPrefix(d.Name(), "next-") {
				w.files = append(w.files, path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	dirs, err := os.ReadDir(filepath.Join(s.state, "pods"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range dirs {
		w.stateDirs = append(w.stateDirs, d.Name())
	}
	return nil
}

// lookProcesses sorts the processes of the room by what they are to podbox.
func (s *soak) lookProcesses(w *world) error {
	w.pauses, w.supervisors, w.guardians = make(map[string][]int), make(map[string][]int), make(map[string][]int)
	all, err := processes()
	if err != nil {
		return err
	}
	for _, p := range all {
		words := strings.Split(strings.TrimSuffix(p.args, "\x00"), "\x00")
		n := len(words)
		switch {
		case p.pid == 1 || p.pid == os.Getpid() || s.theirs(p):
		case strings.HasPrefix(words[0], "pause: ") && words[n-1] == s.root:
			w.pauses[words[n-2]] = append(w.pauses[words[n-2]], p.pid)
		case words[0] == "podbox-guardian" && n >= 3 && words[n-3] == s.root:
			w.guardians[words[n-1]] = append(w.guardians[words[n-1]], p.pid)
		case n >= 3 && words[1] == "supervise" && words[2] == s.root:
			w.supervisors[words[n-1]] = append(w.supervisors[words[n-1]], p.pid)
		default:
			w.others = append(w.others, p)
		}
	}
	return nil
}

// processes returns all processes of the room but those that end while we look.
func processes() ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	host, err := inode(os.Getpid(), "net")
	if err != nil {
		return nil, err
	}
	var ps []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		args, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || len(fields) < 2 {
			continue
		}
		p := process{pid: pid, state: fields[0], args: string(args)}
		p.ppid, _ = strconv.Atoi(fields[1])
		p.net, _ = inode(pid, "net")
		p.ipc, _ = inode(pid, "ipc")
		p.own = p.net == host
		fds, _ := os.ReadDir("/proc/" + e.Name() + "/fd")
		p.fds = len(fds)
		ps = append(ps, p)
	}
	return ps, nil
}

func inode(pid int, kind string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), &st)
	return st.Ino, err
}

// lookNetwork looks at links, addresses, routes and neighbours.
func (s *soak) lookNetwork(w *world) error {
	links, err := output("ip", "-o", "link")
	if err != nil {
		return err
	}
	w.podLinks, w.routes = make(map[string]bool), make(map[string]string)
	w.shapers, w.buckets = make(map[string]bool), make(map[string]bool)
	for line := range strings.Lines(links) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimSuffix(words[1], ":"), "@")
		w.links = append(w.links, name)
		switch {
		case s.stay.links[name]:
		case strings.HasPrefix(name, "pbx"):
			w.podLinks[name] = true
		case strings.HasPrefix(name, "pbs"):
			w.shapers[name] = true
		}
	}
	queues, err := output("tc", "qdisc")
	if err != nil {
		return err
	}
	for line := range strings.Lines(queues) { // qdisc tbf 8001: dev pbx… root …
		if f := strings.Fields(line); len(f) > 4 && f[1] == "tbf" && w.podLinks[f[4]] {
			w.buckets[f[4]] = true
		}
	}
	slices.Sort(w.links)
	for _, family := range []string{"-4", "-6"} {
		for _, words := range []string{"addr", "route show table all", "rule", "neigh show nud permanent"} {
			text, err := output("ip", append([]string{"-o", family}, strings.Fields(words)...)...)
			if err != nil {
				return err
			}
			for line := range strings.Lines(text) {
				// A bridge without a port has no carrier.
				line = strings.ReplaceAll(line, " linkdown", "")
				f := strings.Fields(line)
				if i := slices.Index(f, "dev"); words != "rule" && i > 0 && i+1 < len(f) && strings.HasPrefix(f[i+1], "pbx") && !strings.Contains(line, " table ") && strings.HasPrefix(words, "route") && !s.stay.links[f[i+1]] {
					w.routes[f[0]] = f[i+1]
				}
				w.network += line
			}
		}
	}
	return nil
}

func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), nil
}

// passing are elements that the rules themselves note of packets, each with its link, and that
// go by themselves.
var passing = regexp.MustCompile(`[^{,]* expires [^,}]*,?`)

var memberships = regexp.MustCompile(`(?s)\tset members[ab][46] \{.*?\n\t\}`)

// lookRules reads the maps of the table that tell what is published, and the sets that tell
// which pods have a policy.
func (s *soak) lookRules(w *world) error {
	var err error
	if w.ruleset, err = output("nft", "list", "ruleset"); err != nil {
		return err
	}
	w.ruleset = passing.ReplaceAllString(w.ruleset, "")
	if before, after, found := strings.Cut(w.ruleset, "table inet "+s.stay.table+" {\n"); found {
		_, after, _ = strings.Cut(after, "\n}\n")
		w.ruleset = before + after
	}
	if _, err := os.Stat(filepath.Join(s.root, "rules", "groups")); errors.Is(err, fs.ErrNotExist) {
		// Nobody asks who belongs to what, and before anybody does all is made anew.
		w.ruleset = memberships.ReplaceAllString(w.ruleset, "")
	}
	w.elements = make(map[string]string)
	_, table, found := strings.Cut(w.ruleset, "table inet "+s.table+" {\n")
	if !found {
		return nil
	}
	table, _, _ = strings.Cut(table, "\n}")
	w.policySets = make(map[string]bool)
	for block := range strings.SplitSeq(table, "\n\t}") {
		f := strings.Fields(block) // map NAME { … elements = { … }
		_, list, found := strings.Cut(block, "elements = {")
		if !found || len(f) < 2 {
			continue
		}
		list, _, _ = strings.Cut(list, "}")
		for e := range strings.SplitSeq(list, ",") {
			key, value, _ := strings.Cut(strings.Join(strings.Fields(e), " "), " : ")
			switch f[1] {
			case "any4", "any6", "one4", "one6", "range4", "range6":
				w.elements[f[1]+" "+key] = value
			case "from4", "from6", "to4", "to6":
				w.policySets[f[1]+" "+key] = true
			}
		}
	}
	return nil
}

// groups returns the cgroups of a root directory, outer ones first.
func groups(root string) []string {
	name := "podbox-" + rootHash(root)
	var found []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == name || strings.Contains(path, "/"+name+"/")) {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// rootHash is how podbox tells its installations apart where names must be short.
func rootHash(root string) string {
	sum := sha256.Sum256([]byte(root))
	return fmt.Sprintf("%x", sum[:4])
}
