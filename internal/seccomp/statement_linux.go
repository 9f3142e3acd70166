package seccomp

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// otherwise returns the verdict on a call where no rule's conditions hold.
func (p *profile) otherwise(s *statement) verdict {
	if s.always {
		return s.plain
	}
	return p.fallback
}

// counts reports whether the verdict of a rule with conditions is to be looked at.
func (p *profile) counts(s *statement, v verdict) bool {
	if s.always {
		return v.stricter(s.plain)
	}
	return v != p.fallback
}

// depends reports whether a call's arguments matter.
func (p *profile) depends(s *statement) bool {
	for n := s.first; n != 0; n = p.rules[n-1].next {
		if p.counts(s, p.rules[n-1].verdict) {
			return true
		}
	}
	return false
}

// decide returns the rules of a call that its arguments decide about, the strictest
// first.
func (p *profile) decide(s *statement) []rule {
	rules := make([]rule, 0, 32)
	for n := s.first; n != 0; n = p.rules[n-1].next {
		if r := p.rules[n-1].rule; !s.always || p.counts(s, r.verdict) {
			rules = append(rules, r)
		}
	}
	slices.SortStableFunc(rules, func(a, b rule) int {
		switch {
		case a.verdict.stricter(b.verdict):
			return -1
		case b.verdict.stricter(a.verdict):
			return 1
		}
		return 0
	})
	return rules
}

// mux adds to what is said of a multiplexer what is said of the calls behind it. No
// abi without it has a call of its name.
func (p *profile) mux(m *mux) {
	n, _ := find(m.name)
	say := &p.calls[n]
	for nr, sub := range m.subs {
		n, known := find(sub)
		if !known {
			continue // a gap
		}
		v, ok := p.blind(&p.calls[n])
		if !ok || say.always && !p.counts(say, v) {
			continue
		}
		say.named = true
		p.list(say, rule{v, []specs.LinuxSeccompArg{
			{Index: 0, Value: m.mask, ValueTwo: uint64(nr), Op: specs.OpMaskedEqual},
		}})
	}
}

// blind returns the verdict on a call whose arguments are not seen: the strictest
// that they could lead to. There is none where that would say no more than the
// profile says of calls that it does not name.
func (p *profile) blind(s *statement) (v verdict, ok bool) {
	v, ok = p.otherwise(s), s.always
	for n := s.first; n != 0; n = p.rules[n-1].next {
		if r := p.rules[n-1].rule; r.verdict.stricter(v) {
			v, ok = r.verdict, true
		}
	}
	return v, ok
}
