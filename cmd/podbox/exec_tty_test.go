package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

// A terminal is a pseudoterminal with somebody at it.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	shown  []byte // and not yet looked at
	chunks chan []byte
}

func newTerminal(t *testing.T, width, height uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	fd, _, e := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		t.Fatal(e)
	}
	term := &terminal{t: t, master: master, slave: os.NewFile(fd, "pts"), chunks: make(chan []byte, 1024)}
	t.Cleanup(func() { term.slave.Close(); term.master.Close() })
	term.resize(width, height)
	go func() {
		defer close(term.chunks)
		for {
			b := make([]byte, 4096)
			n, err := master.Read(b)
			if err != nil {
				return
			}
			term.chunks <- b[:n]
		}
	}()
	return term
}

func (term *terminal) resize(width, height uint16) {
	term.t.Helper()
	if err := unix.IoctlSetWinsize(int(term.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		term.t.Fatal(err)
	}
}

// start starts a program with the terminal as its controlling terminal.
func (term *terminal) start(cmd *exec.Cmd) {
	term.t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.slave, term.slave, term.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) typeIn(text string) {
	term.t.Helper()
	if _, err := io.WriteString(term.master, text); err != nil {
		term.t.Fatal(err)
	}
}

// expect waits until the terminal shows what matches pattern, and returns the
// text of its last group.
func (term *terminal) expect(pattern string) string {
	term.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(10 * time.Second)
	for {
		if m := re.FindSubmatchIndex(term.shown); m != nil {
			text := string(term.shown[m[len(m)-2]:m[len(m)-1]])
			term.shown = term.shown[m[1]:]
			return text
		}
		select {
		case b, ok := <-term.chunks:
			if !ok {
				term.t.Fatalf("the terminal is closed, and shows %q; want %s", term.shown, pattern)
			}
			term.shown = append(term.shown, b...)
		case <-timeout:
			term.t.Fatalf("the terminal shows %q; want %s", term.shown, pattern)
		}
	}
}

func (term *terminal) mode() unix.Termios {
	term.t.Helper()
	mode, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	return *mode
}

// eventually waits until f returns "", and fails with what it returned last.
func eventually(t *testing.T, f func() string) {
	t.Helper()
	deadline := time.Now().Add(testenv.Patience(10 * time.Second))
	for {
		wrong := f()
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(wrong)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// expectMode waits until the terminal has a mode.
func (term *terminal) expectMode(want unix.Termios) {
	term.t.Helper()
	eventually(term.t, func() string {
		if got := term.mode(); got != want {
			return fmt.Sprintf("mode of the terminal: %+v, want %+v", got, want)
		}
		return ""
	})
}

// children returns the processes whose parent is pid.
func children(t *testing.T, pid int) []int {
	t.Helper()
	var pids []int
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// PID (NAME) STATE PPID
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if fields[0] != "Z" && fields[1] == strconv.Itoa(pid) {
			pids = append(pids, n)
		}
	}
	return pids
}

// gonePID waits until a process has ended; a zombie has.
func gonePID(t *testing.T, pid int, what string) {
	t.Helper()
	eventually(t, func() string {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(b), ") Z ") {
			return fmt.Sprintf("%s, process %d, is still there", what, pid)
		}
		return ""
	})
}

// TestExecTerminal sits at a terminal at which podbox exec -it is called.
func TestExecTerminal(t *testing.T) {
	h := newTestHost(t)
	h.podbox(t, "create", "web")
	defer h.podbox(t, "rm", "-f", "-t", "0", "web")

	// start calls it with a script that says when it is ready: the terminal is
	// raw then.
	start := func(t *testing.T, script string) (*terminal, *exec.Cmd, unix.Termios) {
		t.Helper()
		term := newTerminal(t, 80, 24)
		before := term.mode()
		if before.Lflag&unix.ICANON == 0 || before.Lflag&unix.ECHO == 0 {
			t.Fatal("a new terminal is raw")
		}
		cmd := h.command(t.Context(), "exec", "-it", "web", "--", "sh", "-c", script)
		term.start(cmd)
		term.expect("()ready\r\n")
		if raw := term.mode(); raw.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
			t.Errorf("the terminal is not raw: %+v", raw)
		}
		return term, cmd, before
	}
	finish := func(t *testing.T, term *terminal, cmd *exec.Cmd, before unix.Termios, want int) {
		t.Helper()
		err := cmd.Wait()
		if got, err := exitStatus(err); err != nil || got != want {
			t.Errorf("exit status %d, %v, want %d", got, err, want)
		}
		if got := term.mode(); got != before {
			t.Errorf("mode of the terminal: %+v, want %+v", got, before)
		}
	}
	for _, test := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"keys and status", func(t *testing.T) {
			term, cmd, before := start(t, `echo ready; read line; echo "got $line"; exit 42`)
			term.typeIn("hello\r")
			term.expect("()got hello\r\n")
			finish(t, term, cmd, before, 42)
		}},
		{"interrupt", func(t *testing.T) {
			// The key reaches the program's terminal, which makes a signal
			// of it, for the whole foreground group.
			term, cmd, before := start(t, `trap 'echo interrupted; exit 3' INT; echo ready; sleep 100 & wait`)
			term.typeIn("\x03")
			term.expect("()interrupted\r\n")
			finish(t, term, cmd, before, 3)
		}},
		{"interrupted to death", func(t *testing.T) {
			term, cmd, before := start(t, `echo ready; exec sleep 100`)
			// Ready comes before exec, but the key is the
			// terminal's, whoever reads.
			term.typeIn("\x03")
			finish(t, term, cmd, before, 128+2)
		}},
		{"end of input", func(t *testing.T) {
			term, cmd, before := start(t, `echo ready; cat; echo end`)
			term.typeIn("\x04")
			term.expect("()end\r\n")
			finish(t, term, cmd, before, 0)
		}},
		{"resize", func(t *testing.T) {
			term, cmd, before := start(t, `trap 'stty size' WINCH; echo ready; stty size; while :; do sleep 0.02; done`)
			if got := term.expect(`(\d+ \d+)\r\n`); got != "24 80" {
				t.Errorf("size at first: %s, want 24 80", got)
			}
			term.resize(132, 43)
			if got := term.expect(`(\d+ \d+)\r\n`); got != "43 132" {
				t.Errorf("size after a change: %s, want 43 132", got)
			}
			term.typeIn("\x03")
			finish(t, term, cmd, before, 128+2)
		}},
		{"terminated", func(t *testing.T) {
			// What podbox is sent is the program's, also at a terminal.
			term, cmd, before := start(t, `trap 'echo asked; exit 4' TERM; echo ready; while :; do sleep 0.02; done`)
			if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			term.expect("()asked\r\n")
			finish(t, term, cmd, before, 4)
		}},
		{"no such program", func(t *testing.T) {
			term := newTerminal(t, 80, 24)
			before := term.mode()
			cmd := h.command(t.Context(), "exec", "-it", "web", "--", "no-such-program")
			term.start(cmd)
			finish(t, term, cmd, before, 127)
			term.expect("()podbox: .*no-such-program: no such file or directory\r\n")
		}},
		{"guard", func(t *testing.T) {
			term, cmd, before := start(t, `echo ready; read line`)
			// Its children are the program and the guard.
			all := children(t, cmd.Process.Pid)
			if len(all) != 2 {
				t.Errorf("podbox has the children %v, want two", all)
			}
			term.typeIn("\r")
			finish(t, term, cmd, before, 0)
			for _, pid := range all {
				gonePID(t, pid, "child of podbox")
			}
		}},
		{"podbox killed", func(t *testing.T) {
			term, cmd, before := start(t, `echo ready; exec sleep 100`)
			all := children(t, cmd.Process.Pid)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			// The guard sets the mode, and leaves; the program is killed.
			term.expectMode(before)
			for _, pid := range all {
				gonePID(t, pid, "child of podbox")
			}
		}},
		{"podbox killed, guard interrupted before", func(t *testing.T) {
			// Signals of the terminal and of the session are not the guard's.
			term, cmd, before := start(t, `echo ready; exec sleep 100`)
			all := children(t, cmd.Process.Pid)
			for _, pid := range all {
				for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGTTOU} {
					if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); !strings.HasSuffix(exe, "/sleep") {
						_ = unix.Kill(pid, sig)
					}
				}
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			term.expectMode(before)
			for _, pid := range all {
				gonePID(t, pid, "child of podbox")
			}
		}},
		{"hung up", func(t *testing.T) {
			// The window is closed: podbox gets SIGHUP and passes it on.
			term, cmd, _ := start(t, `echo ready; exec sleep 100`)
			all := children(t, cmd.Process.Pid)
			if err := cmd.Process.Signal(unix.SIGHUP); err != nil {
				t.Fatal(err)
			}
			err := cmd.Wait()
			if got, err := exitStatus(err); err != nil || got != 128+1 {
				t.Errorf("exit status %d, %v, want %d", got, err, 128+1)
			}
			for _, pid := range all {
				gonePID(t, pid, "child of podbox")
			}
			_ = term
		}},
		{"a terminal apart", func(t *testing.T) {
			// Two calls, two terminals: the program cannot open podbox's.
			term, cmd, before := start(t, `echo ready; tty; read line`)
			ours, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			if theirs := term.expect("(/dev/pts/[0-9]+)\r\n"); theirs == ours {
				t.Errorf("the program has podbox's terminal, %s", ours)
			}
			term.typeIn("\r")
			finish(t, term, cmd, before, 0)
		}},
	} {
		if !t.Run(test.name, onHost(h, test.run)) {
			t.FailNow()
		}
	}
}

// onHost makes a subtest, which has a goroutine of its own, join a host.
func onHost(h *host, run func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) {
		if err := h.join(); err != nil {
			t.Fatal(err)
		}
		run(t)
	}
}
