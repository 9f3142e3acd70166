package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/podbox/podbox/sandbox"
)

func TestParseKeys(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "ctrl-p,ctrl-q": "\x10\x11", "ctrl-a,d": "\x01d", "q": "q", "ctrl-@": "\x00", "ctrl-[": "\x1b", "ctrl-_,-": "\x1f-",
	} {
		got, err := parseKeys(s)
		if string(got) != want || err != nil {
			t.Errorf("parseKeys(%q) = %q, %v, want %q", s, got, err, want)
		}
	}
	for _, s := range []string{",", "ctrl-", "ctrl-P", "ctrl-pq", "alt-x", "ab", "a,", "ctrl-é", "é"} {
		if got, err := parseKeys(s); !errors.Is(err, sandbox.ErrInvalid) {
			t.Errorf("parseKeys(%q) = %q, %v, want ErrInvalid", s, got, err)
		}
	}
}

// TestCopyKeys holds that all that is typed passes but the keys, wherever a read may
// cut it.
func TestCopyKeys(t *testing.T) {
	for _, test := range []struct {
		keys, in, out string
		typed         bool
	}{
		{"ab", "", "", false},
		{"ab", "hello", "hello", false},
		{"ab", "ab", "", true},
		{"ab", "xab", "x", true},
		{"ab", "xaab", "xa", true},
		{"ab", "xabmore", "x", true},
		{"ab", "xa", "xa", false},
		{"ab", "xacb", "xacb", false},
		{"aab", "aaab", "a", true},
		{"abac", "ababac", "ab", true},
		{"a", "bcab", "bc", true},
		{"", "ab", "ab", false},
	} {
		for _, typing := range []io.Reader{strings.NewReader(test.in), iotest.OneByteReader(strings.NewReader(test.in))} {
			var out strings.Builder
			if typed := copyKeys(&out, typing, []byte(test.keys)); typed != test.typed || out.String() != test.out {
				t.Errorf("keys %q in %q (%T): %q, %v, want %q, %v", test.keys, test.in, typing, out.String(), typed, test.out, test.typed)
			}
		}
	}
}
