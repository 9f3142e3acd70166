package seccomp

import (
	"cmp"
	"math"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Where struct seccomp_data has what. Both architectures are little-endian.
const (
	offNumber = 0
	offArch   = 4
)

func offLow(arg uint) uint32  { return 16 + 8*uint32(arg) }
func offHigh(arg uint) uint32 { return offLow(arg) + 4 }

// chain writes the rules of a call in the order given, and what holds when no
// rule's conditions do.
func (a *assembler) chain(rules []rule, otherwise verdict, narrow bool) label {
	next := a.ret(otherwise)
	for end := len(rules); end > 0; {
		begin := end - 1
		for begin > 0 && rules[begin-1].verdict == rules[end-1].verdict {
			begin--
		}
		next = a.anyOf(rules[begin:end], narrow, next)
		end = begin
	}
	return next
}

// anyOf writes rules with the same verdict. Those that look at the same argument
// only become one search of its value: a list of socket families is a dozen
// instructions, not a hundred.
func (a *assembler) anyOf(rules []rule, narrow bool, next label) label {
	v := rules[0].verdict
	var simple [6]bool
	for _, r := range rules {
		if r.simple() {
			simple[r.conds[0].Index] = true
			continue
		}
		at := a.ret(v)
		for _, c := range r.conds {
			at = a.condition(c, narrow, at, next)
		}
		next = at
	}
	for arg := range uint(len(simple)) {
		if !simple[arg] {
			continue
		}
		values := set(a.setRoom[:0])
		for _, r := range rules {
			if r.simple() && r.conds[0].Index == arg {
				values = appendValues(values, r.conds[0], narrow)
			}
		}
		next = a.member(arg, values.union(), narrow, a.ret(v), next)
	}
	return next
}

// simple reports whether a rule depends on whether one argument is in a set.
func (r *rule) simple() bool { return len(r.conds) == 1 && r.conds[0].Op != specs.OpMaskedEqual }

func (a *assembler) condition(c specs.LinuxSeccompArg, narrow bool, yes, no label) label {
	if c.Op == specs.OpMaskedEqual {
		return a.masked(c, narrow, yes, no)
	}
	return a.member(c.Index, appendValues(a.setRoom[:0], c, narrow), narrow, yes, no)
}

// masked compares the bits of an argument that are in Value with those of
// ValueTwo.
func (a *assembler) masked(c specs.LinuxSeccompArg, narrow bool, yes, no label) label {
	mask, want := c.Value, c.Value&c.ValueTwo
	if narrow {
		mask, want = mask&math.MaxUint32, narrowed(want)
	}
	if want&^mask != 0 {
		return no
	}
	for _, half := range []struct {
		offset     uint32
		mask, want uint32
	}{
		{offLow(c.Index), uint32(mask), uint32(want)},
		{offHigh(c.Index), uint32(mask >> 32), uint32(want >> 32)},
	} {
		if half.mask == 0 {
			continue
		}
		yes = a.branch(opEqual, half.want, yes, no)
		if half.mask != math.MaxUint32 {
			yes = a.and(half.mask, yes)
		}
		yes = a.load(half.offset, yes)
	}
	return yes
}

// member asks whether an argument is in a set: by its high half, and by the low one
// where that does not decide it.
func (a *assembler) member(arg uint, s set, narrow bool, yes, no label) label {
	pick := func(sp span) label {
		if sp.to == in {
			return yes
		}
		return no
	}
	var high, low [40]span
	if narrow {
		return a.find(offLow(arg), s.low(low[:0], 0), pick)
	}
	return a.find(offHigh(arg), s.high(high[:0]), func(sp span) label {
		if sp.to.kind != depends {
			return pick(sp)
		}
		return a.find(offLow(arg), s.low(low[:0], sp.to.value), pick)
	})
}

// A set of numbers is intervals in order, apart from each other.
type set []interval

type interval struct{ min, max uint64 }

// What holds for the numbers of a span: they are in a set, or not, or that depends
// on the other half.
var (
	out = target{kind: 0}
	in  = target{kind: 1}
)

const depends = 2 // the kind of a target; its value is the half known

// narrowed is what a 64-bit number of a profile means where arguments have 32 bits.
// Negative ones are meant to be negative there, too.
func narrowed(v uint64) uint64 {
	if int64(v) < 0 && int64(v) >= math.MinInt32 {
		return v & math.MaxUint32
	}
	return v
}

// appendValues appends the values for which a condition holds.
func appendValues(s set, c specs.LinuxSeccompArg, narrow bool) set {
	v, max := c.Value, uint64(math.MaxUint64)
	if narrow {
		v, max = narrowed(v), math.MaxUint32
	}
	add := func(from, to uint64) {
		if from <= to && from <= max {
			s = append(s, interval{from, min(to, max)})
		}
	}
	switch c.Op {
	case specs.OpEqualTo:
		add(v, v)
	case specs.OpNotEqual:
		if v > 0 {
			add(0, v-1)
		}
		if v < max {
			add(v+1, max)
		}
	case specs.OpLessThan:
		if v > 0 {
			add(0, v-1)
		}
	case specs.OpLessEqual:
		add(0, v)
	case specs.OpGreaterThan:
		if v < max {
			add(v+1, max)
		}
	case specs.OpGreaterEqual:
		add(v, max)
	}
	return s
}

// union puts intervals in order, and together where they meet.
func (s set) union() set {
	slices.SortFunc(s, func(a, b interval) int { return cmp.Compare(a.min, b.min) })
	joined := s[:0]
	for _, i := range s {
		if n := len(joined) - 1; n >= 0 && (i.min <= joined[n].max || i.min-1 == joined[n].max) {
			joined[n].max = max(joined[n].max, i.max)
			continue
		}
		joined = append(joined, i)
	}
	return joined
}

// high appends the spans of the high half.
func (s set) high(spans []span) []span {
	spans = append(spans, span{0, out})
	for _, i := range s {
		first, last := i.min>>32, i.max>>32
		if i.min != first<<32 {
			spans = appendSpan(spans, uint32(first), target{depends, uint32(first)})
			first++
		}
		if first <= last {
			spans = appendSpan(spans, uint32(first), in)
			if i.max != last<<32|math.MaxUint32 {
				spans = appendSpan(spans, uint32(last), target{depends, uint32(last)})
			}
		}
		if last < math.MaxUint32 {
			spans = appendSpan(spans, uint32(last)+1, out)
		}
	}
	return spans
}

// low appends the spans of the low half where the high half is as given.
func (s set) low(spans []span, high uint32) []span {
	spans = append(spans, span{0, out})
	begin, end := uint64(high)<<32, uint64(high)<<32|math.MaxUint32
	for _, i := range s {
		if i.max < begin || i.min > end {
			continue
		}
		spans = appendSpan(spans, uint32(max(i.min, begin)), in)
		if i.max < end {
			spans = appendSpan(spans, uint32(i.max+1), out)
		}
	}
	return spans
}
