package seccomp

import "golang.org/x/sys/unix"

// An assembler writes a program from its end to its beginning: the jumps of BPF
// go forwards only, so that way their targets are there before them. A part that
// several others jump to is written once.
type assembler struct {
	code    []unix.SockFilter // the last instruction comes first
	returns []label           // the nearest one for each verdict
	tooLong bool              // than the kernel accepts: the rest is not kept

	returnsRoom [8]label // see profile
	setRoom     [64]interval
}

func newAssembler() *assembler {
	a := &assembler{code: make([]unix.SockFilter, 0, 512)}
	a.returns = a.returnsRoom[:0]
	return a
}

// A label is the index of an instruction in assembler.code.
type label int

// The farthest that a conditional jump reaches.
const reach = 255

// The instructions of a filter. With these alone, the kernel finds out when a
// filter is installed which calls it always allows, and does not run it for them
// any more: kernel/seccomp.c, seccomp_is_const_allow (Linux 5.11).
const (
	opLoad   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opJump   = unix.BPF_JMP | unix.BPF_JA
	opEqual  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opNotLow = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	opReturn = unix.BPF_RET | unix.BPF_K
)

func (a *assembler) emit(ins unix.SockFilter) label {
	if len(a.code) == unix.BPF_MAXINSNS {
		a.tooLong = true
	} else {
		a.code = append(a.code, ins)
	}
	return label(len(a.code) - 1)
}

// distance is how far the next instruction would have to jump.
func (a *assembler) distance(to label) int { return len(a.code) - 1 - int(to) }

// near returns a label that does as to does, right behind the next instruction.
func (a *assembler) near(to label) label {
	switch ins := a.code[to]; {
	case a.distance(to) == 0:
		return to
	case ins.Code == opReturn:
		return a.emitReturn(ins.K)
	default:
		return a.emit(unix.SockFilter{Code: opJump, K: uint32(a.distance(to))})
	}
}

// nearest returns a label that does as to does. Of returns there are copies.
func (a *assembler) nearest(to label) label {
	if ins := a.code[to]; ins.Code == opReturn {
		return a.ret(verdict(ins.K))
	}
	return to
}

// ret ends the program.
func (a *assembler) ret(v verdict) label {
	for _, at := range a.returns {
		if a.code[at].K == uint32(v) {
			return at
		}
	}
	return a.emitReturn(uint32(v))
}

func (a *assembler) emitReturn(k uint32) label {
	at := a.emit(unix.SockFilter{Code: opReturn, K: k})
	for i, old := range a.returns {
		if a.code[old].K == k {
			a.returns[i] = at
			return at
		}
	}
	a.returns = append(a.returns, at)
	return at
}

// load reads 32 bits of struct seccomp_data and goes on with next.
func (a *assembler) load(offset uint32, next label) label {
	a.near(next)
	return a.emit(unix.SockFilter{Code: opLoad, K: offset})
}

// and masks what was loaded and goes on with next.
func (a *assembler) and(mask uint32, next label) label {
	a.near(next)
	return a.emit(unix.SockFilter{Code: opAnd, K: mask})
}

// branch compares what was loaded with k.
func (a *assembler) branch(op uint16, k uint32, yes, no label) label {
	if yes, no = a.nearest(yes), a.nearest(no); yes == no {
		return yes
	}
	// What is put here to reach one of them takes the other farther away.
	for a.distance(yes) > reach || a.distance(no) > reach {
		if a.distance(yes) > a.distance(no) {
			yes = a.near(yes)
		} else {
			no = a.near(no)
		}
	}
	return a.emit(unix.SockFilter{Code: op, Jt: uint8(a.distance(yes)), Jf: uint8(a.distance(no)), K: k})
}

// A span is the numbers from from up to the next span. Spans are in order, the
// first begins at 0, and neighbours have different targets.
type span struct {
	from uint32
	to   target
}

// A target is the end of a search. What it means is known to those who search.
type target struct{ kind, value uint32 }

// appendSpan adds what holds for the numbers from from on, whatever was said of them
// before.
func appendSpan(spans []span, from uint32, to target) []span {
	n := len(spans)
	for n > 0 && spans[n-1].from >= from {
		n--
	}
	if n > 0 && spans[n-1].to == to {
		return spans[:n]
	}
	return append(spans[:n], span{from, to})
}

// find loads a word and searches it in spans.
func (a *assembler) find(offset uint32, spans []span, resolve func(span) label) label {
	if len(spans) == 1 {
		return resolve(spans[0])
	}
	return a.load(offset, a.search(spans, resolve))
}

// search is a binary search for what was loaded, nearly balanced. resolve writes
// what is done with the numbers of a span.
func (a *assembler) search(spans []span, resolve func(span) label) label {
	n := len(spans)
	switch {
	case n == 1:
		return resolve(spans[0])
	case n <= 7 && exception(spans, 1):
		others := a.search(spans[2:], resolve)
		return a.branch(opEqual, spans[1].from, resolve(spans[1]), others)
	case n <= 7 && exception(spans, n-2):
		others := a.search(spans[:n-2], resolve)
		return a.branch(opEqual, spans[n-2].from, resolve(spans[n-2]), others)
	}
	mid := middle(spans)
	high := a.search(spans[mid:], resolve)
	low := a.search(spans[:mid], resolve)
	return a.branch(opNotLow, spans[mid].from, high, low)
}

// exception reports whether a span is one number among others that fare alike. To
// tell it from them takes one comparison, if it is not taken away from them before.
func exception(spans []span, i int) bool {
	return i > 0 && i < len(spans)-1 && spans[i-1].to == spans[i+1].to && spans[i].from+1 == spans[i+1].from
}

// middle returns where to split spans: in the middle, or where near to it no
// exception is taken away from the others.
func middle(spans []span) int {
	mid := len(spans) / 2
	for d := range len(spans)/4 + 1 {
		for _, i := range [2]int{mid - d, mid + d} {
			if !exception(spans, i-1) && !exception(spans, i) {
				return i
			}
		}
	}
	return mid
}
