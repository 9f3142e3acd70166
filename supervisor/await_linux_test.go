package supervisor

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/podbox/podbox/internal/testenv"
)

func TestAwait(t *testing.T) {
	c := newCast(t).add("one", "sleep 1000").lead()
	looks := 0
	err := c.pod.Await(bg, func(s *PodStatus) (bool, error) {
		looks++
		return s.ContainerStatuses[0].Ready, nil
	})
	if err != nil || looks == 0 {
		t.Errorf("%v after %d looks", err, looks)
	}
	if !c.status().ContainerStatuses[0].Ready {
		t.Error("the container is not ready")
	}
	want := errors.New("enough")
	if err := c.pod.Await(bg, func(*PodStatus) (bool, error) { return true, want }); err != want {
		t.Errorf("got %v, want the error of done", err)
	}
	ctx, cancel := context.WithTimeoutCause(bg, 10*time.Millisecond, want)
	defer cancel()
	if err := c.pod.Await(ctx, func(*PodStatus) (bool, error) { return false, nil }); err != want {
		t.Errorf("got %v, want the cause of the context's end", err)
	}
}

// A change is told of sooner than a look every now and then would find it.
func TestAwaitIsTold(t *testing.T) {
	c := newCast(t).add("one", "sleep 1000").lead()
	one := &Container{pod: c.pod, name: "one"}
	c.until("ready", func(s *PodStatus) bool { return s.ContainerStatuses[0].Ready })
	r, err := one.record()
	if err != nil {
		t.Fatal(err)
	}
	best := time.Hour
	for try := range 5 {
		time.Sleep(time.Duration(try*17) * time.Millisecond) // at another moment of the ticks
		looks, wrote := 0, time.Time{}
		err := c.pod.Await(bg, func(*PodStatus) (bool, error) {
			if looks++; looks == 2 {
				return true, nil
			}
			wrote = time.Now()
			return false, one.write(r)
		})
		if err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(wrote))
	}
	if best > testenv.Patience(awaitTime/2) {
		t.Errorf("told after %v at best", best)
	}
}
