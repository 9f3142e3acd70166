//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/podbox/podbox/netns/cni"
)

// CNI networks: lan is Debian's bridge and host-local, if they are installed, with a plugin of
// our own behind them; paper is ours alone. That keeps a book of what was added and not
// deleted, and is slow, fails or hangs at random, unless all rest.
const (
	cniBridge   = "soakbr0"
	cniSubnet   = "10.77.0.0/24"
	cniHost     = "10.77.0.1"
	cniLan      = "soaklan"
	cniPaper    = "soakpaper"
	ledgerName  = "soakledger"
	debianCNI   = "/usr/lib/cni"
	cniPatience = "2s"
)

// cniNames are those of the pods that CNI plugins connect.
func (w *worker) cniNames() []string {
	return []string{fmt.Sprintf("soak-cni%d", w.number), "soak-cni-all"}
}

func (s *soak) cniDir(words ...string) string {
	return filepath.Join(append([]string{s.room, "cni"}, words...)...)
}

// furnishCNI describes the networks, and makes the bridge: a plugin that does would leave it.
func (s *soak) furnishCNI() error {
	for _, dir := range []string{"conf", "bin", "book", "ipam"} {
		if err := os.MkdirAll(s.cniDir(dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Link(filepath.Join(s.room, "soak"), s.cniDir("bin", ledgerName)); err != nil {
		return err
	}
	ours := map[string]any{"type": ledgerName, "book": s.cniDir("book"), "calm": s.cniDir("calm")}
	write := func(name, version string, plugins ...any) error {
		b, err := json.Marshal(map[string]any{"cniVersion": version, "name": name, "plugins": plugins})
		if err != nil {
			return err
		}
		s.networks = append(s.networks, name)
		return os.WriteFile(s.cniDir("conf", name+".conflist"), b, 0o644)
	}
	if err := write(cniPaper, "1.1.0", ours); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(debianCNI, "bridge")); err != nil {
		fmt.Println("soak: without", filepath.Join(debianCNI, "bridge")+": no network of the usual CNI plugins (apt-get install containernetworking-plugins)")
		return nil
	}
	for _, words := range []string{"link add " + cniBridge + " type bridge", "link set " + cniBridge + " addrgenmode none", "addr add " + cniHost + "/24 dev " + cniBridge, "link set " + cniBridge + " up"} {
		if err := command("ip", strings.Fields(words)...); err != nil {
			return err
		}
	}
	return write(cniLan, "1.0.0", map[string]any{
		"type": "bridge", "bridge": cniBridge,
		"ipam": map[string]any{"type": "host-local", "dataDir": s.cniDir("ipam"), "ranges": [][]any{{map[string]any{"subnet": cniSubnet}}}},
	}, ours)
}

// calm makes our plugin do what it should.
func (s *soak) calm(yes bool) error {
	if yes {
		return os.WriteFile(s.cniDir("calm"), nil, 0o644)
	}
	if err := os.Remove(s.cniDir("calm")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (w *worker) createCNI() {
	names := w.cniNames()
	name := names[w.chance.IntN(len(names))]
	networks := slices.Clone(w.s.networks)
	w.chance.Shuffle(len(networks), func(i, j int) { networks[i], networks[j] = networks[j], networks[i] })
	networks = networks[:1+w.chance.IntN(len(networks))]
	w.killLater(100 * time.Millisecond)
	r := w.podbox("create", "--network", "cni:"+strings.Join(networks, ","), "--cni-timeout", cniPatience, name)
	switch known := w.mine[name]; {
	case known == nil:
	case r.killed:
		known.sure = false
	case r.code == 0:
		*known = knowledge{sure: true, id: strings.TrimSpace(r.stdout)}
	}
}

// A plugin's standard input.
type netConf struct {
	CNIVersion string           `json:"cniVersion"`
	Name       string           `json:"name"`
	Book       string           `json:"book"`
	Calm       string           `json:"calm"`
	PrevResult *json.RawMessage `json:"prevResult"`
	Valid      []struct {
		ContainerID string `json:"containerID"`
		Interface   string `json:"ifname"`
	} `json:"cni.dev/valid-attachments"`
}

// plugin is our CNI plugin.
func plugin(verb string) error {
	if verb == "VERSION" {
		fmt.Println(`{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}`)
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	if err != nil {
		return err
	}
	var c netConf
	if err := json.Unmarshal(b, &c); err != nil {
		return err
	}
	refuse := func(why string) {
		fmt.Printf(`{"cniVersion":%q,"code":100,"msg":"soakledger: %s"}`+"\n", c.CNIVersion, why)
		os.Exit(1)
	}
	_, err = os.Stat(c.Calm)
	wild := func(n int) bool { return err != nil && rand.IntN(n) == 0 }
	if wild(2) {
		time.Sleep(time.Duration(rand.IntN(20_000_000)))
	}
	entry := filepath.Join(c.Book, c.Name+" "+os.Getenv("CNI_CONTAINERID")+" "+os.Getenv("CNI_IFNAME"))
	switch verb {
	case "ADD":
		if wild(25) {
			refuse("not today")
		}
		if _, err := os.Stat(entry); err == nil {
			refuse("it was added already")
		}
		if err := os.WriteFile(entry, nil, 0o644); err != nil {
			return err
		}
		switch {
		case wild(25):
			refuse("on second thoughts, no")
		case wild(60):
			time.Sleep(time.Hour)
		}
		if c.PrevResult != nil {
			fmt.Printf("%s\n", *c.PrevResult)
			return nil
		}
		fmt.Printf(`{"cniVersion":%q,"interfaces":[{"name":%q,"sandbox":%q}],"ips":[]}`+"\n", c.CNIVersion, os.Getenv("CNI_IFNAME"), os.Getenv("CNI_NETNS"))
	case "CHECK":
		if _, err := os.Stat(entry); err != nil {
			refuse("it was not added")
		}
	case "DEL":
		if wild(60) {
			refuse("not now")
		}
		if err := os.Remove(entry); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	case "GC":
		valid := make(map[string]bool)
		for _, v := range c.Valid {
			valid[c.Name+" "+v.ContainerID+" "+v.Interface] = true
		}
		entries, err := os.ReadDir(c.Book)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), c.Name+" ") && !valid[e.Name()] {
				if err := os.Remove(filepath.Join(c.Book, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		}
	}
	return nil
}

// lookCNI reads what plugins have on their books.
func (s *soak) lookCNI(w *world) error {
	entries, err := os.ReadDir(s.cniDir("book"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		w.attached = append(w.attached, e.Name())
	}
	w.noted = make(map[string]bool)
	for id := range w.records {
		_, err := os.Stat(filepath.Join(s.state, "pods", id, "cni", "attachments.json"))
		w.noted[id] = err == nil
	}
	results, err := os.ReadDir(filepath.Join(cni.DefaultCacheDir, "results"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range results {
		w.cached = append(w.cached, e.Name())
	}
	w.lanLeases = make(map[string]string)
	err = filepath.WalkDir(s.cniDir("ipam"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lock" || strings.HasPrefix(d.Name(), "last_reserved_ip") {
			return err
		}
		b, err := os.ReadFile(path)
		w.lanLeases[d.Name()], _, _ = strings.Cut(string(b), "\r\n")
		return err
	})
	if err != nil || !slices.Contains(s.networks, cniLan) {
		return err
	}
	text, err := output("ip", "-o", "link", "show", "master", cniBridge)
	w.lanPorts = strings.Count(text, "\n")
	return err
}

// networksOf are the CNI networks that a pod is to be in.
func (r record) networksOf() []string {
	if r.Spec.Network.Mode != "cni" {
		return nil
	}
	return r.Spec.Network.Names
}

var cniInvariants = []invariant{{
	"attachments", "what a plugin has added and nobody deletes is leased for ever; what was deleted before its time is somebody else's soon",
	func(_ *soak, w *world) (bad []string) {
		have := make(map[string]bool)
		for _, entry := range w.attached {
			have[entry] = true
			f := strings.Fields(entry)
			if len(f) != 3 {
				bad = append(bad, fmt.Sprintf("the plugin's book has %q", entry))
				continue
			}
			if r, has := w.records[f[1]]; !has || !w.noted[f[1]] || !slices.Contains(r.networksOf(), f[0]) {
				bad = append(bad, fmt.Sprintf("%s of network %s is added for pod %.12s (%q, on record as %s)", f[2], f[0], f[1], r.Spec.Name, r.State))
			}
		}
		for id, p := range w.pods {
			for i, network := range w.records[id].networksOf() {
				if entry := fmt.Sprintf("%s %s eth%d", network, id, i); p.runs() && !have[entry] {
					bad = append(bad, fmt.Sprintf("pod %q runs, and %q is not in the plugin's book", p.Name, entry))
				}
			}
		}
		return bad
	},
}, {
	"results", "what libcni keeps of an attachment is on the disk, and nobody else removes it",
	func(_ *soak, w *world) (bad []string) {
		for _, name := range w.cached { // NETWORK-ID-INTERFACE
			f := strings.Split(name, "-")
			if len(f) != 3 || !w.noted[f[1]] || !slices.Contains(w.records[f[1]].networksOf(), f[0]) {
				bad = append(bad, name+" is kept, and no pod may have it")
			}
		}
		return bad
	},
}, {
	"host-local", "a lease of host-local outlives everything but DEL, until no address is left",
	func(_ *soak, w *world) (bad []string) {
		of := make(map[string]string)
		for addr, id := range w.lanLeases {
			if r, has := w.records[id]; !has || !w.noted[id] || !slices.Contains(r.networksOf(), cniLan) {
				bad = append(bad, fmt.Sprintf("%s is leased to pod %.12q, on record as %q", addr, id, r.State))
			}
			if of[id] != "" {
				bad = append(bad, fmt.Sprintf("%s and %s are both leased to pod %.12s", addr, of[id], id))
			}
			of[id] = addr
		}
		for id, p := range w.pods {
			networks := w.records[id].networksOf()
			if p.runs() && slices.Contains(networks, cniLan) && of[id] == "" {
				bad = append(bad, fmt.Sprintf("pod %q runs in %s without a lease", p.Name, cniLan))
			}
			if p.runs() && len(networks) > 0 && networks[0] == cniLan && p.IP != of[id] {
				bad = append(bad, fmt.Sprintf("pod %q is said to have %s, and %q is leased to it", p.Name, p.IP, of[id]))
			}
		}
		return bad
	},
}, {
	"ports of the bridge", "each port of a bridge is one of 1,023",
	func(_ *soak, w *world) (bad []string) {
		least, most := 0, 0
		for id, r := range w.records {
			if slices.Contains(r.networksOf(), cniLan) {
				if w.pods[id].runs() {
					least++
				}
				if w.noted[id] {
					most++
				}
			}
		}
		if w.lanPorts < least || w.lanPorts > most {
			bad = append(bad, fmt.Sprintf("%d ports, and %d to %d pods in the network", w.lanPorts, least, most))
		}
		return bad
	},
}}
