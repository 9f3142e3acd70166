package misuse

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestExplain(t *testing.T) {
	own := errors.New("its own words")
	for _, test := range []struct {
		use   string
		args  string
		check cobra.PositionalArgs
		want  string
	}{
		{"v POD", "", cobra.ExactArgs(1), "v: want POD"},
		{"v POD", "a b", cobra.ExactArgs(1), "v: want POD, not 2 arguments"},
		{"v [flags] POD...", "", cobra.MinimumNArgs(1), "v: want POD..."},
		{"v IMAGE NAME...", "a", cobra.MinimumNArgs(2), `v: want IMAGE NAME..., not only "a"`},
		{"v [flags]", "a b", cobra.NoArgs, `v: want no arguments, not "a b"`},
		{"v POD [FILE|-]", "a b c", cobra.RangeArgs(1, 2), "v: want POD [FILE|-], not 3 arguments"},
		{"v POD [IP:]PORT[/P]...", "a", cobra.MinimumNArgs(2), `v: want POD [IP:]PORT[/P]..., not only "a"`},

		// What the check allows is right, and what the usage line does, it may say itself.
		{"v [flags] POD...", "", cobra.ArbitraryArgs, ""},
		{"v POD", "a", func(*cobra.Command, []string) error { return own }, "its own words"},
		{"v POD -- COMMAND", "", func(*cobra.Command, []string) error { return own }, "its own words"},
		{"v -f FILE", "a", func(*cobra.Command, []string) error { return own }, "its own words"},
		{"v [POD...]", "a", func(*cobra.Command, []string) error { return own }, "its own words"},
	} {
		root, got := &cobra.Command{Use: "podbox"}, ""
		verb := &cobra.Command{Use: test.use, Args: test.check}
		root.AddCommand(verb)
		Explain(root)
		if err := verb.Args(verb, strings.Fields(test.args)); err != nil {
			got = err.Error()
			var e *Error
			if errors.As(err, &e) != (err != own) || e != nil && e.Command != "podbox v" {
				t.Errorf("%s: %#v", test.use, err)
			}
		}
		if got != test.want {
			t.Errorf("%s with %q: %q, want %q", test.use, test.args, got, test.want)
		}
	}
}

func TestExplainFlags(t *testing.T) {
	root := &cobra.Command{Use: "podbox", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(&cobra.Command{Use: "v", Run: func(*cobra.Command, []string) {}})
	Explain(root)
	for args, want := range map[string]string{"v --no": "v: unknown flag: --no", "--no": "unknown flag: --no"} {
		root.SetArgs(strings.Fields(args))
		var e *Error
		if err := root.Execute(); !errors.As(err, &e) || err.Error() != want {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}
