package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns those of the root and of this directory.
func documents(t *testing.T) []string {
	t.Helper()
	root, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(root, here)
}

// TestGo sees to it that the Go which documents show compiles: each block says of which
// file it is a part. CONTRIBUTING.md sketches a test.
func TestGo(t *testing.T) {
	blocks := 0
	for _, path := range documents(t) {
		if path == "../CONTRIBUTING.md" {
			continue
		}
		d := readDocument(t, path)
		for b, ok := d.next(0); ok; b, ok = d.next(b.end + 1) {
			kind, name, _ := strings.Cut(b.info, " ")
			if kind != "go" {
				continue
			}
			blocks++
			file, err := os.ReadFile("../" + name)
			text := strings.Join(d.lines[b.begin:b.end], "\n") + "\n"
			if err != nil || !strings.HasSuffix(name, ".go") || !strings.Contains(string(file), text) {
				t.Errorf("%s:%d: Go that is not in file %q (%v):\n%s", path, b.begin, name, err, text)
			}
		}
	}
	if blocks == 0 {
		t.Error("no document has Go")
	}
}

// TestLinks sees to it that links from document to document lead somewhere, to a heading
// too.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]*)\)`)
	for _, path := range documents(t) {
		for i, line := range prose(readDocument(t, path)) {
			for _, l := range link.FindAllStringSubmatch(line, -1) {
				if strings.Contains(l[1], "://") {
					continue
				}
				file, anchor, _ := strings.Cut(l[1], "#")
				if file == "" {
					file = filepath.Base(path)
				}
				target := filepath.Join(filepath.Dir(path), file)
				if _, err := os.Stat(target); err != nil {
					t.Errorf("%s:%d: link to %s: %v", path, i+1, l[1], err)
				} else if anchor != "" && !slices.Contains(anchors(readDocument(t, target)), anchor) {
					t.Errorf("%s:%d: link to %s: no such heading", path, i+1, l[1])
				}
			}
		}
	}
}

// TestFences sees to it that each block that is opened is closed, and that blocks for
// the console are run unless they say why not.
func TestFences(t *testing.T) {
	for _, path := range documents(t) {
		d := readDocument(t, path)
		fences := 0
		for i, line := range d.lines {
			if strings.HasPrefix(line, "```") {
				fences++
			}
			if strings.HasPrefix(line, "```console") && line != "```console" && line != "```console not run" {
				t.Errorf("%s:%d: %s: want console, or console not run", path, i+1, line)
			}
		}
		if fences%2 != 0 {
			t.Errorf("%s: %d fences", path, fences)
		}
	}
}

// prose returns the lines of a document, those of blocks empty.
func prose(d *document) []string {
	lines := slices.Clone(d.lines)
	for b, ok := d.next(0); ok; b, ok = d.next(b.end + 1) {
		for i := b.begin - 1; i <= b.end; i++ {
			lines[i] = ""
		}
	}
	return lines
}

// anchors returns what a document's headings are called in links.
func anchors(d *document) []string {
	var all []string
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, line := range prose(d) {
		if text := strings.TrimLeft(line, "#"); text != line && strings.HasPrefix(text, " ") {
			text = drop.ReplaceAllString(strings.ToLower(strings.TrimSpace(text)), "")
			all = append(all, strings.ReplaceAll(text, " ", "-"))
		}
	}
	return all
}
