package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
)

// makeRaw puts the terminal in raw mode, if f is one, so that each key reaches
// the program as it is. restore brings the old mode back. So does a guard process
// if podbox is killed before it can do so itself.
func makeRaw(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, os.NewSyscallError("ioctl TCGETS", err)
	}
	stop, err := guardTerminal(fd, old)
	if err != nil {
		return nil, fmt.Errorf("guard terminal: %w", err)
	}
	if _, err := term.MakeRaw(fd); err != nil {
		stop()
		return nil, err
	}
	return func() {
		stop()
		_ = unix.IoctlSetTermios(fd, unix.TCSETSW, old)
	}, nil
}

// guardTerminal forks a process that waits for the end of a pipe whose other end
// only we hold, and then sets the terminal's mode. It consists of system calls
// only. stop ends it before it does so.
func guardTerminal(fd int, mode *unix.Termios) (stop func(), err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	tty, err := spawn.DupHigh(fd)
	if err != nil {
		write.Close()
		return nil, err
	}
	defer tty.Close()
	end, err := spawn.DupHigh(int(read.Fd()))
	if err != nil {
		write.Close()
		return nil, err
	}
	defer end.Close()

	var p spawn.Program
	// The guard keeps the session, whose terminal it sets, but leaves the
	// process group, to which the terminal sends its signals. Those are
	// blocked, SIGTTOU too.
	p.Call("setpgid", unix.SYS_SETPGID, 0, 0)
	if err := p.Files([]int{int(tty.Fd()), int(end.Fd())}); err != nil {
		write.Close()
		return nil, err
	}
	p.Call("close_range", unix.SYS_CLOSE_RANGE, 2, uintptr(^uint32(0)), 0)
	p.Expect("wait for the end", 0, unix.SYS_READ, 1, spawn.Pointer(&p, new(byte)), 1)
	p.Try("set mode", unix.SYS_IOCTL, 0, unix.TCSETSW, spawn.Pointer(&p, mode))

	guard, err := p.Fork()
	if err != nil {
		write.Close()
		return nil, err
	}
	return func() {
		_ = proc.Signal(guard.PidFD, unix.SIGKILL)
		var ws unix.WaitStatus
		_, _ = unix.Wait4(guard.PID, &ws, 0, nil)
		guard.PidFD.Close()
		write.Close()
	}, nil
}
