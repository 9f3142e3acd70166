//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A result is what became of one command, or of something else that a worker did.
type result struct {
	worker         int
	began          time.Time
	took           time.Duration
	args           []string
	code           int // -1: killed
	killed         bool
	stdout, stderr string
}

func (r *result) line() string {
	text := strings.Join(r.args, " ")
	switch {
	case r.killed:
		text += " (killed)"
	case r.code != 0:
		text += fmt.Sprintf(" (status %d)", r.code)
	}
	return text
}

// observer is whoever only looks: that is not remembered.
var observer = new(worker)

// patience bounds any command. One that takes longer hangs.
const patience = 90 * time.Second

// podbox runs podbox. A worker's may be killed at any moment: by itself, if it has planned
// that, or by another.
func (s *soak) podbox(w *worker, args ...string) *result {
	return s.podboxAt(w, s.root, s.state, args...)
}

// podboxAt runs podbox for an installation.
func (s *soak) podboxAt(w *worker, root, state string, args ...string) *result {
	r := &result{worker: -1, began: time.Now(), args: append([]string{"podbox"}, args...)}
	cmd := s.command(root, state, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 10 * time.Second // for whoever keeps our pipes open
	cmd.Cancel = nil
	if err := cmd.Start(); err != nil {
		r.code, r.stderr = 125, err.Error()
		return r
	}
	var hangs atomic.Bool
	timer := time.AfterFunc(patience, func() {
		hangs.Store(true)
		_ = cmd.Process.Signal(unix.SIGQUIT) // tells where
		time.Sleep(time.Second)
		_ = cmd.Process.Kill()
	})
	if w != nil && w != observer {
		r.worker = w.number
		s.running.add(cmd)
		if w.killAfter > 0 {
			sig := w.killBy
			defer time.AfterFunc(w.killAfter, func() { s.killCommand(cmd, sig) }).Stop()
		}
	}
	err := cmd.Wait()
	timer.Stop()
	s.running.remove(cmd)
	r.took = time.Since(r.began)
	r.stdout, r.stderr = stdout.String(), stderr.String()
	r.code = cmd.ProcessState.ExitCode()
	// What asks podbox to end is answered by the status that a shell has for it.
	if r.killed = (r.code < 0 || r.code == 128+int(unix.SIGTERM)) && !hangs.Load(); r.killed {
		s.killedPodbox.Add(1)
	}
	if w != observer {
		s.history.add(r)
	}
	if hangs.Load() {
		s.fault("%s hangs for %s:\n%s", r.line(), patience, r.stderr)
	}
	// What a program leaves behind may be paused with its pod.
	if errors.Is(err, exec.ErrWaitDelay) && !strings.Contains(r.line(), "& exit 0") {
		s.fault("%s has ended, and somebody keeps its output open", r.line())
	}
	return r
}

func (s *soak) killCommand(cmd *exec.Cmd, sig unix.Signal) {
	s.killedPodbox.Add(1)
	_ = cmd.Process.Signal(sig)
}

// commands are those that run at this moment.
type commands struct {
	mu  sync.Mutex
	all []*exec.Cmd
}

func (c *commands) add(cmd *exec.Cmd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, cmd)
}

func (c *commands) remove(cmd *exec.Cmd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = slices.DeleteFunc(c.all, func(other *exec.Cmd) bool { return other == cmd })
}

// kill kills one of them.
func (s *soak) killOne(pick func(n int) int) string {
	s.running.mu.Lock()
	defer s.running.mu.Unlock()
	if len(s.running.all) == 0 {
		return ""
	}
	cmd := s.running.all[pick(len(s.running.all))]
	s.killCommand(cmd, unix.SIGKILL)
	return strings.Join(cmd.Args[5:], " ")
}

// A history is what has been done, the last of it in full.
type history struct {
	mu           sync.Mutex
	log          io.Writer // of all
	began        time.Time
	last         []*result
	steps, kills int
}

const remembered = 400

func (h *history) add(r *result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.steps++
	if r.killed {
		h.kills++
	}
	if h.log != nil {
		fmt.Fprintln(h.log, r.text(h.began))
	}
	h.last = append(h.last, r)
	if len(h.last) > 2*remembered {
		h.last = slices.Clone(h.last[remembered:])
	}
}

func (h *history) count() int  { h.mu.Lock(); defer h.mu.Unlock(); return h.steps }
func (h *history) killed() int { h.mu.Lock(); defer h.mu.Unlock(); return h.kills }

// text is a step with its times, and what was said.
func (r *result) text(since time.Time) string {
	line := fmt.Sprintf("%9.3f s +%4d ms  %2d  %s", r.began.Sub(since).Seconds(), r.took.Milliseconds(), r.worker, r.line())
	if text := strings.TrimSpace(r.stderr); text != "" {
		line += "\n" + strings.Repeat(" ", 28) + strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", 28))
	}
	return line
}

// lines tells the last n steps.
func (h *history) lines(n int) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var lines []string
	for _, r := range h.last[max(0, len(h.last)-n):] {
		lines = append(lines, r.text(h.began))
	}
	return lines
}
