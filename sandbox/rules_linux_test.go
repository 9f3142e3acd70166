package sandbox

import (
	"context"
	"errors"
	"os/exec"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/netns"
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

// Whoever makes the rules anew may do so between any two steps of others, and these may
// fail after that: nothing of a pod that publishes nothing, or is gone, stays in them.
func TestReloadBetweenSteps(t *testing.T) {
	errInjected := errors.New("injected")
	var rt *Runtime
	fail := ""
	rt, before := newRuntime(t, func(s string) error {
		// Before these there is a link already, or what is published has just been taken away.
		if fail != "" && (s == "bandwidth" || s == "record") {
			if err := rt.ReloadNetwork(bg); err != nil {
				t.Error(err)
			}
		}
		if s == fail {
			return errInjected
		}
		return nil
	})
	create(t, rt, Spec{Name: "stays", Ports: []netns.Port{port(t, "9090:90")}}) // and keeps the rules
	address := regexp.MustCompile(`10\.88\.0\.[0-9]+`)
	clean := func(when string) {
		t.Helper()
		text, err := exec.Command("nft", "list", "table", "inet", rt.rules.Table).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		for _, a := range address.FindAllString(string(text), -1) {
			if a != "10.88.0.2" && a != "10.88.0.0" {
				t.Errorf("%s: %s is in the rules", when, a)
			}
		}
	}
	clean("at first")
	spec := trialSpec
	spec.Policy.From = []netns.Peer{} // every step there is
	for _, at := range []string{"bandwidth", "publish", "none"} {
		fail = at
		s, err := rt.Create(bg, spec)
		if failed := err != nil; failed != (fail != "none") {
			t.Fatalf("create, to fail at %s: %v", fail, err)
		}
		if fail == "none" {
			if err := s.Unpublish(bg, info(t, s).Ports...); err != nil {
				t.Error(err)
			}
			fail = ""
			if err := s.Remove(bg); err != nil {
				t.Error(err)
			}
		}
		clean("a pod that was not to be, until step " + fail)
	}
	fail = ""
	s := create(t, rt, spec)
	if err := s.Stop(bg, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	fail = "bandwidth"
	if err := s.Start(bg); !errors.Is(err, errInjected) {
		t.Fatalf("start, to fail at %s: %v", fail, err)
	}
	fail = ""
	if err := s.Remove(bg); err != nil {
		t.Error(err)
	}
	clean("a pod that could not be started")
	stays, err := rt.Open("stays")
	if err != nil {
		t.Fatal(err)
	}
	if err := stays.Remove(bg); err != nil {
		t.Error(err)
	}
	rt.background.Wait()
	before.Same(t, rt.root, "after removal")
}
