// Package doorstep holds the program that a container's process is for a moment,
// between package launcher and the program that it is to run: a freestanding ELF
// binary of 700 bytes, built from doorstep.c and embedded for the architecture at
// hand.
//
// What a container executes is the container's to say: its /bin/sh may be a link to
// /proc/self/exe, or a script whose interpreter is that. Executed by the launcher's
// child, which is the launcher's program still, it runs that inside of the container,
// whose other processes can then open the file and, once nobody executes it any
// more, write to it (CVE-2019-5736). So the child executes this program first, from a
// sealed memfd, and it the container's: /proc/self/exe is something that nobody can
// change, and no descriptor of the launcher is open any more.
//
//	doorstep PATH... "" ARG0 [ARG...]
//
// It makes [StatusFD] close-on-exec, executes the first PATH that can be executed, as
// execvp(3) does, and otherwise writes to StatusFD why not, for [Failed], and exits with
// 127. It has the environment that the program is to have. A filter of system calls
// must let it have execve, fcntl, write and exit_group.
package doorstep

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

//go:generate ../../../hack/build-c.sh .

// StatusFD is the descriptor on which the program tells why it could not execute
// anything: a pipe, which it closes if it could.
const StatusFD = 3

// Binary returns the program for this architecture, an ELF executable. The caller
// must not modify it.
func Binary() []byte { return program }

// Args returns its arguments: it is to execute the first of paths that it can, none of
// which is empty, with the arguments argv.
func Args(paths, argv []string) []string {
	return slices.Concat([]string{"doorstep"}, paths, []string{""}, argv)
}

// StatusSize is the number of bytes that it writes if it fails.
const StatusSize = 8

// Failed reads what it has written: the index of the path that tells most, and the
// error of executing that. It reports whether the text can be trusted that far: other
// processes of the container may have written it.
func Failed(status []byte, paths int) (path int, err unix.Errno, ok bool) {
	if len(status) != StatusSize {
		return 0, 0, false
	}
	i, e := binary.NativeEndian.Uint32(status), binary.NativeEndian.Uint32(status[4:])
	const maxErrno = 4095
	if int(i) >= paths || e == 0 || e > maxErrno {
		return 0, 0, false
	}
	return int(i), unix.Errno(e), true
}
