//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asPodtalk makes the test binary be podtalk, so that a pair of it can be run
// without a build.
const asPodtalk = "PODTALK_TEST_AS_PODTALK"

func TestMain(m *testing.M) {
	if os.Getenv(asPodtalk) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestUsage(t *testing.T) {
	tests := []struct {
		args   []string
		status int
		want   string // somewhere in the output
	}{
		{nil, 2, "podtalk sysv-shm-write [-timeout 10s] KEY TEXT"},
		{[]string{"help"}, 0, "podtalk mq-consume [-timeout 10s] [-keep] NAME"},
		{[]string{"tcp-listen"}, 2, `podtalk: unknown command "tcp-listen"`},
		{[]string{"tcp-serve"}, 2, "usage: podtalk tcp-serve [-timeout 10s] [-count 1] ADDR"},
		{[]string{"tcp-serve", "a", "b"}, 2, "usage: podtalk tcp-serve"},
		{[]string{"tcp-serve", "-h"}, 0, "usage: podtalk tcp-serve"},
		{[]string{"tcp-serve", "-keep", "a"}, 2, "flag provided but not defined: -keep"},
		{[]string{"tcp-serve", "-timeout", "0s", "a"}, 2, "usage: podtalk tcp-serve"},
		{[]string{"tcp-serve", "-count", "-1", "a"}, 2, "usage: podtalk tcp-serve"},
		{[]string{"tcp-dial", "127.0.0.1:1", ""}, 1, "podtalk: tcp-dial 127.0.0.1:1: the message is empty\n"},
		{[]string{"sysv-msg-send", "1", strings.Repeat("a", 8193)}, 1, "podtalk: sysv-msg-send 1: the message has 8193 bytes, at most 8192 are carried\n"},
		{[]string{"sysv-sem-wait", "0"}, 1, "podtalk: sysv-sem-wait 0: key 0 is IPC_PRIVATE: nobody else could find the object\n"},
		{[]string{"sysv-sem-wait", "door"}, 1, "podtalk: sysv-sem-wait door: key \"door\": invalid syntax\n"},
		{[]string{"mq-produce", "/a/b", "3"}, 1, "podtalk: mq-produce /a/b: \"/a/b\" is not the name of a message queue\n"},
		{[]string{"mq-produce", "/a", "-3"}, 1, "podtalk: mq-produce /a: number of messages \"-3\": invalid syntax\n"},
		{[]string{"sysv-msg-produce", "7", "many"}, 1, "podtalk: sysv-msg-produce 7: number of messages \"many\": invalid syntax\n"},
		{[]string{"sysv-msg-consume", "key"}, 1, "podtalk: sysv-msg-consume key: key \"key\": invalid syntax\n"},
		{[]string{"sysv-msg-consume", "-timeout", "1ms", "0x7e57"}, 1, "podtalk: sysv-msg-consume 0x7e57: msgget: no such file or directory (gave up after 1ms)\n"},
		{[]string{"sem-post", "a/b"}, 1, "podtalk: sem-post a/b: \"a/b\" is not the name of a semaphore\n"},
		{[]string{"file-read", "-timeout", "1ms", "/nonexistent"}, 1, "podtalk: file-read /nonexistent: open /nonexistent: no such file or directory (gave up after 1ms)\n"},
		{[]string{"file-write", "/nonexistent/a", "text"}, 1, "podtalk: file-write /nonexistent/a: open /nonexistent/"},
		{[]string{"shm-write", "../tmp/a", "text"}, 1, "podtalk: shm-write ../tmp/a: \"../tmp/a\" is not the name of a shared memory object\n"},
		{[]string{"tcp-serve", "-timeout", "1ms", "127.0.0.1:0"}, 1, "heard 0 of 1 messages (gave up after 1ms)\n"},
		{[]string{"udp-serve", "-timeout", "1ms", "-count", "0", "127.0.0.1:0"}, 0, "listening on 127.0.0.1:"},
		{[]string{"unix-dial", "-timeout", "200ms", "@podtalk-test-nobody", "hello"}, 1, "connect: connection refused (gave up after 200ms)\n"},
		{[]string{"shm-read", "-timeout", "1ms", "podtalk-test-nothing"}, 1, "open /dev/shm/podtalk-test-nothing: no such file or directory (gave up after 1ms)\n"},
	}
	for _, test := range tests {
		var out bytes.Buffer
		if got := run(t.Context(), test.args, &out, &out); got != test.status || !strings.Contains(out.String(), test.want) {
			t.Errorf("run(%.60q) = %d and printed:\n%s\nwant %d and, in the text, %q", test.args, got, &out, test.status, test.want)
		}
	}
}

func TestRetry(t *testing.T) {
	calls := 0
	err := retry(t.Context(), func() error {
		if calls++; calls < 3 {
			return os.NewSyscallError("connect", unix.ECONNREFUSED)
		}
		return nil
	}, unix.ECONNREFUSED)
	if err != nil || calls != 3 {
		t.Errorf("after two refusals: %v in %d calls, want success in 3", err, calls)
	}

	calls = 0
	err = retry(t.Context(), func() error { calls++; return io.EOF }, unix.ECONNREFUSED)
	if err != io.EOF || calls != 1 {
		t.Errorf("an error that lasts: %v in %d calls, want EOF in 1", err, calls)
	}

	cause := errors.New("bored")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, cause)
	defer cancel()
	err = retry(ctx, func() error { return fs.ErrNotExist }, fs.ErrNotExist)
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, cause) {
		t.Errorf("out of time: %v, want both what was amiss and the cause", err)
	}
}

func TestAnswer(t *testing.T) {
	for _, message := range []string{"hello", "two words", "a \"quote\"", "line\nbreak", "\xff\x00"} {
		if err := checkAnswer(answer(7, message), message); err != nil {
			t.Errorf("the answer to %q: %v", message, err)
		}
	}
	for _, reply := range []string{"", "hello", `pid heard "hello"`, `pid 7 heard "hello" and more`, `pid 7 heard "hell"`} {
		if checkAnswer(reply, "hello") == nil {
			t.Errorf("%q passes for an answer to %q", reply, "hello")
		}
	}
}

func TestParseKey(t *testing.T) {
	for _, test := range []struct {
		in   string
		want int
	}{
		{"1", 1},
		{"0x706f6462", 0x706f6462},
		{"0xffffffff", -1}, // as ipcs(1) prints a negative key_t
	} {
		if got, err := parseKey(test.in); err != nil || got != test.want {
			t.Errorf("parseKey(%q) = %d, %v; want %d", test.in, got, err, test.want)
		}
	}
	for _, in := range []string{"", "0", "-1", "0x100000000", "key"} {
		if got, err := parseKey(in); err == nil {
			t.Errorf("parseKey(%q) = %d, want an error", in, got)
		}
	}
}

func TestSegment(t *testing.T) {
	segment := make([]byte, segmentHeader+5)
	if _, err := textOf(segment); err != errUnwritten {
		t.Errorf("fresh segment: %v, want %v", err, errUnwritten)
	}
	putText(segment, "hello")
	if got, err := textOf(segment); got != "hello" || err != nil {
		t.Errorf("textOf(putText(hello)) = %q, %v", got, err)
	}
	for _, hostile := range [][]byte{nil, {1, 0, 0}, {2, 0, 0, 0, 'a'}, {255, 255, 255, 255, 'a'}} {
		if got, err := textOf(hostile); err == nil {
			t.Errorf("textOf(%v) = %q, want an error", hostile, got)
		}
	}
}

func TestObjectNames(t *testing.T) {
	for _, name := range []string{"", "/", ".", "..", "/..", "a/b", "//a", "a\x00b"} {
		if _, err := queueName(name); err == nil {
			t.Errorf("queueName(%q) succeeded", name)
		}
		if path, err := shmPath(name); err == nil {
			t.Errorf("shmPath(%q) = %q", name, path)
		}
	}
	for _, name := range []string{"talk", "/talk", "...", ".talk"} {
		if _, err := queueName(name); err != nil {
			t.Errorf("queueName(%q): %v", name, err)
		}
		if path, err := shmPath(name); err != nil || path != "/dev/shm/"+strings.TrimPrefix(name, "/") {
			t.Errorf("shmPath(%q) = %q, %v", name, path, err)
		}
	}
}

func matches(t *testing.T, who, got, want string) {
	t.Helper()
	if !regexp.MustCompile(`^(?:` + want + `)$`).MatchString(got) {
		t.Errorf("%s printed %q, want it to match %q", who, got, want)
	}
}

// Programs in C, such as Python, find the same semaphore.
func TestSemaphore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sem.talk")
	sem, unmap, err := openSemaphore(path)
	if err != nil {
		t.Fatal(err)
	}
	defer unmap()
	if err := errors.Join(sem.post(), sem.post(), sem.wait(t.Context())); err != nil {
		t.Fatal(err)
	}
	// struct new_sem of glibc's internaltypes.h: value, waiters, private.
	want := append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0x80}, make([]byte, semSize-9)...)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("one post left: %v, %v; want %v", got, err, want)
	}
	if err := sem.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := sem.wait(ctx); !errors.Is(err, context.DeadlineExceeded) || sem.state != 0 {
		t.Errorf("nobody posts: %v, state %#x", err, sem.state)
	}
}
