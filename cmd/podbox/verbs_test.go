package main

import (
	"os"
	"strings"
	"testing"

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
