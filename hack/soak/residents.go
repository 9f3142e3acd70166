//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The residents are pods of a second installation on the same host, which stay for the whole
// run. Nobody kills what is theirs, so all their processes stay the same, whatever happens to
// the pods of the other one; and what those take may not grow.
type residents struct {
	root, state, table string
	processes          map[int]string // PID to what it is
	links              map[string]bool
	nets               map[uint64]bool // inodes of their network namespaces
	first              []measure
}

const (
	residentPort  = 25000
	residentPlain = "stays"
	residentKube  = "stays-kube"
)

// settle makes the residents.
func (s *soak) settle() error {
	s.stay = residents{root: filepath.Join(s.room, "stay"), state: filepath.Join(s.room, "stay-state"), links: map[string]bool{}, nets: map[uint64]bool{}}
	s.stay.table = "podbox-" + rootHash(s.stay.root)
	if err := s.importImage(s.stay.state, s.stay.root); err != nil {
		return err
	}
	path := filepath.Join(s.room, "tmp", "stays.yaml")
	manifest := fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
  containers:
  - name: srv
    image: %[2]s
    args: [answer]
    livenessProbe: {exec: {command: [/soak, exists, /soak]}, periodSeconds: 1}
    readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
  - {name: chatter, image: %[2]q, args: [chatter, '20000'], volumeMounts: [{name: memory, mountPath: /memory}]}
`, residentKube, memberImage)
	if err := os.WriteFile(path, []byte(manifest), 0o600); err != nil {
		return err
	}
	soak := filepath.Join(s.room, "soak")
	for _, args := range [][]string{
		{"create", "--ip-range", "10.89.0.0/24", "--ip6-range", "fd71::/64", "-p", strconv.Itoa(residentPort) + ":80", "--egress", "50M", "--allow-from", "192.0.2.0/24", residentPlain},
		{"run", "-d", "--name", "srv", "--restart", "always", residentPlain, "--", soak, "answer"},
		{"run", "-d", "--name", "again", "--restart", "always", "--backoff", "1s,1s", residentPlain, "--", "true"},
		{"apply", "-f", path, "--wait=30s"},
	} {
		if r := s.podboxAt(nil, s.stay.root, s.stay.state, args...); r.code != 0 {
			return fmt.Errorf("%s: %s", r.line(), r.stderr)
		}
	}
	var all []process
	// A child that has not yet executed what it shall is like its parent.
	for deadline := time.Now().Add(settleTime); ; time.Sleep(20 * time.Millisecond) {
		var err error
		if all, err = processes(); err != nil {
			return err
		}
		if s.stay.processes = s.keepers(all); len(s.stay.processes) == 6 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("residents: of two pods there are %v", s.stay.processes)
		}
	}
	for pid := range s.stay.processes {
		for _, p := range all {
			if p.pid == pid && !p.own {
				s.stay.nets[p.net] = true
			}
		}
	}
	text, err := output("ip", "-o", "link")
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 {
			name, _, _ := strings.Cut(strings.TrimSuffix(f[1], ":"), "@")
			s.stay.links[name] = true
		}
	}
	return err
}

// keepers are the residents' pauses, guardians and supervisors.
func (s *soak) keepers(all []process) map[int]string {
	found := make(map[int]string)
	for _, p := range all {
		words := strings.Split(strings.TrimSuffix(p.args, "\x00"), "\x00")
		n := len(words)
		switch {
		case strings.HasPrefix(words[0], "pause: ") && words[n-1] == s.stay.root:
			found[p.pid] = "pause"
		case words[0] == "podbox-guardian" && n >= 3 && words[n-3] == s.stay.root:
			found[p.pid] = "guardian"
		case n >= 3 && words[1] == "supervise" && words[2] == s.stay.root:
			found[p.pid] = "supervisor"
		}
	}
	return found
}

// theirs reports whether a process is the residents'.
func (s *soak) theirs(p process) bool {
	_, keeps := s.stay.processes[p.pid]
	return keeps || s.stay.nets[p.net]
}

// visit does something to the residents while all others rest, and makes sure that they are as they were.
func (s *soak) visit(chance *rand.Rand) error {
	do := func(args ...string) error {
		if r := s.podboxAt(observer, s.stay.root, s.stay.state, args...); r.code != 0 {
			return fmt.Errorf("residents: %s: %s", r.line(), r.stderr)
		}
		return nil
	}
	err := do("network", "reload")
	for range 2 {
		err = errors.Join(err, do([][]string{
			{"exec", residentPlain, "--", "true"},
			{"exec", "-c", "srv", residentKube, "--", "/soak", "sleep", "0"},
			{"update", "--ingress", "100M", residentKube},
			{"update", "--ingress", "0", residentKube},
			{"update", "--label", "team=red", residentKube},
			{"update", "--allow-to", "host", residentPlain},
			{"update", "--allow-to", "any", residentPlain},
			{"logs", "--tail", "3", "-c", "chatter", residentKube},
			{"stats", "--no-stream", residentKube},
			{"run", "--rm", residentPlain, "--", "true"},
			{"run", "-d", "--rm", "--name", "short", residentKube, "--", "true"},
			{"wait", "-c", "short", residentKube},
			{"inspect", residentKube},
			{"ps"},
		}[chance.IntN(14)]...))
	}
	if err != nil && !strings.Contains(err.Error(), "container exists") && !strings.Contains(err.Error(), "no such container") {
		return err
	}
	for deadline := time.Now().Add(settleTime); ; time.Sleep(20 * time.Millisecond) {
		all, err := processes()
		if err != nil {
			return err
		}
		now := s.keepers(all)
		if maps.Equal(now, s.stay.processes) {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("residents: their processes were %v, and are %v", s.stay.processes, now)
		}
	}
	if err := expect(func() (string, error) {
		return ask("tcp", netip.AddrPortFrom(netip.MustParseAddr(hostIP), residentPort), time.Second)
	}, true, residentPlain); err != nil {
		return fmt.Errorf("residents: port %d: %w", residentPort, err)
	}
	return nil
}

// A measure is what something takes.
type measure struct {
	what  string
	value int64
	unit  string
	most  int64 // 0: it may grow
}

// measures looks at what may not grow with time.
func (s *soak) measures() ([]measure, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	memory, open := make(map[string]int64), make(map[string]int64)
	for _, p := range all {
		if kind := s.stay.processes[p.pid]; kind != "" {
			memory[kind] = max(memory[kind], anonymous(p.pid))
			open[kind] = max(open[kind], int64(p.fds))
		}
	}
	ruleset, err := output("nft", "list", "ruleset")
	if err != nil {
		return nil, err
	}
	ms := []measure{
		{"memory of a supervisor that stays", memory["supervisor"], "kB", 40_000},
		{"its descriptors", open["supervisor"], "", 80},
		{"memory of a guardian that stays", memory["guardian"], "kB", 100},
		{"memory of a pause that stays", memory["pause"], "kB", 100},
		{"lines of nftables", int64(strings.Count(ruleset, "\n")), "", 0},
		{"cgroups", int64(len(groups(s.root)) + len(groups(s.stay.root))), "", 0},
		{"processes", int64(len(all)), "", 0},
	}
	for _, dir := range []struct{ what, path string }{{"root", s.root}, {"state", s.state}, {"residents' root", s.stay.root}, {"residents' state", s.stay.state}} {
		var files, bytes int64
		err := filepath.WalkDir(dir.path, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				return err
			}
			files++
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
				bytes += info.Size()
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		ms = append(ms, measure{"files in " + dir.what, files, "", 0}, measure{"bytes in " + dir.what, bytes / 1024, "kB", 0})
	}
	for _, m := range ms {
		if m.most > 0 && m.value > m.most {
			return nil, fmt.Errorf("%s: %d %s, want at most %d", m.what, m.value, m.unit, m.most)
		}
	}
	return ms, nil
}

func measureText(ms []measure) string {
	var words []string
	for _, m := range ms {
		words = append(words, strings.TrimSpace(fmt.Sprintf("%s %d %s", m.what, m.value, m.unit)))
	}
	return strings.Join(words, ", ")
}

// anonymous is the memory that is a process's alone, in kB.
func anonymous(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) > 1 && f[0] == "RssAnon:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// leave removes the residents.
func (s *soak) leave() error {
	if r := s.podboxAt(nil, s.stay.root, s.stay.state, "rm", "-f", "-t", "0", "-a"); r.code != 0 {
		return fmt.Errorf("%s: %s", r.line(), r.stderr)
	}
	var gone []string
	for deadline := time.Now().Add(settleTime); ; time.Sleep(100 * time.Millisecond) {
		gone = nil
		all, err := processes()
		if err != nil {
			return err
		}
		for _, p := range all {
			if s.theirs(p) {
				gone = append(gone, fmt.Sprintf("process %d: %q", p.pid, p.args))
			}
		}
		text, err := output("sh", "-c", "ip -o link; nft list ruleset")
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, "pbx") || strings.Contains(line, "pbs") || strings.Contains(line, s.stay.table) {
				gone = append(gone, line)
			}
		}
		gone = append(gone, groups(s.stay.root)...)
		if len(gone) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			slices.Sort(gone)
			return fmt.Errorf("the residents are gone, and have left\n%s", strings.Join(gone, "\n"))
		}
	}
}
