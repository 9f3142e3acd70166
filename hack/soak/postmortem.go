//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// postMortem tells what has happened, and copies what is left of it.
func (s *soak) postMortem(err error) {
	lines := s.history.lines(remembered)
	fmt.Fprintf(os.Stderr, "soak: seed %d, after %s; the last steps (time, duration, worker):\n%s\n",
		s.seed, time.Since(s.began).Round(time.Second), strings.Join(lines[max(0, len(lines)-60):], "\n"))
	if s.survey {
		s.printTexts()
	}
	dir := s.keep
	if merr := os.MkdirAll(dir, 0o700); merr != nil {
		fmt.Fprintln(os.Stderr, "soak:", merr)
		return
	}
	write := func(name, text string) {
		if werr := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); werr != nil {
			fmt.Fprintln(os.Stderr, "soak:", werr)
		}
	}
	write("fault", err.Error()+"\n")
	if steps, rerr := os.ReadFile(filepath.Join(s.room, "steps")); rerr == nil {
		write("steps", string(steps))
	}
	for name, words := range map[string]string{
		"processes": "ps -eo pid,ppid,stat,lstart,wchan:32,args",
		"links":     "ip -d addr",
		"routes":    "ip route show table all",
		"routes6":   "ip -6 route show table all",
		"nftables":  "nft list ruleset",
		"mounts":    "cat /proc/self/mountinfo",
		"pods":      s.options.podbox + " --root " + s.root + " --state-dir " + s.state + " ls -o json",
		"events":    "tail -n 300 " + s.root + "/events",
		"queues":    "tc qdisc",
		"plugins":   "ls -lR " + s.cniDir(),
		"groups":    "ls -R " + strings.Join(groups(s.root), " "),
	} {
		f := strings.Fields(words)
		out, _ := exec.Command(f[0], f[1:]...).CombinedOutput()
		write(name, string(out))
	}
	for _, top := range []string{s.root, s.state, s.stay.root} {
		if top == "" {
			continue
		}
		// No pipe and no socket among it: those cannot be copied.
		out, cerr := exec.Command("sh", "-c", `mkdir -p "$2" && cd "$1" && find . \( -type f -o -type l \) -print0 | cpio -0pdm --quiet "$2" 2>&1 || cp -r --no-dereference . "$2"`, "-", top, filepath.Join(dir, filepath.Base(top))).CombinedOutput()
		if cerr != nil {
			write("copy-"+filepath.Base(top), string(out))
		}
	}
	fmt.Fprintf(os.Stderr, "soak: %s has what was left\n", dir)
}
