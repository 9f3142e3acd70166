package supervisor

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/crilog"
)

// messageFile is what a container has at the path of its termination message.
const messageFile = "message"

// Bounds of messages, which are the kubelet's: of one that a container has left, and of
// what stands in for it.
const (
	maxMessage  = 4096 // bytes
	maxLogBytes = 2048
	maxLogLines = 80
)

// makeMessage makes an empty file for the container's last message.
func (c *Container) makeMessage(r *record) error {
	if r.Spec.Termination.Path == "" {
		return nil
	}
	// The last one may still be mounted somewhere: it is not to be written to.
	if err := os.Remove(c.file(messageFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(c.file(messageFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o666), f.Close()) // whoever the container's user is
}

// message returns the last message of a container that has ended, or what stands in for
// it.
func (c *Container) message(r *record) string {
	t := r.Spec.Termination
	var said string
	if t.Path != "" {
		said = readHead(c.file(messageFile), maxMessage)
	}
	if said == "" && t.FallbackToLogs && (r.ExitCode == nil || *r.ExitCode != 0) {
		said = c.logTail(r.Started, maxLogLines, maxLogBytes)
	}
	return strings.ToValidUTF8(said, "\ufffd")
}

func readHead(path string, n int64) string {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, n))
	return string(b)
}

// logTail returns the end of what the container has written since it was started.
func (c *Container) logTail(since time.Time, lines, n int) string {
	path, err := c.logPath()
	if err != nil {
		return ""
	}
	var b []byte
	_ = crilog.Read(context.Background(), path, crilog.ReadOptions{Tail: lines, Since: since}, func(e crilog.Entry) error {
		b = append(b, e.Text...)
		if !e.Partial {
			b = append(b, '\n')
		}
		if len(b) > 16*n { // a line may be as long as the log
			b = b[:copy(b, b[len(b)-n:])]
		}
		return nil
	})
	return string(b[max(0, len(b)-n):])
}
