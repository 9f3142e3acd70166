// Package nsthread is the one place where podbox changes what an OS thread is:
// its namespaces, its root, its working directory.
//
// Namespaces belong to threads, goroutines move between threads, and the Go
// runtime starts new threads from whichever one is at hand. So a thread that was
// changed must never be used for anything else again. [Do] gives the work to a
// goroutine that is locked to a thread of its own; the thread ends with the work,
// whether it succeeds, fails or panics. Nothing is ever restored, so no restore
// can fail.
//
// Two traps. The closure must not start goroutines that rely on the changed
// state: they run elsewhere. And /proc/self names the main thread: inside the
// closure use /proc/thread-self.
package nsthread

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do runs f on a fresh OS thread which ends when f returns, and returns f's
// error. A panic of f is passed on to the caller.
func Do(f func() error) error {
	err := errors.New("nsthread: function has left its goroutine")
	done := make(chan any, 1)
	go run(func() { err = f() }, done)
	if p := <-done; p != nil {
		panic(p)
	}
	return err
}

func run(f func(), done chan<- any) {
	runtime.LockOSThread()
	// The main thread cannot end, and what it has is what /proc/self shows
	// of the whole process: leave it to a goroutine that waits, and take
	// another.
	if unix.Gettid() == unix.Getpid() {
		other := make(chan any, 1)
		go run(f, other)
		p := <-other
		runtime.UnlockOSThread()
		done <- p
		return
	}
	defer func() { done <- recover() }()
	f()
}

// Unshare gives the calling thread its own copies of what flags names.
func Unshare(flags int) error {
	return os.NewSyscallError("unshare", unix.Unshare(flags))
}

// Join moves the calling thread into namespaces: those of flags that the
// process of a pidfd has, or the one that a /proc/PID/ns file refers to. A
// thread that joins a mount namespace must have called Unshare(CLONE_FS).
func Join(f *os.File, flags int) error {
	if err := unix.Setns(int(f.Fd()), flags); err != nil {
		return fmt.Errorf("join namespaces: %w", os.NewSyscallError("setns", err))
	}
	return nil
}
