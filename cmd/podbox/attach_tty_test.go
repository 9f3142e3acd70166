package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAttachTerminal sits at a terminal at which podbox attach is called, of a
// container that has a terminal too.
func TestAttachTerminal(t *testing.T) {
	h := newTestHost(t)
	root := filepath.Join(t.TempDir(), "root")
	if err := makeRootfs(root); err != nil {
		t.Fatal(err)
	}
	h.podbox(t, "create", "web")
	defer h.podbox(t, "rm", "-f", "-t", "1", "web")

	// begin starts a container with these flags, which repeats what it reads, and
	// ends with 7 after "end". attach attaches to it.
	begin := func(t *testing.T, flags ...string) {
		t.Helper()
		script := `while read -r line; do if test "$line" = end; then exit 7; fi; echo "got <$line>"; done; exit 8`
		args := append(append([]string{"run", "-d", "--name", "app", "--rootfs", root}, flags...), "web", "--", "sh", "-c", script)
		h.podbox(t, args...)
	}
	attach := func(t *testing.T, flags ...string) (*terminal, *exec.Cmd, unix.Termios) {
		t.Helper()
		term := newTerminal(t, 80, 24)
		before := term.mode()
		cmd := h.command(t.Context(), append(append([]string{"attach"}, flags...), "web")...)
		term.start(cmd)
		// What is typed before it is raw would be echoed by this terminal.
		eventually(t, func() string {
			if mode := term.mode(); mode.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
				return "the terminal is not raw"
			}
			return ""
		})
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
	running := func(t *testing.T) {
		t.Helper()
		if got := h.podbox(t, "ps", "-o", "name", "web"); got != "app" {
			t.Errorf("containers that run: %q, want app", got)
		}
	}
	// end ends the container, from another terminal.
	end := func(t *testing.T) {
		t.Helper()
		term, cmd, before := attach(t)
		term.typeIn("\x15end\r") // ctrl-u takes back what was typed before
		finish(t, term, cmd, before, 7)
	}
	const detach = "\x10\x11" // ctrl-p ctrl-q
	for _, test := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"input and end", func(t *testing.T) {
			begin(t, "-it")
			term, cmd, before := attach(t)
			term.typeIn("hello\r")
			term.expect("()hello\r\ngot <hello>\r\n")
			term.typeIn("end\r")
			finish(t, term, cmd, before, 7)
		}},
		{"detach and come back", func(t *testing.T) {
			begin(t, "-it")
			term, cmd, before := attach(t)
			term.typeIn("one\r")
			term.expect("()got <one>\r\n")
			term.typeIn(detach)
			finish(t, term, cmd, before, 0)
			running(t)
			term, cmd, before = attach(t)
			term.typeIn("two\r")
			term.expect("()got <two>\r\n")
			term.typeIn("x" + detach)
			finish(t, term, cmd, before, 0)
			running(t)
			// The x was the container's.
			term, cmd, before = attach(t)
			term.typeIn("y\r")
			term.expect("()got <xy>\r\n")
			term.typeIn(detach)
			finish(t, term, cmd, before, 0)
			end(t)
		}},
		{"half of the keys", func(t *testing.T) {
			begin(t, "-it")
			term, cmd, before := attach(t)
			term.typeIn("a\x10")
			term.expect("()a")
			term.typeIn("b\r")
			term.expect("()got <a\x10b>\r\n")
			term.typeIn("\x10")
			term.typeIn("\x10")
			term.typeIn("\x11")
			finish(t, term, cmd, before, 0)
			running(t)
			end(t)
		}},
		{"other keys", func(t *testing.T) {
			begin(t, "-it")
			term, cmd, before := attach(t, "--detach-keys", "ctrl-a,d")
			term.typeIn("d\r")
			term.expect("()got <d>\r\n")
			term.typeIn("\x01d")
			finish(t, term, cmd, before, 0)
			running(t)
			end(t)
		}},
		{"no keys", func(t *testing.T) {
			begin(t, "-it")
			term, cmd, before := attach(t, "--detach-keys", "")
			term.typeIn(detach + "\x15end\r")
			finish(t, term, cmd, before, 7)
		}},
		{"size", func(t *testing.T) {
			script := `trap 'stty size' WINCH; trap 'exit 9' INT; echo >/ready; while :; do sleep 0.02; done`
			h.podbox(t, "run", "-d", "-it", "--name", "app", "--rootfs", root, "web", "--", "sh", "-c", script)
			eventually(t, func() string {
				if _, err := os.Stat(filepath.Join(root, "ready")); err != nil {
					return err.Error()
				}
				return ""
			})
			term, cmd, before := attach(t)
			if got := term.expect(`(\d+ \d+)\r\n`); got != "24 80" {
				t.Errorf("size at first: %s, want 24 80", got)
			}
			term.resize(132, 43)
			if got := term.expect(`(\d+ \d+)\r\n`); got != "43 132" {
				t.Errorf("size after a change: %s, want 43 132", got)
			}
			// The key is the container's, whose terminal makes a signal of it.
			term.typeIn("\x03")
			finish(t, term, cmd, before, 9)
		}},
		{"killed", func(t *testing.T) {
			begin(t, "-it")
			term, cmd, before := attach(t)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			term.expectMode(before)
			running(t)
			end(t)
		}},
		{"terminated", func(t *testing.T) {
			begin(t, "-it")
			term, cmd, before := attach(t)
			if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			term.expectMode(before)
			running(t)
			end(t)
		}},
		{"without a terminal of its own", func(t *testing.T) {
			// Lines are edited here, and ctrl-c is about podbox attach.
			begin(t, "-i")
			term := newTerminal(t, 80, 24)
			before := term.mode()
			cmd := h.command(t.Context(), "attach", "web")
			term.start(cmd)
			term.typeIn("hello\r")
			term.expect("()got <hello>\r\n")
			term.typeIn("\x03")
			_ = cmd.Wait()
			term.expectMode(before)
			running(t)
			again := h.command(t.Context(), "attach", "web")
			again.Stdin = strings.NewReader("end\n")
			err := again.Run()
			if got, err := exitStatus(err); err != nil || got != 7 {
				t.Errorf("exit status %d, %v, want 7", got, err)
			}
		}},
		{"no input", func(t *testing.T) {
			begin(t, "-it")
			term, cmd, before := attach(t, "--no-stdin")
			term.typeIn("end\r")
			running(t)
			end(t)
			finish(t, term, cmd, before, 7)
		}},
		{"in the foreground", func(t *testing.T) {
			term := newTerminal(t, 80, 24)
			before := term.mode()
			cmd := h.command(t.Context(), "run", "--rm", "-it", "--rootfs", root, "web", "--", "sh", "-c", `stty size; tty; read -r line; echo "got <$line>"; exit 9`)
			term.start(cmd)
			term.expect("()24 80\r\n/dev/pts/0\r\n")
			term.typeIn("hello\r")
			term.expect("()got <hello>\r\n")
			finish(t, term, cmd, before, 9)
		}},
		{"in a container", func(t *testing.T) {
			begin(t, "-it")
			term := newTerminal(t, 80, 24)
			before := term.mode()
			cmd := h.command(t.Context(), "exec", "-it", "-c", "app", "web", "--", "sh", "-c", `stty size; tty; echo $TERM; read -r line; exit 9`)
			term.start(cmd)
			term.expect("()24 80\r\n/dev/pts/1\r\nxterm\r\n")
			term.typeIn("\r")
			finish(t, term, cmd, before, 9)
			end(t)
		}},
		{"removed at its end", func(t *testing.T) {
			begin(t, "-it", "--rm")
			term, cmd, before := attach(t)
			term.typeIn("end\r")
			finish(t, term, cmd, before, 7)
		}},
	} {
		run := func(t *testing.T) {
			defer h.podbox(t, "rm", "-f", "-t", "0", "-c", "app", "web")
			test.run(t)
		}
		t.Run(test.name, onHost(h, run))
	}
}
