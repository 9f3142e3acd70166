package pause_test

import (
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A tracer is a process of its own: any wait in the process that traces, such as
// exec.Cmd's, takes the stops of a child away from the others.
func init() {
	helpers["call"] = callAll
	helpers["other-table"] = otherTable
}

// TestSeal makes the pause itself try system calls, as an attacker would who
// controls its registers.
func TestSeal(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		p := hold(t, program)
		if out, err := helper("call", strconv.Itoa(p.pid())).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		// It goes on as if nothing had been.
		p.await(t, "dormant", p.dormant)
		p.signal(t, unix.SIGTERM)
		p.wantExit(t, 0)
	})
}

// TestSealOtherTable makes the pause call through the table of i386.
func TestSealOtherTable(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		p := hold(t, program)
		if out, err := helper("other-table", strconv.Itoa(p.pid())).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		select {
		case <-p.exited:
		case <-time.After(patience):
			t.Fatalf("still there:\n%s", p.status())
		}
		switch p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() {
		case unix.SIGSYS:
		case unix.SIGSEGV:
			t.Skip("kernel without IA32 emulation")
		default:
			t.Errorf("%v, want SIGSYS", p.cmd.ProcessState)
		}
	})
}

// callAll expects EPERM for everything that is not on the pause's list.
func callAll(args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	const x32 = 0x40000000
	var errs []error
	err = trace(pid, func(call func(nr uint64) (int64, error)) error {
		for _, nr := range []uint64{
			unix.SYS_GETPID, unix.SYS_READ, unix.SYS_OPENAT, unix.SYS_MMAP, unix.SYS_EXECVE,
			unix.SYS_CLONE, unix.SYS_KILL, unix.SYS_PTRACE, unix.SYS_SETNS, unix.SYS_PRCTL,
			unix.SYS_RT_SIGACTION, unix.SYS_RESTART_SYSCALL, unix.SYS_EXIT, 100000,
			x32 | unix.SYS_GETPID, x32 | unix.SYS_RT_SIGTIMEDWAIT, x32 | unix.SYS_EXIT_GROUP,
		} {
			ret, err := call(nr)
			if err != nil {
				return err
			}
			if ret != -int64(unix.EPERM) {
				errs = append(errs, fmt.Errorf("system call %#x returns %d, want -EPERM", nr, ret))
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

// otherTable patches the pause's syscall instruction to int $0x80, where numbers
// mean something else, and lets go.
func otherTable(args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	regs, err := attach(pid)
	if err != nil {
		return err
	}
	regs.Rip -= 2
	regs.Rax, regs.Orig_rax = 20, ^uint64(0) // getpid
	if _, err := unix.PtracePokeText(pid, uintptr(regs.Rip), []byte{0xcd, 0x80}); err != nil {
		return err
	}
	if err := unix.PtraceSetRegs(pid, &regs); err != nil {
		return err
	}
	return unix.PtraceDetach(pid)
}

// trace stops the process, lets f make calls in it and sets it free as it was.
func trace(pid int, f func(call func(nr uint64) (int64, error)) error) error {
	saved, err := attach(pid)
	if err != nil {
		return err
	}
	err = f(func(nr uint64) (int64, error) {
		regs := saved
		regs.Rip -= 2                            // back onto the syscall instruction
		regs.Rax, regs.Orig_rax = nr, ^uint64(0) // and no restart
		regs.Rdi, regs.Rsi, regs.Rdx, regs.R10, regs.R8, regs.R9 = 0, 0, 0, 0, 0, 0
		if err := unix.PtraceSetRegs(pid, &regs); err != nil {
			return 0, err
		}
		for range 2 { // to its entry, to its exit
			if err := unix.PtraceSyscall(pid, 0); err != nil {
				return 0, err
			}
			if err := stopped(pid); err != nil {
				return 0, err
			}
		}
		if err := unix.PtraceGetRegs(pid, &regs); err != nil {
			return 0, err
		}
		return int64(regs.Rax), nil
	})
	if err != nil {
		return err
	}
	if err := unix.PtraceSetRegs(pid, &saved); err != nil {
		return err
	}
	return unix.PtraceDetach(pid)
}

// attach stops a process that sleeps in a system call and returns its registers.
func attach(pid int) (unix.PtraceRegs, error) {
	var regs unix.PtraceRegs
	if err := unix.PtraceSeize(pid); err != nil {
		return regs, fmt.Errorf("seize: %w", err)
	}
	if err := unix.PtraceInterrupt(pid); err != nil {
		return regs, fmt.Errorf("interrupt: %w", err)
	}
	if err := stopped(pid); err != nil {
		return regs, err
	}
	return regs, unix.PtraceGetRegs(pid, &regs)
}

func stopped(pid int) error {
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if !status.Stopped() {
		return fmt.Errorf("not stopped: %#x", status)
	}
	return nil
}
