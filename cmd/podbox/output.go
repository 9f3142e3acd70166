package main

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

// An output is the form in which a command shows things.
type output struct {
	form   string // table, wide, json, yaml or name
	format string // a Go template, instead
}

// flags adds the flags that choose among forms; the first is the default.
func (o *output) flags(cmd *cobra.Command, forms ...string) {
	cmd.Flags().StringVarP(&o.form, "output", "o", forms[0], "form: "+strings.Join(forms, ", "))
	cmd.Flags().StringVar(&o.format, "format", "", "Go `template` for each, such as '{{.Name}} {{.IP}}'")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	check := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, f := range forms {
			if o.form == f {
				return check(cmd, args)
			}
		}
		return fmt.Errorf("output %q: want %s", o.form, strings.Join(forms, ", "))
	}
}

// template parses --format; nil if it is not given.
func (o *output) template() (*template.Template, error) {
	if o.format == "" {
		return nil, nil
	}
	t, err := template.New("format").Option("missingkey=error").Funcs(template.FuncMap{
		"json": func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
		"join": func(list any, sep string) string {
			return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(list), "[]")), sep)
		},
	}).Parse(o.format)
	if err != nil {
		return nil, fmt.Errorf("format %q: %w", o.format, err)
	}
	return t, nil
}

// printEach writes things by a template, one a line.
func printEach[T any](w io.Writer, t *template.Template, things []T) error {
	for _, thing := range things {
		if err := t.Execute(w, thing); err != nil {
			return fmt.Errorf("format: %w", err)
		}
		fmt.Fprintln(w)
	}
	return nil
}

// encode writes v as JSON or YAML; field names are the same in both.
func encode(w io.Writer, form string, v any) error {
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

// encodeLine writes v as a line of JSON.
func encodeLine(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// printable quotes what a terminal could take for a command, or a reader for
// another row: some names are chosen by programs in pods.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// table writes rows under titles, in columns.
func table(w io.Writer, titles []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, strings.Join(titles, "\t"))
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}
