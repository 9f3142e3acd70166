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
// and never returns. SVC keeps all registers but R0.
TEXT ·clone3(SB), NOSPLIT, $0-40
	MOVD	args+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	calls+16(FP), R19
	MOVD	n+24(FP), R20
	MOVD	$435, R8 // clone3
	SVC
	CBZ	R0, child
	MOVD	R0, ret+32(FP)
	RET

child:
	CBZ	R20, exit
	MOVD	$1, R10
	MOVD	R10, TRIED(R19)
	MOVD	NR(R19), R8
	MOVD	ARG(0)(R19), R0
	MOVD	ARG(1)(R19), R1
	MOVD	ARG(2)(R19), R2
	MOVD	ARG(3)(R19), R3
	MOVD	ARG(4)(R19), R4
	MOVD	ARG(5)(R19), R5
	SVC
	MOVD	MODE(R19), R9
	CMN	$4095, R0
	BCS	failed
	CMP	$2, R9 // expect
	BNE	next
	MOVD	WANT(R19), R10
	CMP	R10, R0
	BEQ	next
	MOVD	$4096, R10 // unexpected
	MOVD	R10, ERRNO(R19)
	B	exit

failed:
	NEG	R0, R0
	MOVD	R0, ERRNO(R19)
	CMP	$1, R9 // try
	BEQ	next
	CMP	$3, R9 // exec
	BNE	exit
	CMP	$2, R0 // ENOENT
	BEQ	next
	CMP	$13, R0 // EACCES
	BEQ	next
	CMP	$20, R0 // ENOTDIR
	BNE	exit

next:
	ADD	$SIZE, R19
	SUB	$1, R20
	B	child

exit:
	MOVD	$127, R0
	MOVD	$94, R8 // exit_group
	SVC
	BRK
