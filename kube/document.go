package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A part is the text of one document of a source.
type part struct {
	text []byte
	line int // its first, from 1
}

// split cuts a text at lines that begin with "---", as kubectl does. In a document of YAML
// there can be none.
func split(text []byte) []part {
	var parts []part
	start, startLine, line := 0, 1, 1
	for at := 0; at < len(text); line++ {
		end := at + bytes.IndexByte(text[at:], '\n') + 1
		if end == at {
			end = len(text)
		}
		if rest, ok := bytes.CutPrefix(text[at:end], []byte("---")); ok && (len(rest) == 0 || strings.ContainsRune(" \t\r\n", rune(rest[0]))) {
			if at > start {
				parts = append(parts, part{text[start:at], startLine})
			}
			start, startLine = at, line
		}
		at = end
	}
	return append(parts, part{text[start:], startLine})
}

// parse returns the document's root; nil if there is nothing in it.
func (p part) parse() (*yaml.Node, error) {
	text := bytes.TrimPrefix(p.text, []byte("\ufeff"))
	if trimmed := bytes.TrimLeft(bytes.TrimPrefix(text, []byte("---")), " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		// JSON nearly is YAML: but its escapes are not, in pairs.
		if node, err := parseJSON(trimmed, bytes.Count(text[:len(text)-len(trimmed)], []byte("\n"))+1); err == nil {
			return node, nil
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var node yaml.Node
	if err := d.Decode(&node); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New(`want "---" between documents`)
	}
	if node.Kind != yaml.DocumentNode || len(node.Content) != 1 {
		return nil, errors.New("want one value")
	}
	root := node.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, nil
	}
	return root, nil
}

var atLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxError returns where in the file, whose first line is given, and what is wrong. The
// library's lines are of the document, and begin at 0 or 1 as it happens.
func syntaxError(err error, first int) (line int, text string) {
	text = err.Error()
	m := atLine.FindStringSubmatch(text)
	line = first
	if m == nil {
		return line, text
	}
	if n, err := strconv.Atoi(m[1]); err == nil && n > 0 {
		line = first + n - 1
	}
	return line, text[len(m[0]):]
}

// parseJSON makes of JSON what the YAML library would. Keys that are given twice are kept
// twice.
func parseJSON(text []byte, line int) (*yaml.Node, error) {
	j := &jsonParser{text: text, line: line, d: json.NewDecoder(bytes.NewReader(text))}
	j.d.UseNumber()
	node, err := j.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := j.d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return node, nil
}

type jsonParser struct {
	text []byte
	line int
	seen int // bytes whose lines are counted
	d    *json.Decoder
}

func (j *jsonParser) value(depth int) (*yaml.Node, error) {
	if depth > maxDepth+1 {
		return nil, errTooDeep
	}
	token, err := j.d.Token()
	if err != nil {
		return nil, err
	}
	at := int(j.d.InputOffset())
	j.line += bytes.Count(j.text[j.seen:at], []byte("\n"))
	j.seen = at
	n := &yaml.Node{Line: j.line, Kind: yaml.ScalarNode}
	switch t := token.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if t == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		for j.d.More() {
			c, err := j.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		if _, err := j.d.Token(); err != nil {
			return nil, err
		}
	case string:
		n.Tag, n.Value, n.Style = "!!str", t, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!int", t.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(t)
	case nil:
		n.Tag, n.Value = "!!null", "null"
	default:
		return nil, fmt.Errorf("unexpected %v", t)
	}
	return n, nil
}
