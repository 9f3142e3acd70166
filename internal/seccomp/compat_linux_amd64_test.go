package seccomp

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestCompat makes system calls in the other ways that an x86_64 kernel knows: from
// 32-bit programs, from 64-bit ones by int $0x80, and by the numbers of x32.
func TestCompat(t *testing.T) {
	const socketcall, ipc, getppid = 102, 117, 64
	const socket = 1 // of socketcall
	if status, output := rerun(t, launchEnv, denylist(), executable(t, elf32(getppid))); strings.Contains(output, "exec format error") {
		t.Skipf("the kernel runs no 32-bit programs: status %#x", status)
	}
	docker := defaultProfile(t, dockerCaps)
	native := denylist()
	native.Architectures = nil
	noX32 := denylist()
	noX32.Architectures = []specs.Arch{specs.ArchX86}
	noALG := denylist(with(forbid("socket"), equal(0, unix.AF_ALG)))
	noSHM := denylist(does(specs.ActErrno, "shmget"))
	for _, test := range []struct {
		what    string
		profile *specs.LinuxSeccomp
		program []byte
		want    outcome
	}{
		{"i386", docker, elf32(getppid), fine},
		{"i386, mount", docker, elf32(21), outcome(unix.EPERM)},
		{"i386, a call that is not there yet", docker, elf32(1000), outcome(unix.ENOSYS)},
		{"i386, not named", native, elf32(getppid), killed},
		{"i386 from 64 bits, not named", native, elf64(getppid, 0, 0), killed},
		{"i386, socket", docker, elf32(359, unix.AF_ALG, unix.SOCK_SEQPACKET), outcome(unix.EPERM)},
		{"i386 from 64 bits, socket with a high half", noALG, elf64(359, 1<<32|unix.AF_ALG, unix.SOCK_SEQPACKET), outcome(unix.EPERM)},
		{"i386, socketcall behind which is what is forbidden", noALG, elf32(socketcall, socket), outcome(unix.EPERM)},
		{"i386, socketcall behind which is something else", noALG, elf32(socketcall, socket+1), outcome(unix.EFAULT)},
		{"i386, ipc behind which is what is forbidden", noSHM, elf32(ipc, 23), outcome(unix.EPERM)},
		{"i386, the same with a version", noSHM, elf32(ipc, 1<<16|23), outcome(unix.EPERM)},
		{"i386, ipc behind which is something else", noSHM, elf32(ipc, 22, 0, 0, 0, 1), outcome(unix.EINVAL)},
	} {
		t.Run(test.what, func(t *testing.T) {
			status, output := rerun(t, launchEnv, test.profile, executable(t, test.program))
			if got := outcomeOf(t, status, output); got != test.want {
				t.Errorf("%d (%v), want %d (%v)", got, unix.Errno(got), test.want, unix.Errno(test.want))
			}
		})
	}
	for _, test := range []struct {
		what    string
		profile *specs.LinuxSeccomp
		nr      uintptr
		want    outcome
	}{
		{"x32, not named", native, x32Bit | unix.SYS_GETPPID, killed},
		{"x32, not named, but i386", noX32, x32Bit | unix.SYS_GETPPID, killed},
		{"x32, forbidden", docker, x32Bit | unix.SYS_MOUNT, outcome(unix.EPERM)},
		{"x32, the number of x86_64 alone", docker, x32Bit | unix.SYS_IOCTL, outcome(unix.EPERM)},
	} {
		t.Run(test.what, func(t *testing.T) {
			status, output := rerun(t, probeEnv, trial{test.profile, test.nr, [6]uintptr{}})
			if got := outcomeOf(t, status, output); got != test.want {
				t.Errorf("%d (%v), want %d (%v)", got, unix.Errno(got), test.want, unix.Errno(test.want))
			}
		})
	}
}

// executable writes a program to a file.
func executable(t *testing.T, program []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// exit ends a program with the error number that a call has answered in eax, or
// with 0.
var exit = []byte{
	0x31, 0xdb, // xor ebx, ebx
	0xf7, 0xd8, // neg eax
	0x0f, 0x4f, 0xd8, // cmovg ebx, eax
	0xb8, 1, 0, 0, 0, // mov eax, 1 (exit)
	0xcd, 0x80, // int 0x80
}

// elf32 returns a program for i386 that makes one system call.
func elf32(nr uint32, args ...uint32) []byte {
	code := le([]byte{0xb8}, nr)                                          // mov eax, nr
	for i, op := range []byte{0xbb, 0xb9, 0xba, 0xbe, 0xbf}[:len(args)] { // mov ebx, ecx, edx, esi, edi
		code = le(append(code, op), args[i])
	}
	code = append(append(code, 0xcd, 0x80), exit...)
	b := le([]byte("\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		uint16(2), uint16(3), uint32(1), uint32(base+52+32), uint32(52), uint32(0), uint32(0), // EXEC, 386
		uint16(52), uint16(32), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(0), uint32(base), uint32(base), uint32(4096), uint32(4096), uint32(5), uint32(4096)) // LOAD, R X
	return append(b, append(code, make([]byte, 4096)...)...)
}

// elf64 returns a program for x86_64 that makes one system call by int $0x80.
func elf64(nr uint32, rbx, rcx uint64) []byte {
	code := le(le(le([]byte{0xb8}, nr, uint16(0xbb48)), rbx, uint16(0xb948)), rcx) // mov eax; movabs rbx; movabs rcx
	code = append(append(code, 0xcd, 0x80), exit...)
	b := le([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		uint16(2), uint16(62), uint32(1), uint64(base+64+56), uint64(64), uint64(0), uint32(0), // EXEC, x86_64
		uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), uint64(4096), uint64(4096), uint64(4096)) // LOAD, R X
	return append(b, append(code, make([]byte, 4096)...)...)
}

// base is where the programs are loaded.
const base = 0x400000

func le(b []byte, values ...any) []byte {
	w := bytes.NewBuffer(b)
	for _, v := range values {
		_ = binary.Write(w, binary.LittleEndian, v) // to memory
	}
	return w.Bytes()
}
