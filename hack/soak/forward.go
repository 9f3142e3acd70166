//go:build linux

package main

import (
	"bufio"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// forward passes a connection on to a pod by podbox port-forward, and ends that in one way or
// another. Whoever answers must be that pod.
func (w *worker) forward() {
	name := w.pod()
	args := []string{"port-forward", "--address", "127.0.0.1", name, ":80"}
	r := &result{worker: w.number, began: time.Now(), args: append([]string{"podbox"}, args...)}
	cmd := w.s.command(w.s.root, w.s.state, args...)
	out, err := cmd.StdoutPipe()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.s.fault("%s: %v", r.line(), err)
		return
	}
	signal := []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGKILL}[w.chance.IntN(3)]
	linger := time.Duration(w.chance.IntN(30_000_000))
	first := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		first <- line
	}()
	var line string
	select {
	case line = <-first:
	case <-time.After(patience):
	}
	// Forwarding from 127.0.0.1:34567 -> 80
	for word := range strings.FieldsSeq(line) {
		at, err := netip.ParseAddrPort(word)
		if err != nil {
			continue
		}
		if who, err := ask("tcp", at, time.Second); err == nil && who != name {
			w.s.fault("%s: %q answers", r.line(), who)
		}
		break
	}
	time.Sleep(linger)
	_ = cmd.Process.Signal(signal)
	var hangs atomic.Bool
	timer := time.AfterFunc(patience, func() {
		hangs.Store(true)
		_ = cmd.Process.Kill()
	})
	err = cmd.Wait()
	timer.Stop()
	r.took, r.stderr, r.code = time.Since(r.began), stderr.String(), cmd.ProcessState.ExitCode()
	r.killed = r.code < 0 || r.code == 128+int(signal)
	w.s.history.add(r)
	if hangs.Load() {
		w.s.fault("%s: it was sent %s, and goes on for %s", r.line(), signal, patience)
	}
	w.judge(r)
	if line == "" && err == nil {
		w.s.fault("%s has ended well, and has said nothing", r.line())
	}
}

// command is podbox, to be run in the room.
func (s *soak) command(root, state string, args ...string) *exec.Cmd {
	cmd := exec.Command(s.options.podbox, append([]string{"--root", root, "--state-dir", state}, args...)...)
	cmd.Dir = s.room
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=" + s.room + "/tmp", "HOME=/root",
		"NETCONFPATH=" + s.cniDir("conf"), "CNI_PATH=" + s.cniDir("bin") + ":" + debianCNI,
	}
	return cmd
}
