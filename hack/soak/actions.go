//go:build linux

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The ports of the host that are published at random.
const (
	firstHostPort = 26000
	hostPorts     = 60
)

// serverName is that of the container that answers.
const serverName = "srv"

// An action is one of the things that happen to pods; weight is how often it is picked.
type action struct {
	weight int
	do     func(*worker)
}

var actions = []action{
	{22, (*worker).create},
	{10, (*worker).apply},
	{3, (*worker).applyAgain},
	{3, (*worker).unapply},
	{8, (*worker).createCNI},
	{5, (*worker).changePolicy},
	{3, (*worker).forward},
	{2, (*worker).execIn},
	{5, (*worker).remove},
	{6, func(w *worker) { w.podbox("stop", "-t", "0", w.pod()) }},
	{8, (*worker).start},
	{3, func(w *worker) { w.podbox("restart", "-t", "0", w.pod()) }},
	{12, (*worker).serve},
	{4, (*worker).runOnce},
	{4, (*worker).runSleep},
	{6, (*worker).exec},
	{3, (*worker).removeContainer},
	{3, func(w *worker) { w.podbox("stop", "-t", "0", "-c", w.containerName(), w.pod()) }},
	{3, func(w *worker) { w.podbox("start", "-c", w.containerName(), w.pod()) }},
	{2, func(w *worker) { w.podbox("kill", "-s", "KILL", w.pod()) }},
	{2, func(w *worker) { w.podbox("pause", w.pod()) }},
	{2, func(w *worker) { w.podbox("unpause", w.pod()) }},
	{10, (*worker).publish},
	{7, (*worker).unpublish},
	{3, (*worker).update},
	{3, func(w *worker) { w.podbox("network", "reload") }},
	{2, func(w *worker) { w.podbox("gc") }},
	{1, (*worker).prune},
	{6, (*worker).question},
	{3, (*worker).flush},
	{2, (*worker).cutLink},
	{4, func(w *worker) { w.kill("pause", func(k *killing) []int { return k.pauses }) }},
	{3, func(w *worker) { w.kill("supervisor", func(k *killing) []int { return k.supervisors }) }},
	{2, func(w *worker) { w.kill("guardian", func(k *killing) []int { return k.guardians }) }},
	{4, func(w *worker) { w.kill("program", func(k *killing) []int { return k.programs }) }},
	{4, (*worker).killOther},
}

var total = func() (n int) {
	for _, a := range actions {
		n += a.weight
	}
	return n
}()

func (w *worker) create() {
	name := w.handMade()
	args := []string{"create"}
	for n := range w.chance.IntN(3) {
		if port := w.port(); n == 0 || args[len(args)-1] != port {
			args = append(args, "-p", port)
		}
	}
	for _, extra := range [][]string{{"--memory", "256m"}, {"--volume", "data:memory"}, {"--volume", "disk"}, {"--share", "net,ipc,uts,pid"}, {"--sysctl", "net.core.somaxconn=256"}, {"--ingress", "100M"}, {"--egress", "50M"}, {"-p", "80"}} {
		if w.chance.IntN(8) == 0 {
			args = append(args, extra...)
		}
	}
	if w.chance.IntN(4) == 0 {
		args = append(args, w.policyFlags()...)
	}
	args = append(args, name)
	known := w.mine[name]
	r := w.podbox(args...)
	if known == nil {
		return
	}
	switch {
	case r.killed:
		known.sure = false
	case r.code == 0:
		if known.sure && known.id != "" && w.s.pruned.Load() == 0 {
			w.s.fault("%s: it was there already, as %.12s", r.line(), known.id)
		}
		*known = knowledge{sure: true, id: strings.TrimSpace(r.stdout)}
	case known.sure && known.id == "" && strings.Contains(r.stderr, "exists"):
		w.s.fault("%s: %s", r.line(), r.stderr)
	}
}

func (w *worker) remove() {
	name := w.pod()
	r := w.podbox("rm", "-f", "-t", "0", name)
	known := w.mine[name]
	switch {
	case known == nil:
	case r.code == 0:
		*known = knowledge{sure: true}
	default:
		known.sure = false // killed, or stopped by a plugin that refused: whoever sweeps goes on with it
	}
}

// start brings a pod up: its address must be what it was.
func (w *worker) start() {
	name := w.pod()
	known := w.mine[name]
	before := ""
	if known != nil && known.sure && known.id != "" {
		before = known.ip
	}
	if r := w.podbox("start", name); r.code != 0 || before == "" {
		return
	}
	if p := w.s.pod(name); p != nil && p.IP != before {
		w.s.fault("pod %q had %s, was started, and has %s", name, before, p.IP)
	}
}

// port is one to publish, in one of the forms that there are.
func (w *worker) port() string {
	n := firstHostPort + w.chance.IntN(hostPorts)
	protocol := ""
	if w.chance.IntN(3) == 0 {
		protocol = "/udp"
	}
	switch w.chance.IntN(8) {
	case 0: // a range that is the same on both sides
		from := firstServed + w.chance.IntN(6)
		return fmt.Sprintf("%d-%d:%d-%d%s", from, from+3, from, from+3, protocol)
	case 1: // a shifted one
		return fmt.Sprintf("%d-%d:%d-%d%s", n, n+2, firstServed, firstServed+2, protocol)
	case 2:
		return fmt.Sprintf("127.0.0.1:%d:%d%s", n, servedPort, protocol)
	case 3:
		return fmt.Sprintf("%s:%d:%d%s", hostIP, n, servedPort, protocol)
	case 4:
		return fmt.Sprintf("[%s]:%d:%d%s", hostIP6, n, servedPort, protocol)
	}
	return fmt.Sprintf("%d:%d%s", n, servedPort, protocol)
}

// serve starts the container that answers by the ports.
func (w *worker) serve() {
	w.podbox("run", "-d", "--name", serverName, "--restart", "always", w.pod(), "--", filepath.Join(w.s.room, "soak"), "answer")
}

func (w *worker) containerName() string {
	return []string{serverName, serverName, "sleep", "once", "job", "side"}[w.chance.IntN(6)]
}

func (w *worker) runOnce() {
	w.podbox("run", "--rm", "--name", "once", w.pod(), "--", "true")
}

func (w *worker) runSleep() {
	args := []string{"run", "-d", "--name", "sleep"}
	if w.chance.IntN(2) == 0 {
		args = append(args, "--rm")
	}
	// It leaves things for the pod to clear away.
	script := `echo x >/dev/shm/soak-$$; exec sleep ` + []string{"0.05", "1", "1000"}[w.chance.IntN(3)]
	w.podbox(append(args, w.pod(), "--", "sh", "-c", script)...)
}

func (w *worker) exec() {
	script := []string{"true", "exit 3", "echo y >>/dev/shm/soak-exec", "sleep 0.05", "sleep 0.3 & exit 0"}[w.chance.IntN(5)]
	w.podbox("exec", w.pod(), "--", "sh", "-c", script)
}

// execIn runs a program in a container's root.
func (w *worker) execIn() {
	w.podbox("exec", "-c", w.containerName(), w.pod(), "--", "/soak", "sleep", "0.01")
}

func (w *worker) removeContainer() {
	w.podbox("rm", "-f", "-t", "0", "-c", w.containerName(), w.pod())
}

func (w *worker) publish() {
	name, port := w.pod(), w.port()
	w.podbox("publish", name, port)
}

// update changes what a pod may.
func (w *worker) update() {
	w.podbox(append([]string{"update"}, append([][]string{{"--ingress", "200M"}, {"--egress", "0"}, {"--label", "a=b"}, {"--dns", "192.0.2.53"}, {"--add-host", "db:10.1.2.3"}}[w.chance.IntN(5)], w.pod())...)...)
}

// unpublish takes one that the pod has.
func (w *worker) unpublish() {
	name := w.pod()
	kill := w.killAfter
	w.killAfter = 0
	r := w.podbox("port", "-o", "name", name)
	ports := strings.Fields(r.stdout)
	w.killAfter = kill
	if r.code == 0 && len(ports) > 0 {
		w.podbox("unpublish", name, ports[w.chance.IntN(len(ports))])
	}
}

// prune may remove what other workers take for theirs.
func (w *worker) prune() {
	w.s.pruned.Add(1)
	w.podbox("prune")
}

// question only looks.
func (w *worker) question() {
	name := w.pod()
	w.podbox([][]string{{"ls"}, {"ps"}, {"ls", "-o", "json"}, {"inspect", name}, {"port", name}, {"logs", "-c", serverName, name}, {"stats", "--no-stream", name}, {"top", name}, {"ipc", name}, {"exists", name}}[w.chance.IntN(10)]...)
}

// flush takes the host's rules away, as a reload of somebody's firewall does.
func (w *worker) flush() {
	w.s.flushed.Add(1)
	args := []string{"flush", "ruleset"}
	if w.chance.IntN(2) == 0 {
		args = []string{"delete", "table", "inet", w.s.table}
	}
	w.happens(func() string {
		if err := command("nft", args...); err != nil {
			return err.Error() // the table is not there
		}
		return ""
	}, append([]string{"nft"}, args...)...)
}

// cutLink takes a pod's link away.
func (w *worker) cutLink() {
	text, err := output("ip", "-o", "link")
	if err != nil {
		return
	}
	var links []string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], "pbx") {
			if name, _, _ := strings.Cut(strings.TrimSuffix(f[1], ":"), "@"); !w.s.stay.links[name] {
				links = append(links, name)
			}
		}
	}
	if len(links) == 0 {
		return
	}
	link := links[w.chance.IntN(len(links))]
	w.s.killedPause.Add(1) // what follows is the same
	w.happens(func() string {
		if err := command("ip", "link", "del", link); err != nil {
			return err.Error()
		}
		return ""
	}, "ip", "link", "del", link)
}

// killing are the processes that may be killed.
type killing struct{ pauses, supervisors, guardians, programs []int }

func (w *worker) kill(kind string, pick func(*killing) []int) {
	var found world
	if err := w.s.lookProcesses(&found); err != nil {
		w.s.fault("%v", err)
		return
	}
	var k killing
	for _, pids := range found.pauses {
		k.pauses = append(k.pauses, pids...)
	}
	for _, pids := range found.supervisors {
		k.supervisors = append(k.supervisors, pids...)
	}
	for _, pids := range found.guardians {
		k.guardians = append(k.guardians, pids...)
	}
	for _, p := range found.others {
		if !p.own && !w.s.theirs(p) {
			k.programs = append(k.programs, p.pid)
		}
	}
	pids := pick(&k)
	if len(pids) == 0 {
		return
	}
	pid := pids[w.chance.IntN(len(pids))]
	w.s.killedPause.Add(1)
	w.happens(func() string {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			return err.Error()
		}
		return ""
	}, "kill", "-9", fmt.Sprintf("%d (%s)", pid, kind))
}

// killOther kills a command of another worker.
func (w *worker) killOther() {
	time.Sleep(time.Duration(w.chance.IntN(10_000_000)))
	if what := w.s.killOne(w.chance.IntN); what != "" {
		w.s.history.add(&result{worker: w.number, began: time.Now(), args: []string{"kill", "-9", "(podbox " + what + ")"}})
	}
}

// happens does something that is not podbox, and remembers it.
func (w *worker) happens(do func() string, args ...string) {
	r := &result{worker: w.number, began: time.Now(), args: args}
	r.stderr = do()
	r.took = time.Since(r.began)
	w.s.history.add(r)
}
