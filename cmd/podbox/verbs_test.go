package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

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
		words := strings.FieldsFunc(exit.Hint(err), func(r rune) bool { return strings.ContainsRune(" ,:", r) })
		for i, w := range words {
			switch {
			case w == "podbox":
				if cmd, _, err := root.Find(words[i+1 : i+2]); err != nil || cmd == root {
					t.Errorf("hint %q: no verb %q", exit.Hint(err), words[i+1])
				}
			case strings.HasPrefix(w, "--"):
				create, _, _ := root.Find([]string{"create"})
				if root.PersistentFlags().Lookup(w[2:]) == nil && create.Flags().Lookup(w[2:]) == nil {
					t.Errorf("hint %q: no flag %s", exit.Hint(err), w)
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
		if !cmd.Hidden && cmd.GroupID == "" {
			t.Errorf("%s: in no group", cmd.Name())
		}
		testVerb(t, cmd)
	}
}

func testVerb(t *testing.T, cmd *cobra.Command) {
	if cmd.DisableFlagParsing { // the other program's: it has a test of its own
		return
	}
	switch name := cmd.CommandPath(); {
	case cmd.Short == "" || strings.HasSuffix(cmd.Short, "."):
		t.Errorf("%s: short help %q", name, cmd.Short)
	case cmd.Args == nil:
		t.Errorf("%s: takes any arguments", name)
	case !cmd.Hidden && !strings.HasPrefix(cmd.Example, "  "):
		t.Errorf("%s: example %q", name, cmd.Example)
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
			t.Errorf("%s: flag %s: help %q", cmd.CommandPath(), f.Name, f.Usage)
		}
	})
	for _, c := range cmd.Commands() {
		testVerb(t, c)
	}
}

// TestExamples holds that the verbs and flags which examples have are there.
func TestExamples(t *testing.T) {
	seen := 0
	var look func(*cobra.Command)
	look = func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			_, line, ok := strings.Cut(line, "podbox ")
			if !ok {
				continue
			}
			line, _, _ = strings.Cut(line, " #")
			for _, op := range []string{" | ", " || ", " && ", ")", " > ", " < "} {
				line, _, _ = strings.Cut(line, op)
			}
			words := strings.Fields(line)
			root := new(app).command(nil)
			verb, rest, err := root.Find(words)
			if err != nil || verb == root {
				t.Errorf("%s: %s: %v", cmd.CommandPath(), line, err)
				continue
			}
			if seen++; verb.DisableFlagParsing {
				continue
			}
			if err := verb.ParseFlags(rest); err != nil {
				t.Errorf("%s: %s: %v", cmd.CommandPath(), line, err)
			}
		}
		for _, c := range cmd.Commands() {
			look(c)
		}
	}
	look(new(app).command(nil))
	if seen < 50 {
		t.Errorf("looked at %d only", seen)
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
