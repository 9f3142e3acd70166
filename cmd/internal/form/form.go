// Package form writes things in the forms that all listings have: a table for people,
// JSON, YAML, or what a template says.
package form

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"text/template"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// A Choice is the form in which a command shows things, as its flags say.
type Choice struct {
	Form     string // table, wide, json, yaml or name
	Template string // a Go template, instead
}

// Flags adds the flags that choose among forms; the first is the default.
func (c *Choice) Flags(cmd *cobra.Command, forms ...string) {
	cmd.Flags().StringVarP(&c.Form, "output", "o", forms[0], "form: "+strings.Join(forms, ", "))
	cmd.Flags().StringVar(&c.Template, "format", "", "Go `template` for each, such as '{{.Name}} {{.IP}}'")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	check := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, f := range forms {
			if c.Form == f {
				return check(cmd, args)
			}
		}
		return fmt.Errorf("output %q: want %s", c.Form, strings.Join(forms, ", "))
	}
}

// Parse parses --format; nil if it is not given.
func (c *Choice) Parse() (*template.Template, error) {
	if c.Template == "" {
		return nil, nil
	}
	t, err := template.New("format").Option("missingkey=error").Funcs(template.FuncMap{
		"json": func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
		"join": func(list any, sep string) string {
			return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(list), "[]")), sep)
		},
	}).Parse(c.Template)
	if err != nil {
		return nil, fmt.Errorf("format %q: %w", c.Template, err)
	}
	return t, nil
}

// Each writes things by a template, one a line.
func Each[T any](w io.Writer, t *template.Template, things []T) error {
	for _, thing := range things {
		if err := t.Execute(w, thing); err != nil {
			return fmt.Errorf("format: %w", err)
		}
		fmt.Fprintln(w)
	}
	return nil
}

// Encode writes v as JSON or YAML; field names are the same in both.
func Encode(w io.Writer, form string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if form == "yaml" {
		if b, err = yaml.JSONToYAML(b); err != nil {
			return err
		}
	}
	_, err = w.Write(b)
	return err
}

// EncodeLine writes v as a line of JSON.
func EncodeLine(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// Printable quotes what a terminal could take for a command, or a reader for
// another row: some names are chosen by programs in pods.
func Printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// Table writes rows under titles, in columns.
func Table(w io.Writer, titles []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, strings.Join(titles, "\t"))
	for _, row := range rows {
		for i := range row {
			row[i] = Printable(row[i])
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

// Dash stands for what is not there.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
