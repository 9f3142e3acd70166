#include "textflag.h"

// The offsets of type call.
#define NR 0
#define ARG(i) (8+8*i)
#define MODE 56
#define WANT 64
#define TRIED 72
#define ERRNO 80
#define SIZE 88

// func clone3(args *cloneArgs, size uintptr, calls *call, n uintptr) uintptr
//
// The child may share the stack of the parent, which runs on; it must not touch it,
// and never returns. SYSCALL keeps all registers but AX, CX and R11.
TEXT ·clone3(SB), NOSPLIT, $0-40
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	calls+16(FP), R12
	MOVQ	n+24(FP), R13
	MOVQ	$435, AX // clone3
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	MOVQ	AX, ret+32(FP)
	RET

child:
	TESTQ	R13, R13
	JZ	exit
	MOVQ	$1, TRIED(R12)
	MOVQ	NR(R12), AX
	MOVQ	ARG(0)(R12), DI
	MOVQ	ARG(1)(R12), SI
	MOVQ	ARG(2)(R12), DX
	MOVQ	ARG(3)(R12), R10
	MOVQ	ARG(4)(R12), R8
	MOVQ	ARG(5)(R12), R9
	SYSCALL
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
	CMPQ	MODE(R12), $2 // expect
	JNE	next
	CMPQ	AX, WANT(R12)
	JEQ	next
	MOVQ	$4096, ERRNO(R12) // unexpected
	JMP	exit

failed:
	NEGQ	AX
	MOVQ	AX, ERRNO(R12)
	CMPQ	MODE(R12), $1 // try
	JEQ	next
	CMPQ	MODE(R12), $3 // exec
	JNE	exit
	CMPQ	AX, $2 // ENOENT
	JEQ	next
	CMPQ	AX, $13 // EACCES
	JEQ	next
	CMPQ	AX, $20 // ENOTDIR
	JNE	exit

next:
	ADDQ	$SIZE, R12
	DECQ	R13
	JMP	child

exit:
	MOVQ	$127, DI
	MOVQ	$231, AX // exit_group
	SYSCALL
	INT	$3
