package sandbox

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/podbox/podbox/internal/flock"
)

// Those who publish and unpublish all the time, so that there is always one at it, do
// not keep out who makes the rules anew.
func TestReloadIsNotKeptOut(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	create(t, rt, Spec{Name: "p"})
	var busy sync.WaitGroup
	done := make(chan struct{})
	const hold = 20 * time.Millisecond
	for i := range 4 {
		busy.Go(func() {
			time.Sleep(time.Duration(i) * hold / 4)
			for {
				lock, err := rt.lockRules(bg, flock.Shared)
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(hold)
				lock.Close()
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	time.Sleep(2 * hold)
	ctx, cancel := context.WithTimeout(bg, 3*time.Second)
	defer cancel()
	if err := rt.ReloadNetwork(ctx); err != nil {
		t.Error(err)
	}
	close(done)
	busy.Wait()
}
