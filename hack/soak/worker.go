//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A worker does one thing after the other, by chance.
type worker struct {
	s         *soak
	number    int
	chance    *rand.Rand
	killAfter time.Duration // the next command, if it is not 0
	killBy    unix.Signal
	mine      map[string]*knowledge
}

// knowledge is what a worker knows of a pod that only it changes.
type knowledge struct {
	sure   bool   // whether it is there is known
	id, ip string // "" if it is not
}

func newWorker(s *soak, number int) *worker {
	w := &worker{s: s, number: number, chance: rand.New(rand.NewPCG(s.seed, uint64(number)))}
	w.forget()
	return w
}

func (w *worker) forget() {
	w.mine = make(map[string]*knowledge)
	for _, name := range append(w.names()[:own:own], w.kubeNames()[0], w.cniNames()[0]) {
		w.mine[name] = &knowledge{sure: true}
	}
}

// own is how many pods each worker has that nobody else changes.
const own = 2

// names are those of the pods that podbox create makes: the worker's own, and those that all change.
func (w *worker) names() []string {
	return []string{
		fmt.Sprintf("soak-own%d-a", w.number), fmt.Sprintf("soak-own%d-b", w.number),
		"soak-all-0", "soak-all-1", "soak-all-2",
	}
}

// pod picks one: half of the time one of its own.
func (w *worker) pod() string {
	switch w.chance.IntN(8) {
	case 0:
		return w.kubeName()
	case 1:
		return w.cniNames()[w.chance.IntN(2)]
	}
	return w.handMade()
}

// handMade picks one of those that podbox create makes.
func (w *worker) handMade() string {
	names := w.names()
	if w.chance.IntN(2) == 0 {
		return names[w.chance.IntN(own)]
	}
	return names[own+w.chance.IntN(len(names)-own)]
}

// step does one thing.
func (w *worker) step() {
	w.killAfter = 0
	// Most commands take 5 to 30 ms.
	if w.chance.IntN(12) == 0 {
		w.killAfter = time.Duration(1 + w.chance.IntN(25_000_000))
		w.killBy = []unix.Signal{unix.SIGKILL, unix.SIGKILL, unix.SIGTERM}[w.chance.IntN(3)]
	}
	n := w.chance.IntN(total)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			a.do(w)
			return
		}
	}
}

// podbox runs podbox. What it may say when it fails is known; anything else is a fault.
func (w *worker) podbox(args ...string) *result {
	r := w.s.podbox(w, args...)
	w.judge(r)
	return r
}

// judge reads what podbox has said.
func (w *worker) judge(r *result) {
	if r.killed || r.code == 0 {
		return
	}
	text := strings.TrimSpace(r.stderr)
	w.s.noteText(text)
	for line := range strings.Lines(text) {
		if r.code == 125 && !expected(line) {
			w.s.noteText("UNEXPECTED " + r.line() + ": " + text)
			if !w.s.survey {
				w.s.fault("%s: %s", r.line(), text)
			}
			break
		}
	}
}
