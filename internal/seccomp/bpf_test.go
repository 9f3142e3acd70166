package seccomp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// valid reports whether the kernel would take a program, by the rules of
// bpf_check_classic (net/core/filter.c) and seccomp_check_filter (kernel/seccomp.c),
// and whether it keeps to what seccomp_is_const_allow understands, but for the
// loading of arguments.
func valid(code []unix.SockFilter) error {
	if len(code) == 0 || len(code) > unix.BPF_MAXINSNS {
		return fmt.Errorf("%d instructions", len(code))
	}
	for pc, ins := range code {
		rest := len(code) - pc - 1
		bad := false
		switch ins.Code {
		case opLoad:
			bad = ins.K%4 != 0 || ins.K >= 64
		case opAnd, opReturn:
		case opJump:
			bad = ins.K >= uint32(rest)
		case opEqual, opNotLow:
			bad = int(ins.Jt) >= rest || int(ins.Jf) >= rest
		default:
			bad = true
		}
		if bad {
			return fmt.Errorf("instruction %d of %d: %+v", pc, len(code), ins)
		}
	}
	if code[len(code)-1].Code != opReturn {
		return errors.New("the last instruction does not return")
	}
	return nil
}

// run executes a valid program, and says how many instructions that took.
func run(code []unix.SockFilter, d data) (verdict, int) {
	var acc uint32
	steps := 0
	for pc := 0; ; pc++ {
		steps++
		ins := code[pc]
		switch ins.Code {
		case opLoad:
			acc = d.word(ins.K)
		case opAnd:
			acc &= ins.K
		case opJump:
			pc += int(ins.K)
		case opEqual:
			pc += skip(acc == ins.K, ins)
		case opNotLow:
			pc += skip(acc >= ins.K, ins)
		case opReturn:
			return verdict(ins.K), steps
		}
	}
}

func skip(yes bool, ins unix.SockFilter) int {
	if yes {
		return int(ins.Jt)
	}
	return int(ins.Jf)
}

// word reads struct seccomp_data.
func (d data) word(offset uint32) uint32 {
	switch {
	case offset == 0:
		return d.nr
	case offset == 4:
		return d.arch
	case offset < 16:
		return 0xdeadbeef // the instruction pointer
	}
	arg := d.args[(offset-16)/8]
	if offset%8 == 4 {
		return uint32(arg >> 32)
	}
	return uint32(arg)
}
