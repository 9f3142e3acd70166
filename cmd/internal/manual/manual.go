// Package manual writes the manual pages of commands, of what they say of themselves. Their
// texts are plain, not Markdown, in which *.yaml and NAME_ would mean something else: so
// it is not cobra's generator that writes them.
package manual

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A Section is one more section of a page.
type Section struct {
	Title string
	// Items are terms and what they are.
	Items [][2]string
}

// Options are those of Write.
type Options struct {
	Version string
	Date    string // of the version, as in 2026-11-26; empty if nobody knows
	// More are the sections that the page of the program itself has besides.
	More []Section
	// Skip leaves out commands that another program has.
	Skip func(*cobra.Command) bool
	// NotRoot leaves out the page of the program itself.
	NotRoot bool
}

// Write writes a page for a program and for each of its commands into a directory, which is
// made if need be.
func Write(dir string, root *cobra.Command, opts Options) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var write func(*cobra.Command) error
	write = func(cmd *cobra.Command) error {
		if !cmd.HasParent() && opts.NotRoot || opts.Skip != nil && opts.Skip(cmd) {
			// Its commands may have pages all the same.
		} else if err := os.WriteFile(filepath.Join(dir, name(cmd)+".1"), []byte(Page(cmd, opts)), 0o644); err != nil {
			return err
		}
		for _, c := range commands(cmd) {
			if err := write(c); err != nil {
				return err
			}
		}
		return nil
	}
	return write(root)
}

// name is what the page of a command is called.
func name(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// commands are those below a command that have pages.
func commands(cmd *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(cmd.Commands()), func(c *cobra.Command) bool { return !c.IsAvailableCommand() || c.Name() == "help" })
}

// Page returns the page of a command, for man(7).
func Page(cmd *cobra.Command, opts Options) string {
	cmd.InitDefaultHelpFlag()
	p := new(page)
	p.line(".TH %s 1 %s %s %s", arg(strings.ToUpper(name(cmd))), `"`+opts.Date+`"`, arg("podbox "+opts.Version), arg("User Commands"))
	p.line(".nh\n.ad l") // neither hyphens in words that are typed, nor gaps between them
	p.section("NAME")
	p.line(`%s \- %s`, text(name(cmd)), text(cmd.Short))
	p.synopsis(cmd)
	p.section("DESCRIPTION")
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	p.prose(long)
	p.commands(cmd)
	p.flags("OPTIONS", cmd.NonInheritedFlags())
	p.flags("GLOBAL OPTIONS", cmd.InheritedFlags())
	if cmd.Example != "" {
		p.section("EXAMPLES")
		p.literal(cmd.Example)
	}
	if !cmd.HasParent() {
		for _, s := range opts.More {
			p.section(s.Title)
			for _, i := range s.Items {
				p.item(`\fB`+text(i[0])+`\fR`, i[1])
			}
		}
	}
	p.seeAlso(cmd)
	return p.String()
}

// A page is one on its way.
type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) section(title string) { p.line(".SH %s", arg(title)) }

func (p *page) synopsis(cmd *cobra.Command) {
	p.section("SYNOPSIS")
	_, args, _ := strings.Cut(cmd.Use, " ")
	if args == "" && cmd.HasAvailableSubCommands() {
		args = "COMMAND"
	}
	p.line(`\fB%s\fR%s`, text(cmd.CommandPath()), text(strings.TrimRight(" "+args, " ")))
}

// commands lists those below, in their groups.
func (p *page) commands(cmd *cobra.Command) {
	all := commands(cmd)
	if len(all) == 0 {
		return
	}
	p.section("COMMANDS")
	list := func(of func(*cobra.Command) bool) {
		for _, c := range all {
			if of(c) {
				p.item(fmt.Sprintf(`\fB%s\fR(1)`, text(name(c))), c.Short)
			}
		}
	}
	for _, g := range cmd.Groups() {
		p.line(".SS %s", arg(strings.TrimSuffix(g.Title, ":")))
		list(func(c *cobra.Command) bool { return c.GroupID == g.ID })
	}
	list(func(c *cobra.Command) bool { return c.GroupID == "" })
}

func (p *page) flags(title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	p.section(title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		term := `\fB\-\-` + text(f.Name) + `\fR`
		if f.Shorthand != "" {
			term = `\fB\-` + text(f.Shorthand) + `\fR, ` + term
		}
		switch {
		case value == "":
		case f.NoOptDefVal != "":
			term += `[=\fI` + text(value) + `\fR]`
		default:
			term += ` \fI` + text(value) + `\fR`
		}
		switch f.DefValue {
		case "", "false", "0", "0s", "[]":
		default:
			usage += " (default " + f.DefValue + ")"
		}
		p.item(term, usage)
	})
}

// item writes a term, which is in man's language, and what it is, which is text.
func (p *page) item(term, what string) {
	p.line(".TP\n%s", term)
	p.fill(what)
}

// fill writes text, which man fills, in lines that are not too long.
func (p *page) fill(s string) {
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && len(line)+1+len(word) > maxLine {
			p.line("%s", text(line))
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	p.line("%s", text(line))
}

// maxLine is how long lines of text are at most, before what text does to them.
const maxLine = 72

// prose writes paragraphs; what is indented is as it is.
func (p *page) prose(s string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if i > 0 {
			p.line(".PP")
		}
		if strings.HasPrefix(paragraph, "  ") || strings.HasPrefix(paragraph, "\t") {
			p.literal(paragraph)
		} else {
			p.fill(paragraph)
		}
	}
}

// literal writes lines as they are, but for what all are indented by.
func (p *page) literal(s string) {
	p.line(".RS 4\n.EX")
	for line := range strings.SplitSeq(strings.Trim(s, "\n"), "\n") {
		p.line("%s", text(strings.TrimPrefix(line, "  ")))
	}
	p.line(".EE\n.RE")
}

func (p *page) seeAlso(cmd *cobra.Command) {
	var pages []string
	if cmd.HasParent() {
		pages = append(pages, name(cmd.Parent()))
		for _, c := range commands(cmd) {
			pages = append(pages, name(c))
		}
	} else {
		pages = []string{"namespaces(7)", "pid_namespaces(7)", "network_namespaces(7)", "ipc_namespaces(7)", "cgroups(7)", "nft(8)", "systemd.unit(5)"}
	}
	p.section("SEE ALSO")
	for i, s := range pages {
		n, section, ok := strings.Cut(s, "(")
		if !ok {
			section = "1)"
		}
		comma := ","
		if i == len(pages)-1 {
			comma = ""
		}
		p.line(".BR %s (%s%s", text(n), section, comma)
	}
}

// text writes what is no request, though it may look like one.
func text(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

// arg writes an argument of a request.
func arg(s string) string { return `"` + strings.ReplaceAll(text(s), `"`, `\(dq`) + `"` }
