package reaper_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// emulators are signals that an emulator takes for faults of its own, at times.
var emulators = []unix.Signal{unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV}

// TestForwards sends all signals that can be caught.
func TestForwards(t *testing.T) {
	everyBuild(t, func(t *testing.T, p program) {
		c := start(t, p, helper(t, "signals")...)
		c.want(t, "ready")
		for sig := unix.Signal(1); sig <= 64; sig++ {
			switch sig {
			case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGTERM:
			case unix.SIGURG, unix.SIGPROF: // the Go runtime's own
			case 32, 33, 34: // and those of C libraries
			default:
				if len(p.emulator) > 0 && (sig > 31 || slices.Contains(emulators, sig)) {
					continue
				}
				c.signal(t, sig)
				c.want(t, fmt.Sprint(int(sig)))
			}
		}
		c.signal(t, unix.SIGTERM)
		c.want(t, "15")
		c.wantExit(t, 0)
	})
}

// TestStops stops and continues the program.
func TestStops(t *testing.T) {
	everyBuild(t, func(t *testing.T, p program) {
		c := start(t, p, shell("echo ready; read line; exit 3")...)
		c.want(t, "ready")
		state := func() string {
			for _, s := range c.children(t) {
				return s
			}
			return ""
		}
		c.signal(t, unix.SIGTSTP)
		await(t, "stopped", func() bool { return state() == "T" })
		c.signal(t, unix.SIGCONT)
		await(t, "continued", func() bool { return state() == "S" })
		// The reaper itself bears to be stopped.
		c.signal(t, unix.SIGSTOP)
		c.signal(t, unix.SIGCONT)
		c.in.Close()
		c.wantExit(t, 3)
	})
}

// TestEarlySignal sends SIGTERM before the reaper can have looked.
func TestEarlySignal(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 20
	}
	eachBuild(t, func(t *testing.T, p program) {
		for i := range rounds {
			withBlocked(t, allSignals, func() {
				c := start(t, p, "/bin/sleep", "1000")
				time.Sleep(time.Duration(i) * 5 * time.Microsecond)
				c.signal(t, unix.SIGTERM)
				c.wantExit(t, 128+15)
			})
			if t.Failed() {
				break
			}
		}
	})
}

// TestMask looks at the signals that the program starts with.
func TestMask(t *testing.T) {
	eachBuild(t, func(t *testing.T, p program) {
		for _, test := range []struct{ given, want uint64 }{
			{0, 0},
			{1 << (unix.SIGUSR1 - 1), 1 << (unix.SIGUSR1 - 1)},
			{allSignals &^ (1 << (unix.SIGTERM - 1)), allSignals &^ (1<<(unix.SIGTERM-1) | 1<<(unix.SIGKILL-1) | 1<<(unix.SIGSTOP-1))},
			{allSignals, 0},
		} {
			withBlocked(t, test.given, func() {
				c := start(t, p, "/bin/sleep", "1000")
				await(t, "executed", func() bool {
					for pid := range c.children(t) {
						return statusOf(t, pid, "Name") == "sleep"
					}
					return false
				})
				for pid := range c.children(t) {
					if got := statusOf(t, pid, "SigBlk"); got != fmt.Sprintf("%016x", test.want) {
						t.Errorf("of %x given, %s is blocked, want %016x", test.given, got, test.want)
					}
				}
			})
		}
	})
}

// TestIgnored starts a reaper that inherits ignored signals.
func TestIgnored(t *testing.T) {
	eachBuild(t, func(t *testing.T, p program) {
		argv := append(helper(t, "launch", "-ignore"), p.path, "--", "grep", "SigIgn", "/proc/self/status")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.WaitDelay = time.Second
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var ignored uint64
		if _, err := fmt.Sscanf(field(out, "SigIgn"), "%x", &ignored); err != nil {
			t.Fatal(err)
		}
		if ignored&(1<<(unix.SIGCHLD-1)) != 0 || ignored&(1<<(unix.SIGUSR2-1)) == 0 {
			t.Errorf("ignored: %x, want SIGUSR2 and not SIGCHLD", ignored)
		}
	})
}

// TestTerminal types ^C, once as a container that has the terminal.
func TestTerminal(t *testing.T) {
	everyBuild(t, func(t *testing.T, p program) {
		run := func(argv ...string) (*container, *os.File) {
			t.Helper()
			master, slave := terminal(t)
			cmd := p.command(append([]string{"--"}, argv...)...)
			cmd.Stdin = slave
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			c := startCommand(t, cmd)
			slave.Close()
			return c, master
		}
		c, _ := run(helper(t, "foreground")...)
		c.want(t, "true true")
		c.wantExit(t, 0)

		c, master := run(shell(`trap 'echo INT; n=x$n' INT; echo ready; while [ "$n" != xx ]; do sleep 0.01; done; exit 4`)...)
		c.want(t, "ready")
		for range 2 {
			if _, err := master.WriteString("\x03"); err != nil {
				t.Fatal(err)
			}
			c.want(t, "INT")
		}
		c.wantExit(t, 4)

		// The end of the terminal ends the program.
		c, master = run(shell("echo ready; sleep 1000")...)
		c.want(t, "ready")
		master.Close()
		c.wantExit(t, 128+int(unix.SIGHUP))
	})
}

// terminal returns both ends of a new one.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	n := 0
	conn, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = conn.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}
