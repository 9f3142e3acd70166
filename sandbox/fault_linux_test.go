package sandbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/steps"
	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/netns"
)

// A trial is an operation on a pod in a known situation.
type trial struct {
	name    string
	verb    string
	prepare func(t *testing.T, rt *Runtime) // makes pod "p" ready for verb
}

var trials = []trial{
	{"create", "create", func(*testing.T, *Runtime) {}},
	{"start stopped", "start", func(t *testing.T, rt *Runtime) {
		create(t, rt, trialSpec)
		do1(t, rt, "stop")
	}},
	{"start with dead pause", "start", func(t *testing.T, rt *Runtime) {
		killPause(t, create(t, rt, trialSpec))
	}},
	{"heal", "start", func(t *testing.T, rt *Runtime) {
		s := create(t, rt, trialSpec)
		joinPod(t, s, "sleep", "1000")
		killPause(t, s)
	}},
	{"rewire", "start", func(t *testing.T, rt *Runtime) { cutLink(t, create(t, rt, trialSpec)) }},
	{"heal without link", "start", func(t *testing.T, rt *Runtime) {
		s := create(t, rt, trialSpec)
		joinPod(t, s, "sleep", "1000")
		cutLink(t, s)
		killPause(t, s)
	}},
	{"stop", "stop", func(t *testing.T, rt *Runtime) {
		joinPod(t, create(t, rt, trialSpec), "sleep", "1000")
	}},
	{"remove", "remove", func(t *testing.T, rt *Runtime) {
		joinPod(t, create(t, rt, trialSpec), "sleep", "1000")
	}},
	{"remove stopped", "remove", func(t *testing.T, rt *Runtime) {
		create(t, rt, trialSpec)
		do1(t, rt, "stop")
	}},
	{"publish", "publish", func(t *testing.T, rt *Runtime) { create(t, rt, trialSpec) }},
	{"unpublish", "unpublish", func(t *testing.T, rt *Runtime) { create(t, rt, trialSpec) }},
	{"update", "update", func(t *testing.T, rt *Runtime) { create(t, rt, trialSpec) }},
}

func do1(t *testing.T, rt *Runtime, verb string) {
	t.Helper()
	if err := verbs[verb](context.Background(), rt, "p"); err != nil {
		t.Fatal(verb, err)
	}
}

// Each step of each operation fails in turn. The error names the step; a create
// leaves nothing; anything else can be repeated, or the pod removed.
func TestFailEachStep(t *testing.T) {
	testenv.NeedRoot(t)
	for _, tt := range trials {
		t.Run(tt.name, func(t *testing.T) {
			for n := 1; ; n++ {
				last := false
				ok := t.Run(fmt.Sprint(n), func(t *testing.T) { last = failStep(t, tt, n) })
				if last || !ok {
					return
				}
			}
		})
	}
}

// failStep makes step n fail; it reports whether there are less.
func failStep(t *testing.T, tt trial, n int) (last bool) {
	errInjected := errors.New("injected")
	left, at := 0, ""
	rt, before := newRuntime(t, func(step string) error {
		if left--; left == 0 {
			at = step
			return errInjected
		}
		return nil
	})
	tt.prepare(t, rt)
	left = n
	err := verbs[tt.verb](context.Background(), rt, "p")
	if left > 0 {
		if err != nil || n < 3 {
			t.Errorf("without a fault after %d steps: %v", n-1, err)
		}
		left = 0
		clear1(t, rt)
		return true
	}
	left = 0
	if tt.verb == "publish" { // as if it had not been tried
		if s, err := rt.Open("p"); err != nil || len(info(t, s).Ports) != len(trialSpec.Ports) {
			t.Errorf("after a fault in %s the record has other ports", at)
		}
	}
	if tt.verb == "update" {
		if s, err := rt.Open("p"); err != nil || info(t, s).Bandwidth != trialSpec.Bandwidth {
			t.Errorf("after a fault in %s the record has another bandwidth", at)
		}
	}
	if !errors.Is(err, errInjected) || !strings.Contains(err.Error(), "step "+at) {
		t.Errorf("%s: error %v", at, err)
	}
	var se *steps.Error
	if errors.As(err, &se) && se.Undo != nil {
		t.Errorf("%s: undo: %v", at, se.Undo)
	}
	if tt.verb == "create" {
		rt.background.Wait()
		before.Same(t, rt.root, "after a fault in "+at)
	}
	again(t, rt, tt)
	noLoopback(t, rt)
	before.Same(t, rt.root, "after a fault in "+at+" and removal")
	return false
}

// again does the operation again, and then removes the pod.
func again(t *testing.T, rt *Runtime, tt trial) {
	t.Helper()
	ctx := context.Background()
	err := verbs[tt.verb](ctx, rt, "p")
	// A pause that was being born may hold the pod's lock until it ends.
	for i := 0; i < 50 && errors.Is(err, ErrExists); i++ {
		time.Sleep(20 * time.Millisecond)
		err = verbs[tt.verb](ctx, rt, "p")
	}
	if err != nil && !(tt.verb == "remove" && errors.Is(err, ErrNotFound)) {
		t.Errorf("%s again: %v", tt.verb, err)
	}
	if s, err := rt.Open("p"); err == nil {
		if i := info(t, s); i.State != Running && (tt.verb == "start" || tt.verb == "create") {
			t.Errorf("%s again: state %s: %s", tt.verb, i.State, i.Error)
		}
	}
	clear1(t, rt)
}

// clear1 removes pod p, and what is left besides.
func clear1(t *testing.T, rt *Runtime) {
	t.Helper()
	ctx := context.Background()
	if s, err := rt.Open("p"); err == nil {
		if err := s.Remove(ctx); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if _, err := rt.Sweep(ctx); err != nil {
		t.Errorf("sweep: %v", err)
	}
	rt.background.Wait()
}

// The process is killed before each step of each operation in turn. Then Sweep,
// or doing it again, and Remove leave nothing.
func TestKillAtEachStep(t *testing.T) {
	testenv.NeedRoot(t)
	for _, tt := range trials {
		t.Run(tt.name, func(t *testing.T) {
			for n := 1; ; n++ {
				last := false
				ok := t.Run(fmt.Sprint(n), func(t *testing.T) { last = killStep(t, tt, n) })
				if last || !ok {
					return
				}
			}
		})
	}
}

// A pod that is getting its link back when that is killed is degraded, and nobody takes a
// half-made link for a link.
func TestKillRewire(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	for n := 1; ; n++ {
		s := create(t, rt, trialSpec)
		cutLink(t, s)
		_, err := child(rt.root, "start", "p", n).CombinedOutput()
		i := info(t, s)
		if err == nil {
			if i.State != Running {
				t.Errorf("rewired: %s: %s", i.State, i.Error)
			}
			clear1(t, rt)
			return
		}
		if i.State != Degraded || i.Error == "" {
			t.Errorf("killed before step %d: %s: %q", n, i.State, i.Error)
		}
		if err := s.Start(context.Background()); err != nil {
			t.Error(err)
		}
		if i := info(t, s); i.State != Running {
			t.Errorf("killed before step %d and started again: %s: %s", n, i.State, i.Error)
		}
		clear1(t, rt)
	}
}

// cutLink takes a pod's link away.
func cutLink(t *testing.T, s *Sandbox) {
	t.Helper()
	wait, err := netns.Disconnect(info(t, s).Link)
	if err != nil {
		t.Fatal(err)
	}
	wait()
}

// killStep kills the process before step n; it reports whether there are less.
func killStep(t *testing.T, tt trial, n int) (last bool) {
	rt, before := newRuntime(t, nil)
	tt.prepare(t, rt)
	out, err := child(rt.root, tt.verb, "p", n).CombinedOutput()
	if err == nil {
		if n < 3 {
			t.Errorf("killed before %d steps only", n-1)
		}
		clear1(t, rt)
		return true
	}
	if exitSignal(err) != unix.SIGKILL {
		t.Fatalf("%v: %s", err, out)
	}
	if tt.verb == "create" && n%2 == 0 {
		// Nothing is left but what Sweep finds.
		// A pause that was being born may hold the pod's lock until it ends: a
		// sweep leaves alone what somebody seems to be at work on.
		for range 5 {
			if _, err := rt.Sweep(context.Background()); err != nil {
				t.Errorf("sweep: %v", err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		before.Same(t, rt.root, "swept")
	}
	again(t, rt, tt)
	noLoopback(t, rt)
	before.Same(t, rt.root, "after removal")
	return false
}

// The process is killed at any moment, also in the middle of a step.
func TestKillAnywhere(t *testing.T) {
	rt, before := newRuntime(t, nil)
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for i := range rounds {
		verb := []string{"create", "stop", "start", "remove"}[i%4]
		cmd := child(rt.root, verb, "p", 0)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(25_000)) * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
	}
	if _, err := rt.Sweep(context.Background()); err != nil {
		t.Error(err)
	}
	if s, err := rt.Open("p"); err == nil {
		if err := s.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	}
	rt.background.Wait()
	before.Same(t, rt.root, "after many kills")
}

func exitSignal(err error) unix.Signal {
	var ee *exec.ExitError
	if !errors.As(err, &ee) {
		return 0
	}
	return ee.Sys().(interface{ Signal() unix.Signal }).Signal()
}

// child returns the command that does verb in a process of its own, and kills
// itself before step n unless that is 0.
func child(root, verb, name string, n int) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	line := strings.Join([]string{root, verb, name}, " ")
	if n > 0 {
		line += fmt.Sprint(" ", n)
	}
	cmd.Env = append(os.Environ(), doEnv+"="+line)
	return cmd
}
