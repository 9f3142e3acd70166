package docs

import (
	"regexp"
	"strings"
	"testing"
)

var (
	quoted = regexp.MustCompile("`([^`]+)`")
	flags  = regexp.MustCompile(`(?:^|[ \[])(--[a-z][a-z0-9-]*)`)
	listed = regexp.MustCompile(`(?m)^  ([a-z-]+) +[A-Z].*$`) // by podbox --help
)

// verbs sees to it that a document's table of commands has every verb, and no flag that
// there is not. A row is
//
//	| `podbox VERB ...`, `VERB ...` | what they do, with `--flags` |
func verbs(t *testing.T, d *document, s *shell) {
	help := func(verb string) string {
		t.Helper()
		out, status, err := s.run("podbox " + verb + " --help")
		if err != nil || status != 0 {
			t.Fatalf("podbox %s --help: status %d, %v", verb, status, err)
		}
		return strings.Join(out, "\n")
	}
	found := make(map[string]bool)
	for _, line := range d.lines {
		cell, does, isRow := strings.Cut(line, " | ")
		if !isRow || !strings.HasPrefix(cell, "| `podbox ") {
			continue
		}
		var group, text string
		for _, q := range quoted.FindAllStringSubmatch(cell, -1) {
			words := strings.Fields(strings.TrimPrefix(q[1], "podbox "))
			if words[0] == "image" || words[0] == "network" {
				found[words[0]] = true
				group, words = words[0]+" ", words[1:]
			}
			found[group+words[0]] = true
			text += help(group + words[0])
		}
		for _, q := range quoted.FindAllStringSubmatch(cell+does, -1) {
			for _, flag := range flags.FindAllStringSubmatch(q[1], -1) {
				if !regexp.MustCompile(flag[1] + `[ \[\n]`).MatchString(text) {
					t.Errorf("%s: %s: there is no flag %s", d.path, cell, flag[1])
				}
			}
		}
	}
	all := listed.FindAllStringSubmatch(help(""), -1)
	for _, verb := range all {
		if verb[1] != "help" && !found[verb[1]] {
			t.Errorf("%s does not have podbox %s", d.path, verb[1])
		}
	}
	if len(all) < 30 {
		t.Errorf("podbox lists %d verbs only", len(all))
	}
}
