//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
)

// What a guest says is made into a verdict, and a guest that does not come to its end, or
// says anything at all, into none that is good.
func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		name   string
		said   string
		failed []string
		now    string
		done   bool
	}{
		{name: "nothing"},
		{name: "all passed", said: "testvm: begin a/b\nPASS\ntestvm: end a/b 0 1\ntestvm: done\n", done: true},
		{name: "one failed", said: "testvm: begin a\ntestvm: end a 1 1\ntestvm: begin b\ntestvm: end b 0 1\ntestvm: done\n", failed: []string{"a"}, done: true},
		{name: "ended in the middle", said: "testvm: begin a\n=== RUN TestA\n", now: "a"},
		{name: "a line that is cut off", said: "testvm: begin a\ntestvm: end a 0", now: "a"},
		{name: "a signal", said: "testvm: begin a\ntestvm: end a 137 1\ntestvm: done", failed: []string{"a"}, done: true},
		{name: "words without a meaning", said: "testvm: \ntestvm: end\ntestvm: begin\ntestvm: begin a b\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var v verdict
			v.read(strings.NewReader(test.said))
			if !slices.Equal(v.failed, test.failed) || v.now != test.now || v.done != test.done {
				t.Errorf("failed %q in %q, done %v; want %q in %q, %v", v.failed, v.now, v.done, test.failed, test.now, test.done)
			}
		})
	}
}

// Of a package that failed, what is shown is of its tests that failed.
func TestFailures(t *testing.T) {
	said := `=== RUN   TestGood
    good_test.go:1: a remark
--- PASS: TestGood (0.00s)
=== RUN   TestBad
=== RUN   TestBad/sub
    bad_test.go:2: why
--- FAIL: TestBad (0.00s)
    --- FAIL: TestBad/sub (0.00s)
=== RUN   TestSkipped
    skip_test.go:3: not here
--- SKIP: TestSkipped (0.00s)
FAIL`
	want := `    bad_test.go:2: why
--- FAIL: TestBad (0.00s)
FAIL`
	if got := strings.Join(failures(strings.Split(said, "\n")), "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
