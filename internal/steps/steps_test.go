package steps

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	errDo, errUndo := errors.New("do"), errors.New("undo")
	for fail := 0; fail <= 4; fail++ {
		var log []string
		note := func(s string) { log = append(log, s) }
		var plan []Step
		for i := 1; i <= 4; i++ {
			plan = append(plan, Step{
				Name: fmt.Sprint(i),
				Do: func(context.Context) error {
					note(fmt.Sprint(i))
					if i == fail {
						return errDo
					}
					return nil
				},
				Undo: func(ctx context.Context) error {
					note(fmt.Sprint(-i))
					if ctx.Err() != nil {
						t.Error("undo with a cancelled context")
					}
					if i == 1 {
						return errUndo
					}
					return nil
				},
			})
		}
		plan[1].Undo = nil
		ctx, cancel := context.WithCancel(context.Background())
		err := Run(ctx, plan, nil)
		cancel()
		want := map[int]string{0: "1 2 3 4", 1: "1 -1", 2: "1 2 -1", 3: "1 2 3 -3 -1", 4: "1 2 3 4 -4 -3 -1"}[fail]
		if got := strings.Join(log, " "); got != want {
			t.Errorf("fail at %d: %s, want %s", fail, got, want)
		}
		var e *Error
		switch {
		case fail == 0 && err != nil:
			t.Error(err)
		case fail > 0 && (!errors.As(err, &e) || e.Step != fmt.Sprint(fail) || !errors.Is(err, errDo) || !errors.Is(err, errUndo)):
			t.Errorf("fail at %d: %v", fail, err)
		}
	}
}

func TestRunCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	undone := false
	err := Run(ctx, []Step{{
		Name: "first",
		Do:   func(context.Context) error { cancel(); return nil },
		Undo: func(ctx context.Context) error { undone = ctx.Err() == nil; return nil },
	}, {
		Name: "second",
		Do:   func(context.Context) error { t.Error("done"); return nil },
	}}, nil)
	if !errors.Is(err, context.Canceled) || !undone {
		t.Errorf("%v, undone %v", err, undone)
	}
}

func TestHook(t *testing.T) {
	errHook := errors.New("hook")
	err := Run(context.Background(), []Step{{Name: "x", Do: func(context.Context) error { t.Error("done"); return nil }}},
		func(step string) error { return fmt.Errorf("%s: %w", step, errHook) })
	if !errors.Is(err, errHook) || err.Error() != "step x: x: hook" {
		t.Error(err)
	}
}
