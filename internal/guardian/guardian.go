// Package guardian holds the program that is the parent of a pod's supervisor: a
// freestanding ELF binary of a kilobyte, built from guardian.c and embedded for the
// architecture at hand. It starts the supervisor again when that was killed, be it by
// the kernel for want of memory, and costs two pages while it waits. What a supervisor
// that was killed leaves behind becomes its child, and it reaps that.
//
//	guardian ARG0 [ARG...]
//
// It executes the file that is open as [ProgramFD] with these arguments and its own
// environment. When that has exited, so does it, with the same status. When that was ended
// by a signal it starts it again: after 250 ms, and after twice as long each time, up to a
// minute; one that has run for ten minutes begins anew. Descriptor 0 must be the null
// device: the later ones have it as [ReadyFD] too.
package guardian

//go:generate ../../hack/build-c.sh .

const (
	// ReadyFD is the descriptor on which the first one tells that it is ready.
	ReadyFD = 3
	// ProgramFD is that of the program.
	ProgramFD = 4
)

// Binary returns the program for this architecture, an ELF executable. The caller
// must not modify it.
func Binary() []byte { return program }

// Args returns its arguments, with which it executes the program with argv.
func Args(argv []string) []string { return append([]string{"podbox-guardian"}, argv...) }
