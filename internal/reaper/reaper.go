// Package reaper holds the program that is PID 1 of a container which asks for one:
// a freestanding ELF binary of 2.5 KB, built from reaper.c and embedded for the
// architecture at hand, so that building podbox needs no C compiler.
//
// # What its launcher provides
//
//	reaper -- PROGRAM [ARGUMENT...]
//
// The program is executed from a sealed memfd as PID 1 of a PID namespace, with all
// that PROGRAM is to have: its user, capabilities, seccomp filter, root, working
// directory, environment and open files. PROGRAM without a slash is searched for in
// the PATH of that environment, as by execvp(3); a file without a format is not
// given to a shell.
//
// The launcher should have blocked all signals: then none is lost from the first
// instruction on, and PROGRAM starts with none blocked. If not all are blocked,
// PROGRAM starts with those that are, and a signal that comes before the reaper has
// started is dropped by the kernel, as any that PID 1 does not handle. SIGCHLD is
// not ignored in PROGRAM, even if the launcher ignores it.
//
// # What it does
//
// It runs PROGRAM as its child in a process group of its own, which becomes the
// foreground of the terminal if standard input is the controlling one. It forwards
// every signal that can be caught but SIGCHLD, reaps whatever is orphaned in its PID
// namespace, and ends as soon as PROGRAM does; the kernel then kills what is left
// there. In a PID namespace that it shares with others it is a subreaper for what
// PROGRAM starts, and whoever started it must kill what is left.
//
// It needs neither /proc nor /dev nor privileges, and works with no_new_privs. It
// keeps no file open, and its working directory is the root. It cannot be traced,
// nor looked at through /proc/1, by members of the container without
// CAP_SYS_PTRACE: what they write to /proc/1/fd/1 in a container without a reaper,
// they must write elsewhere.
//
// # What it refuses to do
//
// It does not start PROGRAM again, does not wait for other processes than PROGRAM,
// sends nothing to groups, and drops no privileges: a process that may signal
// PROGRAM must have them.
//
// # Exit status
//
//	N      that of PROGRAM, or 128 and the number of the signal that ended it
//	125    no PROGRAM given, or it could not be started for want of resources
//	126    PROGRAM cannot be executed
//	127    PROGRAM is not there
//
// The last three come with a line on standard error: "podbox: exec nginx: no such
// file or directory". "reaper -v" prints "podbox-reaper " and [Version].
//
// Kernel floor: Linux 3.4 (PR_SET_CHILD_SUBREAPER).
package reaper

//go:generate ../../hack/build-c.sh .

// Version is the version of the embedded program. It grows with each change of
// what the program promises.
const Version = "1"

// Binary returns the program for this architecture, an ELF executable. The caller
// must not modify it.
func Binary() []byte { return binary }
