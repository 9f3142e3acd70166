package supervisor

import (
	"context"
	"fmt"
	"time"

	"github.com/podbox/podbox/internal/crilog"
	"github.com/podbox/podbox/launcher"
)

// NoLines as LogOptions.Tail passes over all that was written before.
const NoLines = crilog.None

// LogOptions say what of a log is read. The zero value is all that there is.
type LogOptions struct {
	Tail         int       // the last so many lines; 0: all
	Since, Until time.Time // unless zero
	Follow       bool      // until the container is at rest
}

// A LogEntry is a line of a log, or a part of one: the line goes on in the next entry
// of its stream if it is Partial, and has begun in the last if it is Continued. Text
// is valid until the function that was given the entry returns.
type LogEntry struct {
	Time               time.Time
	Stream             string // stdout or stderr
	Partial, Continued bool
	Text               []byte
}

// Logs calls f for each entry of the container's log. fs.ErrNotExist if it has never been
// started.
func (c *Container) Logs(ctx context.Context, opts LogOptions, f func(LogEntry) error) error {
	r, err := c.record()
	if err != nil {
		return err
	}
	if !r.Background {
		return c.wrap("logs of", fmt.Errorf("%w: it is, or was, in the foreground of process %d, which has its output", launcher.ErrNotSupported, r.Runner.PID))
	}
	path, err := c.logPath()
	if err != nil {
		return err
	}
	read := crilog.ReadOptions{Tail: opts.Tail, Since: opts.Since, Until: opts.Until, Follow: opts.Follow}
	if opts.Follow {
		done, cancel := context.WithCancel(ctx)
		defer cancel()
		rest := make(chan struct{})
		read.Done = rest
		go func() {
			_, _ = c.Wait(done)
			close(rest)
		}()
	}
	partial := map[string]bool{}
	err = crilog.Read(ctx, path, read, func(e crilog.Entry) error {
		entry := LogEntry{e.Time, e.Stream, e.Partial, partial[e.Stream], e.Text}
		partial[e.Stream] = e.Partial
		return f(entry)
	})
	return c.wrap("logs of", err)
}
