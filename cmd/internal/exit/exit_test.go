package exit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/twin"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

func TestReport(t *testing.T) {
	plain, other := errors.New("it broke"), errors.New("that too")
	missing := &spawn.ExecError{Path: "nope", Err: unix.ENOENT}
	for _, test := range []struct {
		err    error
		status int
		text   string
	}{
		{nil, 0, ""},
		{Status(0), 0, ""},
		{Status(42), 42, ""},
		{fmt.Errorf("wrapped: %w", Status(137)), 137, ""},
		{plain, 125, "podbox: it broke\n"},
		{fmt.Errorf("run: %w", missing), 127, "podbox: run: exec nope: no such file or directory\n"},
		{&spawn.ExecError{Path: "nope", Err: unix.ENOEXEC}, 126, "podbox: exec nope: exec format error\n"},
		{&spawn.ExecError{Path: "nope", Err: unix.ENOTDIR}, 126, "podbox: exec nope: not a directory\n"},
		// The directory to start in is not the program.
		{&spawn.Error{Call: "change to directory /nope", Err: unix.ENOENT}, 125, "podbox: change to directory /nope: no such file or directory\n"},
		// One line each, the highest status.
		{errors.Join(nil, plain, nil), 125, "podbox: it broke\n"},
		{errors.Join(plain, other), 125, "podbox: it broke\npodbox: that too\n"},
		{errors.Join(plain, errors.Join(other, missing)), 127, "podbox: it broke\npodbox: that too\npodbox: exec nope: no such file or directory\n"},
		// Whatever is in an error, it is one line.
		{fmt.Errorf("a\nb"), 125, "podbox: a; b\n"},
		{fmt.Errorf("step: %w", errors.Join(plain, other)), 125, "podbox: step: it broke; that too\n"},
	} {
		var b strings.Builder
		if got := Report(&b, test.err); got != test.status || b.String() != test.text {
			t.Errorf("%v: %d %q, want %d %q", test.err, got, b.String(), test.status, test.text)
		}
	}
}

func TestHint(t *testing.T) {
	for err, want := range map[error]string{
		errors.New("it broke"):   "",
		sandbox.ErrExists:        "podbox rm",
		sandbox.ErrNotFound:      "podbox ls",
		sandbox.ErrAmbiguous:     "more digits",
		sandbox.ErrNotRunning:    "podbox start",
		sandbox.ErrBusy:          "podbox rm -f",
		sandbox.ErrBadRecord:     "podbox rm -f",
		sandbox.ErrUnsafeRoot:    "--root",
		sandbox.ErrInvalid:       "",
		sandbox.ErrNotSupported:  "",
		netns.ErrConflict:        "--ip-range",
		netns.ErrExhausted:       "--ip-range",
		netns.ErrInUse:           "",
		twin.ErrMissing:          "make install",
		twin.ErrVersion:          "make install",
		error(unix.ENOSPC):       "full",
		error(unix.EROFS):        "read-write",
		error(unix.ENOENT):       "",
		error(unix.ECONNREFUSED): "",
	} {
		got := Hint(fmt.Errorf("do it: %w", err))
		if want == "" && got != "" || !strings.Contains(got, want) || strings.ContainsAny(got, "\n()") {
			t.Errorf("%v: hint %q, want %q in it", err, got, want)
		}
	}
	for _, err := range []error{unix.EPERM, &fs.PathError{Op: "mount", Path: "/sys", Err: unix.EPERM}} {
		want := "podbox doctor"
		if os.Geteuid() != 0 {
			want = "sudo"
		}
		if got := Hint(err); !strings.Contains(got, want) {
			t.Errorf("%v: hint %q, want %q in it", err, got, want)
		}
	}
}

// TestHinters holds that the command's own hints come first.
func TestHinters(t *testing.T) {
	mine := errors.New("mine")
	own := func(err error) string {
		if errors.Is(err, mine) {
			return "my hint"
		}
		return ""
	}
	var b strings.Builder
	Report(&b, errors.Join(fmt.Errorf("%w, %w", mine, sandbox.ErrExists), sandbox.ErrAmbiguous), own)
	if want := "podbox: mine, " + sandbox.ErrExists.Error() + " (my hint)\npodbox: " + sandbox.ErrAmbiguous.Error() + " (give more digits)\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
