package docs

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// A document is a file of Markdown, line by line.
type document struct {
	path  string
	lines []string
}

// A block is what stands between two fences.
type block struct {
	info       string // what follows the opening fence, such as "console"
	begin, end int    // of its lines in the document
}

// A step is one command of a console block, and what it shows.
type step struct {
	command    string
	begin, end int // of the lines that it shows, in the document
}

func readDocument(t *testing.T, path string) *document {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return &document{path: path, lines: strings.Split(string(bytes.TrimSuffix(b, []byte("\n"))), "\n")}
}

func (d *document) write(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(d.path, []byte(strings.Join(d.lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace puts other lines in place of those from begin to end.
func (d *document) replace(begin, end int, by []string) {
	d.lines = append(d.lines[:begin:begin], append(by, d.lines[end:]...)...)
}

// next returns the first block that begins at or after a line.
func (d *document) next(from int) (block, bool) {
	for i := from; i < len(d.lines); i++ {
		info, opens := strings.CutPrefix(d.lines[i], "```")
		if !opens {
			continue
		}
		for end := i + 1; end < len(d.lines); end++ {
			if d.lines[end] == "```" {
				return block{strings.TrimSpace(info), i + 1, end}, true
			}
		}
	}
	return block{}, false
}

// step returns the first command of a block at or after a line. A command is what
// follows "# ", and "> " on the lines after that.
func (d *document) step(b block, from int) (step, bool) {
	for i := from; i < b.end; i++ {
		command, is := strings.CutPrefix(d.lines[i], "# ")
		if !is {
			continue
		}
		s := step{command: command}
		for i++; i < b.end && strings.HasPrefix(d.lines[i], "> "); i++ {
			s.command += "\n" + d.lines[i][2:]
		}
		s.begin, s.end = i, i
		for s.end < b.end && !strings.HasPrefix(d.lines[s.end], "# ") {
			s.end++
		}
		return s, true
	}
	return step{}, false
}
