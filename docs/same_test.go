package docs

import (
	"regexp"
	"strings"
	"testing"
)

// varies is what differs from one time to the next, and the word for it.
var varies = []struct {
	what *regexp.Regexp
	word string
}{
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "ID"},
	{regexp.MustCompile(`\bpbx[0-9a-f]{12}\b`), "LINK"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "MAC"},
	{regexp.MustCompile(`\b20\d\d-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`\b(\d+ seconds?|Less than a second) ago\b`), "AGO"},
	{regexp.MustCompile(`\b0x[0-9a-f]{8}\b`), "KEY"},
	{regexp.MustCompile(`\b(eth0@if)\d+( +)\w+`), "${1}N STATE"},
	{regexp.MustCompile(`\b(pid|PID|process) \d+`), "$1 N"},
	{regexp.MustCompile(`\b402[67]\d{6}\b`), "INODE"},
	{regexp.MustCompile(`\b\d+(\.\d+)?([kKMGT]i?B|B)\b`), "SIZE"},
	{regexp.MustCompile(`^(\d+ +)\d+ +\d+( +[RSDZ] )`), "${1}N N$2"}, // of podbox top
	{regexp.MustCompile(`^(\S+ +\S+ +)\d+\.\d( +SIZE )`), "${1}N$2"}, // of podbox stats
	{regexp.MustCompile(`([-─]{3,})`), "---"},                        // of tables
	{regexp.MustCompile(`[ \t]+`), " "},
}

// plain returns a line without what varies.
func plain(line string) string {
	for _, v := range varies {
		line = v.what.ReplaceAllString(line, v.word)
	}
	return strings.TrimSpace(line)
}

// same reports whether what was written is what a document shows, in which "..." on a
// line of its own stands for any lines.
func same(shown, written []string) bool {
	if len(shown) == 0 {
		return len(written) == 0
	}
	if shown[0] == "..." {
		for skip := range len(written) + 1 {
			if same(shown[1:], written[skip:]) {
				return true
			}
		}
		return false
	}
	return len(written) > 0 && plain(shown[0]) == plain(written[0]) && same(shown[1:], written[1:])
}

func TestSame(t *testing.T) {
	lines := func(s string) []string { return strings.Fields(s) }
	for _, tt := range []struct {
		shown, written string
		want           bool
	}{
		{"", "", true},
		{"a", "a", true},
		{"a", "b", false},
		{"a", "", false},
		{"", "a", false},
		{"a b", "a", false},
		{"... b", "a a b", true},
		{"... b", "a a", false},
		{"a ...", "a b c", true},
		{"a ... b", "a b", true},
		{"a ... b", "a b c", false},
		{strings.Repeat("a", 64), strings.Repeat("0", 64), true},
		{strings.Repeat("a", 64), strings.Repeat("0", 63), false},
	} {
		if got := same(lines(tt.shown), lines(tt.written)); got != tt.want {
			t.Errorf("%q for %q: %t", tt.written, tt.shown, got)
		}
	}
	for shown, written := range map[string]string{
		"web   0b747d7d3612   running  11 seconds ago": "web 123456789abc running   Less than a second ago",
		`pid 18164 heard "hello"`:                      `pid 9 heard "hello"`,
		"eth0@if14        UP             10.88.0.2/32": "eth0@if2 DOWN 10.88.0.2/32",
	} {
		if !same([]string{shown}, []string{written}) {
			t.Errorf("%q is not %q", plain(written), plain(shown))
		}
	}
}
