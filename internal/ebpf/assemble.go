package ebpf

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// A Reg is a register. R0 has what a call returns, and what the program does; R1 to R5 are
// arguments, and lost by a call; R6 to R9 are kept. R10 is the end of the stack.
type Reg uint8

const (
	R0 Reg = iota
	R1
	R2
	R3
	R4
	R5
	R6
	R7
	R8
	R9
	R10
)

// A Size is that of what is loaded or stored.
type Size uint8

const (
	Word   Size = 0x00 // 32 bits
	Half   Size = 0x08
	Double Size = 0x18 // 64 bits
)

// An Op is an arithmetic operation.
type Op uint8

const (
	Add Op = 0x00
	Sub Op = 0x10
	And Op = 0x50
	Shr Op = 0x70
)

// A Cond is a comparison.
type Cond uint8

const (
	Equal    Cond = 0x10
	NotEqual Cond = 0x50
)

// Instruction classes and modes, linux/bpf_common.h and linux/bpf.h.
const (
	ldx, st, stx, jmp, alu64, alu = 0x01, 0x02, 0x03, 0x05, 0x07, 0x04

	mem, fromReg      = 0x60, 0x08
	mov, end          = 0xb0, 0xd0
	call              = 0x80
	exit, loadImm64   = 0x90, 0x18
	pseudoMapFD       = 1
	instructionLength = 8
)

// A Code is a program that is being written. Its zero value is empty.
type Code struct {
	b      []byte
	labels map[string]int
	jumps  []jump
}

type jump struct {
	at int // which instruction
	to string
}

func (c *Code) add(op uint8, dst, src Reg, off int16, imm int32) {
	c.b = append(c.b, op, uint8(dst)|uint8(src)<<4)
	c.b = binary.NativeEndian.AppendUint16(c.b, uint16(off))
	c.b = binary.NativeEndian.AppendUint32(c.b, uint32(imm))
}

func (c *Code) len() int { return len(c.b) / instructionLength }

// Load is dst = *(size *)(src + off).
func (c *Code) Load(size Size, dst, src Reg, off int16) {
	c.add(ldx|mem|uint8(size), dst, src, off, 0)
}

// Store is *(size *)(dst + off) = src.
func (c *Code) Store(size Size, dst Reg, off int16, src Reg) {
	c.add(stx|mem|uint8(size), dst, src, off, 0)
}

// StoreImm is *(size *)(dst + off) = value.
func (c *Code) StoreImm(size Size, dst Reg, off int16, value int32) {
	c.add(st|mem|uint8(size), dst, 0, off, value)
}

// Mov is dst = src.
func (c *Code) Mov(dst, src Reg) { c.add(alu64|mov|fromReg, dst, src, 0, 0) }

// MovImm is dst = value.
func (c *Code) MovImm(dst Reg, value int32) { c.add(alu64|mov, dst, 0, 0, value) }

// Do is dst = dst op src.
func (c *Code) Do(op Op, dst, src Reg) { c.add(alu64|uint8(op)|fromReg, dst, src, 0, 0) }

// DoImm is dst = dst op value.
func (c *Code) DoImm(op Op, dst Reg, value int32) { c.add(alu64|uint8(op), dst, 0, 0, value) }

// NetHalf changes the low 16 bits from the byte order of networks to that of the machine,
// or back, and clears the others.
func (c *Code) NetHalf(dst Reg) { c.add(alu|end|fromReg, dst, 0, 0, 16) }

// LoadMap is dst = the map.
func (c *Code) LoadMap(dst Reg, m *Map) {
	c.add(loadImm64, dst, pseudoMapFD, 0, int32(m.f.Fd()))
	c.add(0, 0, 0, 0, 0)
}

// Call calls a function of the kernel; its number is that of linux/bpf.h.
func (c *Code) Call(function int32) { c.add(jmp|call, 0, 0, 0, function) }

// If goes to a label if a register compares so with a value.
func (c *Code) If(r Reg, cond Cond, value int32, label string) {
	c.jumps = append(c.jumps, jump{c.len(), label})
	c.add(jmp|uint8(cond), r, 0, 0, value)
}

// IfReg goes to a label if two registers compare so.
func (c *Code) IfReg(a Reg, cond Cond, b Reg, label string) {
	c.jumps = append(c.jumps, jump{c.len(), label})
	c.add(jmp|uint8(cond)|fromReg, a, b, 0, 0)
}

// Label gives the next instruction a name to go to.
func (c *Code) Label(name string) {
	if c.labels == nil {
		c.labels = make(map[string]int)
	}
	c.labels[name] = c.len()
}

// Exit ends the program.
func (c *Code) Exit() { c.add(jmp|exit, 0, 0, 0, 0) }

// assemble returns the instructions, with all that is gone to.
func (c *Code) assemble() ([]byte, error) {
	b := slices.Clone(c.b)
	for _, j := range c.jumps {
		to, known := c.labels[j.to]
		if !known {
			return nil, fmt.Errorf("no label %q", j.to)
		}
		binary.NativeEndian.PutUint16(b[j.at*instructionLength+2:], uint16(to-j.at-1))
	}
	return b, nil
}
