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

func TestFlagValues(t *testing.T) {
	root := &cobra.Command{Use: "podbox", SilenceErrors: true, SilenceUsage: true}
	v := &cobra.Command{Use: "v", Run: func(*cobra.Command, []string) {}}
	v.Flags().IntP("time", "t", 1, "grace period in `seconds`")
	v.Flags().Int("score", 0, "a `number` from 1 to 3")
	v.Flags().Uint("count", 0, "how many")
	v.Flags().Bool("all", false, "all of them")
	root.AddCommand(v)
	Explain(root)
	for args, want := range map[string]string{
		"v -t ten":     `v: --time "ten": want a whole number of seconds`,
		"v --score 1.": `v: --score "1.": want a whole number`,
		"v --count=-1": `v: --count "-1": want a whole number`,
		"v --all=all":  `v: --all "all": want true or false`,
	} {
		root.SetArgs(strings.Fields(args))
		if err := root.Execute(); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

func TestUnknown(t *testing.T) {
	root, image := &cobra.Command{Use: "podbox"}, &cobra.Command{Use: "image"}
	root.AddCommand(image)
	for _, name := range []string{"pull", "prune"} {
		image.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	for word, want := range map[string]string{
		"pul":   `no command "pul" of image: did you mean pull?`,
		"p":     `no command "p" of image: did you mean pull or prune?`,
		"build": `no command "build" of image: podbox image --help lists those there are`,
	} {
		if got := Unknown(image, word).Error(); got != want {
			t.Errorf("%s: %s, want %s", word, got, want)
		}
	}
	if got := Unknown(root, "imagee").Error(); got != `no command "imagee": did you mean image?` {
		t.Error(got)
	}
}
