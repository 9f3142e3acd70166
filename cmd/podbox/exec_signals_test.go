package main

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/exit"
)

// noted is a program that notes its signals.
type noted struct {
	foreground
	got []unix.Signal
}

func (n *noted) Signal(s unix.Signal) error {
	n.got = append(n.got, s)
	return nil
}

// A signal that comes before it is known that the program runs is the program's; only if that does
// not begin to run, or somebody insists, it ends the start.
func TestSignalDuringStart(t *testing.T) {
	ctxErr := func(ctx context.Context) error { return ctx.Err() }
	hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for what, tt := range map[string]struct {
		send   []os.Signal
		begin  func(context.Context) error
		got    []unix.Signal
		status int
	}{
		"the program's":         {[]os.Signal{unix.SIGWINCH, unix.SIGHUP}, ctxErr, []unix.Signal{unix.SIGHUP}, 0},
		"it hangs":              {[]os.Signal{unix.SIGINT}, hangs, nil, 130},
		"it hangs, and quickly": {[]os.Signal{unix.SIGINT, unix.SIGTERM}, hangs, nil, 143},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			signals := make(chan os.Signal, len(tt.send))
			for _, s := range tt.send {
				signals <- s
			}
			program := new(noted)
			began := time.Now()
			_, err := start(t.Context(), signals, func(ctx context.Context) (foreground, error) {
				eventually(t, func() string {
					if len(signals) > 0 {
						return "nobody asks for the signals"
					}
					return ""
				})
				return program, tt.begin(ctx)
			})
			if status, _ := err.(exit.Status); int(status) != tt.status || !slices.Equal(program.got, tt.got) {
				t.Errorf("status %d, %v; signals %v, want %v", status, err, program.got, tt.got)
			}
			if took := time.Since(began); what == "it hangs" && took < startTime {
				t.Errorf("it was ended after %v", took)
			}
		})
	}
}
