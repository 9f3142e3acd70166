package launcher

import (
	"io"
	"os"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/sandbox"
)

// answers are what one read after the other gives: a text, or EIO if it is empty.
type answers []string

func (a *answers) Read(p []byte) (int, error) {
	text := ""
	if len(*a) > 0 {
		text, *a = (*a)[0], (*a)[1:]
	}
	if text == "" {
		return 0, &os.PathError{Op: "read", Path: "/dev/ptmx", Err: unix.EIO}
	}
	return copy(p, text), nil
}

// The kernel says that a terminal's other side is closed although there is something
// left, and tells it who asks again.
func TestTerminalOutputAfterItsEnd(t *testing.T) {
	for want, reads := range map[string]answers{
		"":          nil,
		"one\n":     {"one\n"},
		"one two\n": {"one ", "", "two\n"},
		"late\n":    {"", "late\n"},
	} {
		out, err := io.ReadAll(terminalOutput{&reads})
		if string(out) != want || err != nil {
			t.Errorf("%q, %v; want %q", out, err, want)
		}
	}
	if _, err := io.ReadAll(terminalOutput{(*os.File)(nil)}); err != os.ErrInvalid {
		t.Errorf("another error: %v", err)
	}
}

// A program may close its terminal and open it again, many times, as an init system
// does.
func TestTerminalOpenedAgain(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	const script = "exec </dev/null >/dev/null 2>&1; for i in 1 2 3; do echo $i >$tty; sleep .02; done"
	for what, s := range map[string]*specs.Spec{
		"on the host's root": command("sh", "-c", "tty=/dev/tty; "+script),
		"container":          container(t, newRootfs(t), "tty=/dev/console; "+script),
	} {
		s.Process.Terminal = true
		if out, status := output(t, pod, s, nil); out != "1\r\n2\r\n3\r\n" || status != 0 {
			t.Errorf("%s: %q, status %d", what, out, status)
		}
	}
}
