package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// parseKeys reads a sequence of keys such as ctrl-p,ctrl-q. None: no keys do.
func parseKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var keys []byte
	for word := range strings.SplitSeq(s, ",") {
		key, control := strings.CutPrefix(word, "ctrl-")
		switch {
		case !control && len(word) == 1:
			keys = append(keys, word[0])
		case control && len(key) == 1 && strings.Contains("abcdefghijklmnopqrstuvwxyz@[\\]^_", key):
			keys = append(keys, strings.ToUpper(key)[0]&0x1f)
		default:
			return nil, fmt.Errorf("--detach-keys %q: %w: want characters and ctrl-CHARACTERs with commas between them", s, sandbox.ErrInvalid)
		}
	}
	return keys, nil
}

// copyKeys copies what is typed until it ends, or until keys were typed: then it
// returns true. What may be the beginning of keys waits for what follows.
func copyKeys(w io.Writer, r io.Reader, keys []byte) (typed bool) {
	var held []byte
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		held = append(held, buf[:n]...)
		if len(keys) > 0 {
			if i := bytes.Index(held, keys); i >= 0 {
				_, _ = w.Write(held[:i])
				return true
			}
		}
		pass := len(held) - beginning(held, keys)
		if err != nil {
			pass = len(held)
		}
		if pass > 0 {
			if _, werr := w.Write(held[:pass]); werr != nil {
				return false
			}
			held = append(held[:0], held[pass:]...)
		}
		if err != nil {
			return false
		}
	}
}

// beginning returns how many of the last bytes of b may be the beginning of keys.
func beginning(b, keys []byte) int {
	for n := min(len(b), len(keys)-1); n > 0; n-- {
		if bytes.HasPrefix(keys, b[len(b)-n:]) {
			return n
		}
	}
	return 0
}

// followSize keeps the size of a container's terminal that of podbox's.
func followSize(att *supervisor.Attachment) (stop func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	changed <- unix.SIGWINCH
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-changed:
				if size, err := unix.IoctlGetWinsize(int(os.Stdin.Fd()), unix.TIOCGWINSZ); err == nil {
					_ = att.Resize(size.Col, size.Row)
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(done)
	}
}
