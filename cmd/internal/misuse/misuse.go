// Package misuse has commands say what they want, when they are given something else.
package misuse

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// An Error is about the words of a command line.
type Error struct {
	Command string // the words that name it, with podbox
	Err     error
}

func (e *Error) Error() string {
	if _, verb, ok := strings.Cut(e.Command, " "); ok {
		return verb + ": " + e.Err.Error()
	}
	return e.Err.Error()
}

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

// Explain has a command, and all below it, answer wrong arguments and flags by an Error. Where
// the arguments are too few or too many for the command's usage line, that is what is said,
// instead of what its own check says.
func Explain(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil {
				return nil
			}
			if w, ok := parse(cmd.Use); ok && !w.fits(len(args)) {
				return &Error{cmd.CommandPath(), w.complaint(args)}
			}
			return err
		}
	}
	if !cmd.HasParent() {
		cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &Error{cmd.CommandPath(), FlagError(err)} })
	}
	for _, c := range cmd.Commands() {
		Explain(c)
	}
}

// FlagError returns what a user can make something of, where pflag tells which function of
// Go did not like a value.
func FlagError(err error) error {
	var wrong *pflag.InvalidValueError
	if !errors.As(err, &wrong) || !errors.As(err, new(*strconv.NumError)) {
		return err
	}
	f := wrong.GetFlag()
	want := "a whole number"
	if name, _ := pflag.UnquoteUsage(f); name != "number" && name != f.Value.Type() {
		want += " of " + name
	}
	if f.Value.Type() == "bool" {
		want = "true or false"
	}
	return fmt.Errorf("--%s %q: want %s", f.Name, wrong.GetValue(), want)
}

// Unknown says that a command has none of the given name below it, and which may have been
// meant.
func Unknown(cmd *cobra.Command, word string) error {
	of := ""
	if cmd.HasParent() {
		of = " of " + cmd.Name()
	}
	cmd.SuggestionsMinimumDistance = 2 // letters that are wrong, missing, or too many
	if like := cmd.SuggestionsFor(word); len(like) > 0 {
		return fmt.Errorf("no command %q%s: did you mean %s?", word, of, strings.Join(like, " or "))
	}
	return fmt.Errorf("no command %q%s: %s --help lists those there are", word, of, cmd.CommandPath())
}

// A line is what a usage line says of arguments.
type line struct {
	text string
	min  int
	max  int // -1: any number
}

// parse reads a usage line that has nothing but arguments, as in "tag [flags] IMAGE NAME...".
func parse(use string) (l line, ok bool) {
	var words []string
	for i, w := range strings.Fields(use) {
		switch {
		case i == 0 || w == "[flags]":
			continue
		case strings.HasPrefix(w, "-"), w == "[--":
			return line{}, false
		}
		words = append(words, w)
		l.max++
		if !optional(strings.TrimSuffix(w, "...")) {
			l.min++
		}
	}
	l.text = strings.Join(words, " ")
	if strings.Contains(l.text, "...") {
		l.max = -1
	}
	return l, true
}

// optional reports whether all of a word is in one pair of brackets.
func optional(word string) bool {
	depth := 0
	for i, r := range word {
		switch r {
		case '[':
			depth++
		case ']':
			depth--
		}
		if depth == 0 {
			return i > 0 && i == len(word)-1
		}
	}
	return false
}

func (l line) fits(n int) bool { return n >= l.min && (l.max < 0 || n <= l.max) }

func (l line) complaint(args []string) error {
	switch {
	case l.max == 0:
		return fmt.Errorf("want no arguments, not %q", strings.Join(args, " "))
	case len(args) == 0:
		return fmt.Errorf("want %s", l.text)
	case len(args) == 1:
		return fmt.Errorf("want %s, not only %q", l.text, args[0])
	}
	return fmt.Errorf("want %s, not %d arguments", l.text, len(args))
}
