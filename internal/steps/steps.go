// Package steps runs a plan: a list of named operations, each with its undo
// written next to it, executed by one loop.
package steps

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Step is one operation of a plan.
type Step struct {
	Name string // one word or two: "pause", "wire"
	Text string // what Do does, for people
	Back string // what Undo does, for people; empty if there is nothing to undo

	Do   func(context.Context) error
	Undo func(context.Context) error // may be nil; must bear being called when there is nothing to undo
}

// An Error is the failure of a step.
type Error struct {
	Step string
	Err  error
	// Undo is not nil if what had been done could not be undone: something is
	// left behind.
	Undo error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("step %s: %v", e.Step, e.Err)
	if e.Undo != nil {
		s += fmt.Sprintf(" (and undoing it: %v)", e.Undo)
	}
	return s
}

func (e *Error) Unwrap() []error { return []error{e.Err, e.Undo} }

// A Hook is called before each operation of a plan with its name. An error makes
// the operation fail, as if it had failed by itself. Tests use it to fail and to
// kill; a nil Hook does nothing.
type Hook func(step string) error

// undoTime bounds all undoing of one plan together.
const undoTime = 30 * time.Second

// Run does the steps in order. When one fails, or the context is cancelled, what
// was done is undone in reverse, the failed step included, whatever the context
// says; all undos run even if some fail.
func Run(ctx context.Context, plan []Step, hook Hook) error {
	for i, s := range plan {
		err := ctx.Err()
		if err == nil && hook != nil {
			err = hook(s.Name)
		}
		if err == nil {
			err = s.Do(ctx)
		}
		if err != nil {
			return &Error{s.Name, err, undo(ctx, plan[:i+1])}
		}
	}
	return nil
}

func undo(ctx context.Context, plan []Step) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	var errs []error
	for i := len(plan) - 1; i >= 0; i-- {
		if plan[i].Undo == nil {
			continue
		}
		if err := plan[i].Undo(ctx); err != nil {
			errs = append(errs, fmt.Errorf("step %s: %w", plan[i].Name, err))
		}
	}
	return errors.Join(errs...)
}
