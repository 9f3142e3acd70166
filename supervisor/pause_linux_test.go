package supervisor

import (
	"context"
	"errors"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
)

// errWaits says that a call waits, though nothing is to be waited for in a paused pod.
var errWaits = errors.New("it still waits")

// answered returns what a call answers that is not to wait.
func answered(call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(bg, testenv.Patience(20*time.Second))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errWaits
	}
}

// A pod, or a container, is paused at whatever moment of a start: whoever starts something has it
// started, or is refused, but does not wait until it goes on.
func TestPauseMeetsStart(t *testing.T) {
	p := newPod(t)
	spec := shell(newRootfs(t), "sleep 100")
	spec.Name = "first"
	first, err := p.RunBackground(bg, spec)
	must(t, err)
	for i := range 12 {
		delay := time.Duration(i) * 700 * time.Microsecond
		spec.Name = ""
		var c *Container
		started := make(chan error, 1)
		go func() {
			started <- answered(func(ctx context.Context) (err error) {
				c, err = p.RunBackground(ctx, spec)
				return err
			})
		}()
		time.Sleep(delay)
		must(t, p.Pause(bg))
		err := <-started
		if err != nil && !errors.Is(err, sandbox.ErrPaused) {
			t.Errorf("paused after %v: %v", delay, err)
		}
		must(t, p.Unpause(bg))
		if err == nil {
			must(t, c.Remove(bg, true, StopOptions{Grace: -1}))
		}

		go func() {
			started <- answered(func(ctx context.Context) error {
				change := func(s *specs.Spec) error { s.Process.Args = []string{"/bin/sleep", "100"}; return nil }
				prog, err := first.Exec(ctx, change, launcher.Options{})
				if err == nil {
					t.Cleanup(func() { _ = prog.Signal(9); _, _ = prog.Wait(bg) })
				}
				return err
			})
		}()
		time.Sleep(delay)
		must(t, first.Pause(bg))
		if err := <-started; err != nil && !errors.Is(err, ErrPaused) {
			t.Errorf("container paused after %v: %v", delay, err)
		}
		must(t, first.Unpause())
	}
}

// What cannot be done to a container of a paused pod is refused at once, by another runtime too.
func TestPausedPod(t *testing.T) {
	p := newPod(t)
	spec := shell(newRootfs(t), "sleep 100")
	spec.Name = "a"
	c, err := p.RunBackground(bg, spec)
	must(t, err)
	must(t, p.Pause(bg))
	other := spec
	other.Name, other.Runtime = "b", "/bin/false" // it is not asked
	for what, call := range map[string]func(context.Context) error{
		"stop":   func(ctx context.Context) error { return c.Stop(ctx, StopOptions{}) },
		"rm -f":  func(ctx context.Context) error { return c.Remove(ctx, true, StopOptions{}) },
		"run -d": func(ctx context.Context) error { _, err := p.RunBackground(ctx, other); return err },
	} {
		if err := answered(call); !errors.Is(err, sandbox.ErrPaused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, p.Unpause(bg))
	must(t, c.Remove(bg, true, StopOptions{Grace: -1}))
}
