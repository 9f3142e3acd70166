package systemd

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxLine is as long as systemd reads a line (LONG_LINE_MAX).
const maxLine = 1<<20 - 1

// CommandLine writes a command for ExecStart and its like: see "Command lines" in
// systemd.service(5), and systemd.syntax(7) for quotes. systemd takes the line apart in this
// order: words, quotes and escapes, specifiers (%); and when it runs it, variables ($).
func CommandLine(argv []string) (string, error) {
	return quoted(argv, strings.NewReplacer("%", "%%", "$", "$$"))
}

// words writes a list of words for a setting that is no command.
func words(list []string) (string, error) { return quoted(list, strings.NewReplacer("%", "%%")) }

func quoted(list []string, double *strings.Replacer) (string, error) {
	out := make([]string, len(list))
	for i, word := range list {
		text, err := escape(word)
		if err != nil {
			return "", err
		}
		if text = double.Replace(text); text == "" || text != word || !plain(text) {
			text = `"` + text + `"`
		}
		out[i] = text
	}
	return strings.Join(out, " "), nil
}

// plain reports whether a word means itself: it has nothing of a quote, a separator, or a
// prefix of a program's path such as - and @.
func plain(word string) bool {
	for i, r := range word {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '/', r == '_', r == '.':
		case i > 0 && strings.ContainsRune("-=:,@+[]", r):
		case i == 0 && r == '-':
		default:
			return false
		}
	}
	return true
}

// escape writes what would end a quote or a line in the way of C.
func escape(s string) (string, error) {
	// systemd ignores lines that are not UTF-8.
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unknown) {
		return "", fmt.Errorf("%.40q: %w: want characters in UTF-8", s, ErrNotSaid)
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\' || r == '"':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String(), nil
}

// unknown reports what is no character to systemd: zero, and what Unicode says is none.
func unknown(r rune) bool {
	return r == 0 || 0xfdd0 <= r && r <= 0xfdef || r&0xfffe == 0xfffe
}

// inputLine writes a line for StandardInputText, around which systemd takes spaces away.
func inputLine(line string) (string, error) {
	text, err := escape(line)
	if err != nil {
		return "", err
	}
	text = strings.ReplaceAll(text, "%", "%%")
	if rest, ok := strings.CutPrefix(text, " "); ok {
		text = `\x20` + rest
	}
	if rest, ok := strings.CutSuffix(text, " "); ok {
		text = rest + `\x20`
	}
	return text, nil
}
