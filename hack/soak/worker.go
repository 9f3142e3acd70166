//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// A worker does one thing after the other, by chance.
type worker struct {
	s         *soak
	number    int
	chance    *rand.Rand
	killAfter time.Duration // the next command, if it is not 0
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
	w.mine = map[string]*knowledge{
		fmt.Sprintf("soak-own%d-a", w.number): {sure: true},
		fmt.Sprintf("soak-own%d-b", w.number): {sure: true},
	}
}

// pod picks one: half of the time one that nobody else changes, else one that all do.
func (w *worker) pod() string {
	if w.chance.IntN(2) == 0 {
		return fmt.Sprintf("soak-own%d-%c", w.number, "ab"[w.chance.IntN(2)])
	}
	return fmt.Sprintf("soak-all-%d", w.chance.IntN(3))
}

// step does one thing.
func (w *worker) step() {
	w.killAfter = 0
	// Most commands take 5 to 30 ms.
	if w.chance.IntN(12) == 0 {
		w.killAfter = time.Duration(1 + w.chance.IntN(25_000_000))
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
	if r.killed || r.code == 0 {
		return r
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
	return r
}
