package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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
		{exit(0), 0, ""},
		{exit(42), 42, ""},
		{fmt.Errorf("wrapped: %w", exit(137)), 137, ""},
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
		if got := report(&b, test.err); got != test.status || b.String() != test.text {
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
		error(unix.ENOSPC):       "full",
		error(unix.EROFS):        "read-write",
		error(unix.ENOENT):       "",
		error(unix.ECONNREFUSED): "",
	} {
		got := hint(fmt.Errorf("do it: %w", err))
		if want == "" && got != "" || !strings.Contains(got, want) || strings.ContainsAny(got, "\n()") {
			t.Errorf("%v: hint %q, want %q in it", err, got, want)
		}
	}
	for _, err := range []error{unix.EPERM, &fs.PathError{Op: "mount", Path: "/sys", Err: unix.EPERM}} {
		want := "podbox doctor"
		if os.Geteuid() != 0 {
			want = "sudo"
		}
		if got := hint(err); !strings.Contains(got, want) {
			t.Errorf("%v: hint %q, want %q in it", err, got, want)
		}
	}
}

// TestHintsAreTrue holds that the verbs and flags which hints tell of are there.
func TestHintsAreTrue(t *testing.T) {
	root := new(app).command(nil)
	errs := []error{
		sandbox.ErrExists, sandbox.ErrNotFound, sandbox.ErrAmbiguous, sandbox.ErrNotRunning, sandbox.ErrBusy,
		sandbox.ErrBadRecord, sandbox.ErrUnsafeRoot, netns.ErrConflict, netns.ErrExhausted,
	}
	if os.Geteuid() == 0 { // others are told to become root
		errs = append(errs, unix.EPERM)
	}
	for _, err := range errs {
		words := strings.FieldsFunc(hint(err), func(r rune) bool { return strings.ContainsRune(" ,:", r) })
		for i, w := range words {
			switch {
			case w == "podbox":
				if cmd, _, err := root.Find(words[i+1 : i+2]); err != nil || cmd == root {
					t.Errorf("hint %q: no verb %q", hint(err), words[i+1])
				}
			case strings.HasPrefix(w, "--"):
				create, _, _ := root.Find([]string{"create"})
				if root.PersistentFlags().Lookup(w[2:]) == nil && create.Flags().Lookup(w[2:]) == nil {
					t.Errorf("hint %q: no flag %s", hint(err), w)
				}
			}
		}
	}
}

// TestVerbs holds what all verbs have: help, and no page of it when they fail.
func TestVerbs(t *testing.T) {
	root := new(app).command(nil)
	if !root.SilenceUsage || !root.SilenceErrors {
		t.Error("cobra prints errors of its own")
	}
	for _, cmd := range root.Commands() {
		if cmd.Hidden {
			continue
		}
		switch {
		case cmd.Short == "" || strings.HasSuffix(cmd.Short, "."):
			t.Errorf("%s: short help %q", cmd.Name(), cmd.Short)
		case cmd.Args == nil:
			t.Errorf("%s: takes any arguments", cmd.Name())
		case cmd.GroupID == "":
			t.Errorf("%s: in no group", cmd.Name())
		}
	}
}

// TestKnownVerb holds that a command line is understood in the same way whether
// all verbs are built or only the one that it begins with.
func TestKnownVerb(t *testing.T) {
	for _, verb := range new(app).command(nil).Commands() {
		args := []string{verb.Name(), "--root", "/nowhere", "web"}
		alone := new(app).command(args)
		cmd, rest, err := alone.Find(args)
		if err != nil || cmd.Name() != verb.Name() || cmd.GroupID != verb.GroupID || len(rest) != 3 {
			t.Errorf("%s: found %s, %q, %v", verb.Name(), cmd.Name(), rest, err)
		}
		if cmd.Use != verb.Use || cmd.LocalFlags().FlagUsages() != verb.LocalFlags().FlagUsages() {
			t.Errorf("%s: differs when it is alone", verb.Name())
		}
	}
}
