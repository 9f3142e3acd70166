package manual

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// program is one with a page that has what man could take for its own.
func program() *cobra.Command {
	run := func(*cobra.Command, []string) {}
	root := &cobra.Command{Use: "prog", Short: "Do things", Long: "Do things.\n\n  an example\n  of two lines\n\nAnd more.", Run: run}
	root.PersistentFlags().String("root", "/run/prog", "`directory` of all")
	root.AddGroup(&cobra.Group{ID: "g", Title: "Group:"})
	do := &cobra.Command{
		Use: "do [flags] THING...", Short: "Do a thing", GroupID: "g", Run: run,
		Long:    ".TH a line that is no request, nor is\n'this; *.yaml and NAME_ mean themselves, and so does \\fB. This paragraph is longer than a line.",
		Example: "  prog do -n 3 'a b' ^x ~y `z`\n  prog do",
	}
	do.Flags().IntP("number", "n", 0, "`how` often")
	do.Flags().String("wait", "", "wait at most `DURATION`")
	do.Flags().Lookup("wait").NoOptDefVal = "forever"
	do.Flags().Bool("secret", false, "not shown")
	_ = do.Flags().MarkHidden("secret")
	root.AddCommand(do, &cobra.Command{Use: "hidden", Hidden: true, Run: run})
	return root
}

func TestPage(t *testing.T) {
	root := program()
	for _, test := range []struct {
		cmd  *cobra.Command
		want string
	}{{root, `.TH "PROG" 1 "2026-11-26" "podbox v1.2.3" "User Commands"
.nh
.ad l
.SH "NAME"
prog \- Do things
.SH "SYNOPSIS"
\fBprog\fR COMMAND
.SH "DESCRIPTION"
Do things.
.PP
.RS 4
.EX
an example
of two lines
.EE
.RE
.PP
And more.
.SH "COMMANDS"
.SS "Group"
.TP
\fBprog\-do\fR(1)
Do a thing
.SH "OPTIONS"
.TP
\fB\-h\fR, \fB\-\-help\fR
help for prog
.TP
\fB\-\-root\fR \fIdirectory\fR
directory of all (default /run/prog)
.SH "FILES"
.TP
\fB/run/prog\fR
Records.
.SH "SEE ALSO"
.BR namespaces (7),
.BR pid_namespaces (7),
.BR network_namespaces (7),
.BR ipc_namespaces (7),
.BR cgroups (7),
.BR nft (8),
.BR systemd.unit (5)
`}, {root.Commands()[0], `.TH "PROG\-DO" 1 "2026-11-26" "podbox v1.2.3" "User Commands"
.nh
.ad l
.SH "NAME"
prog\-do \- Do a thing
.SH "SYNOPSIS"
\fBprog do\fR [flags] THING...
.SH "DESCRIPTION"
\&.TH a line that is no request, nor is \(aqthis; *.yaml and NAME_ mean
themselves, and so does \efB. This paragraph is longer than a line.
.SH "OPTIONS"
.TP
\fB\-h\fR, \fB\-\-help\fR
help for do
.TP
\fB\-n\fR, \fB\-\-number\fR \fIhow\fR
how often
.TP
\fB\-\-wait\fR[=\fIDURATION\fR]
wait at most DURATION
.SH "GLOBAL OPTIONS"
.TP
\fB\-\-root\fR \fIdirectory\fR
directory of all (default /run/prog)
.SH "EXAMPLES"
.RS 4
.EX
prog do \-n 3 \(aqa b\(aq \(hax \(tiy \(gaz\(ga
prog do
.EE
.RE
.SH "SEE ALSO"
.BR prog (1)
`}} {
		opts := Options{Version: "v1.2.3", Date: "2026-11-26", More: []Section{{"FILES", [][2]string{{"/run/prog", "Records."}}}}}
		if got := Page(test.cmd, opts); got != test.want {
			t.Errorf("got\n%s", got)
		}
	}
}

func TestWrite(t *testing.T) {
	for want, opts := range map[string]Options{
		"prog-do.1 prog.1": {},
		"prog-do.1":        {NotRoot: true},
		"prog.1":           {Skip: func(c *cobra.Command) bool { return c.Name() == "do" }},
	} {
		dir := filepath.Join(t.TempDir(), "man")
		if err := Write(dir, program(), opts); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q, want %s", got, want)
		}
	}
	if err := Write("/dev/null/man", program(), Options{}); err == nil {
		t.Error("into what is no directory: no error")
	}
}
