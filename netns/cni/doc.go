// Package cni connects network namespaces to networks by the plugins of the Container
// Network Interface (CNI), versions 0.1.0 to 1.1.0, as Kubernetes' runtimes do: a
// [Driver] finds the networks that the administrator has described in a directory, and
// runs the programs that they name.
//
// What speaks the protocol is libcni. This package adds what it leaves to its caller:
// which files are trusted, how a plugin is run (its time, what it may say, its
// processes, what it inherits), what is believed of its answer, and that an
// [Attachment] holds all that it takes to undo it, whatever becomes of the files that it
// was made by.
//
// A plugin is a stranger's program with all the privileges of its caller. It is not
// confined. It runs in the network namespace of the calling process, in a session of its
// own, with no descriptors but its three streams, and is killed, with its process group, when
// the caller's context or the time of the Driver ends, or with the calling process.
//
// Package cni knows nothing of pods. It needs root. Its functions may be called from any
// goroutine; two at work on the same Attachment must be kept apart by their caller.
package cni
