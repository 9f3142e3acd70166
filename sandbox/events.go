package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// An Event says that something has happened to a pod, or to a container of one.
type Event struct {
	Time time.Time `json:"time"`
	// Action of a pod: create, start, stop, pause, unpause, publish, unpublish, update, remove. Of a container:
	// start, which comes again with each restart, die and remove.
	Action    string `json:"action"`
	Pod       string `json:"pod"` // the ID
	Name      string `json:"name,omitempty"`
	Container string `json:"container,omitempty"`
	// ExitCode is that of a container that died, if it is known.
	ExitCode *int `json:"exitCode,omitempty"`
	OOM      bool `json:"oomKilled,omitempty"`
}

// Events are lines of JSON at the end of a file, each written at once; when it is
// large, it becomes events.1, and what that was is forgotten.
const (
	eventsFile = "events"
	maxEvents  = 1 << 20 // bytes
)

// Announce adds an event to those that Events returns. Nothing depends on it: what
// cannot be written is lost.
func (rt *Runtime) Announce(e Event) {
	e.Time = time.Now().UTC()
	b, err := json.Marshal(e)
	if err != nil {
		return
	}
	path := filepath.Join(rt.root, eventsFile)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.Write(append(b, '\n'))
	if st, err := f.Stat(); err == nil && st.Size() > maxEvents && !replaced(f, path) {
		_ = os.Rename(path, path+".1")
	}
}

func (rt *Runtime) announce(action string, rec *record) {
	rt.Announce(Event{Action: action, Pod: rec.ID, Name: rec.Spec.Name})
}

// pollTime is how often Events looks for new ones.
const pollTime = 50 * time.Millisecond

// Events calls f for each event since a time, the oldest first; with follow also for
// those to come, until the context ends.
func (rt *Runtime) Events(ctx context.Context, since time.Time, follow bool, f func(Event) error) error {
	path := filepath.Join(rt.root, eventsFile)
	show := func(line []byte) error {
		var e Event
		if json.Unmarshal(line, &e) != nil || e.Time.Before(since) {
			return nil
		}
		return f(e)
	}
	if old, err := os.Open(path + ".1"); err == nil {
		_, err = readLines(old, nil, show)
		old.Close()
		if err != nil {
			return err
		}
	}
	var rest []byte
	var now *os.File
	defer func() {
		if now != nil {
			now.Close()
		}
	}()
	for {
		if now == nil {
			var err error
			if now, err = os.Open(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if now != nil {
			var err error
			if rest, err = readLines(now, rest, show); err != nil {
				return err
			}
			if follow && replaced(now, path) {
				if _, err = readLines(now, rest, show); err != nil {
					return err
				}
				now.Close()
				now, rest = nil, nil
				continue
			}
		}
		if !follow {
			return nil
		}
		select {
		case <-time.After(pollTime):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// replaced reports whether f is not the file at path any more.
func replaced(f *os.File, path string) bool {
	has, err := f.Stat()
	if err != nil {
		return false
	}
	is, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(has, is)
}

// readLines calls f for each whole line that is left of r, of which begun is the
// beginning, and returns what is left after the last.
func readLines(r io.Reader, begun []byte, f func([]byte) error) ([]byte, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return begun, err
	}
	b = append(begun, b...)
	for {
		line, rest, found := bytes.Cut(b, []byte{'\n'})
		if !found {
			return b, nil
		}
		if err := f(line); err != nil {
			return nil, err
		}
		b = rest
	}
}
