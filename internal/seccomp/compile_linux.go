package seccomp

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Kinds of targets of system call numbers.
const (
	verdictKind = iota // value is the verdict
	callKind           // it depends on the arguments; value is the index of names
)

// program writes the filter of a profile.
func (p *profile) program() ([]unix.SockFilter, error) {
	for _, a := range p.abis {
		for i := range a.muxes {
			p.mux(&a.muxes[i])
		}
	}
	a := newAssembler()
	next := a.ret(unix.SECCOMP_RET_KILL_PROCESS) // another architecture
	for _, on := range slices.Backward(p.abis) {
		if on != &x32 {
			next = p.numbers(a, on, next)
		}
	}
	a.load(offArch, next)
	if a.tooLong {
		return nil, fmt.Errorf("linux.seccomp: %w: the filter would have more than %d instructions", ErrInvalid, unix.BPF_MAXINSNS)
	}
	slices.Reverse(a.code)
	return a.code, nil
}

// numbers writes the search for a system call's number among those of an abi, and
// goes on with next where the architecture is another.
func (p *profile) numbers(a *assembler, on *abi, next label) label {
	spans := p.spans(p.spansRoom[:0], on)
	if on == &amd64 {
		// The numbers of x32 are no numbers of x86_64, and from bit 31 on
		// there are none at all: a tracer that has a call skipped makes
		// its number -1.
		beyond := spans[len(spans)-1].to
		if slices.Contains(p.abis, &x32) {
			spans = p.spans(spans, &x32)
		} else {
			spans = appendSpan(spans, x32Bit, target{verdictKind, unix.SECCOMP_RET_KILL_PROCESS})
		}
		spans = appendSpan(spans, 2*x32Bit, beyond)
	}
	var room [16]written
	done := room[:0]
	found := a.find(offNumber, spans, func(s span) label {
		if s.to.kind == verdictKind {
			return a.ret(verdict(s.to.value))
		}
		for _, w := range done {
			if w.call == s.to.value {
				return w.at
			}
		}
		call := &p.calls[s.to.value]
		at := a.chain(p.decide(call), p.otherwise(call), on.narrow)
		done = append(done, written{s.to.value, at})
		return at
	})
	return a.branch(opEqual, on.audit, found, next)
}

// A written call may be met again: x86_64 and x32 share what follows the number.
type written struct {
	call uint32
	at   label
}

// spans appends what holds for the numbers from the abi's first on.
func (p *profile) spans(spans []span, a *abi) []span {
	calls := a.calls
	for len(calls) > 0 && !p.calls[calls[len(calls)-1].name].named {
		calls = calls[:len(calls)-1]
	}
	next := a.base
	for _, c := range calls {
		if nr := a.base + c.nr; nr > next {
			spans = appendSpan(spans, next, target{verdictKind, uint32(p.fallback)})
			next = nr
		}
		to := target{callKind, uint32(c.name)}
		if s := &p.calls[c.name]; !p.depends(s) {
			to = target{verdictKind, uint32(p.otherwise(s))}
		}
		spans = appendSpan(spans, next, to)
		next++
	}
	beyond := p.fallback
	if len(calls) > 0 && !p.fallback.permits() {
		beyond = unix.SECCOMP_RET_ERRNO | verdict(unix.ENOSYS)
	}
	return appendSpan(spans, next, target{verdictKind, uint32(beyond)})
}
