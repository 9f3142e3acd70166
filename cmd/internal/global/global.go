// Package global has the flags that all verbs share, and the runtime that they name.
package global

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/podbox/podbox/netns/cni"
	"github.com/podbox/podbox/sandbox"
)

// Flags are the values of the global flags.
type Flags struct {
	Root     string
	StateDir string
	LogLevel string
	// CNI is set by the verbs that have flags for it.
	CNI cni.Driver
}

// Add adds the flags to those of a command.
func (f *Flags) Add(to *pflag.FlagSet) {
	to.StringVar(&f.Root, "root", sandbox.DefaultRoot, "directory of the pods' records")
	to.StringVar(&f.StateDir, "state-dir", sandbox.DefaultStateDir, "directory for images, volumes on the disk and logs")
	to.StringVar(&f.LogLevel, "log-level", "warn", "what is told on stderr: debug, info, warn or error")
}

// Logger returns the logger that --log-level asks for.
func (f *Flags) Logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.LogLevel)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", f.LogLevel)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})), nil
}

// Runtime opens the runtime that the flags name.
func (f *Flags) Runtime() (*sandbox.Runtime, error) {
	log, err := f.Logger()
	if err != nil {
		return nil, err
	}
	return sandbox.Open(sandbox.Options{Root: f.Root, StateDir: f.StateDir, CNI: f.CNI, Logger: log})
}

// Images returns the directory of the image store.
func (f *Flags) Images() string { return filepath.Join(f.StateDir, "images") }
