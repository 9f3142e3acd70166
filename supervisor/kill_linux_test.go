package supervisor

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/cgroup"
	"github.com/podbox/podbox/sandbox"
)

// A trial is something that is done to a container or a pod, and may be cut short.
type trial struct {
	name, verb string
	script     string // of the container that the verb makes
	more       []string
	prepare    func(t *testing.T, p *Pod, rootfs string) // makes the pod ready for it
	// done says what must hold when the verb was done to the end.
	done func(t *testing.T, p *Pod)
}

const forever = "trap exit TERM; sleep 1000 & wait"

var trials = []trial{
	{name: "run", verb: "run", script: "true", done: state(Exited)},
	{name: "run --rm", verb: "run", script: "true", more: []string{"--rm"}, done: none},
	{name: "run -d", verb: "run -d", script: forever, done: state(Running)},
	{name: "start -c", verb: "start -c", prepare: stopped, done: state(Running)},
	{name: "stop -c", verb: "stop -c", prepare: background, done: state(Exited)},
	{name: "stop -c, stubborn", verb: "stop -c", prepare: stubborn, done: state(Exited)},
	{name: "restart -c", verb: "restart -c", prepare: background, done: state(Running)},
	{name: "rm -f -c", verb: "rm -f -c", prepare: background, done: none},
	{name: "stop", verb: "stop", prepare: background, done: state(Exited)},
	{name: "start", verb: "start", prepare: podStopped, done: state(Running)},
	{name: "rm -f", verb: "rm -f", prepare: background, done: gone},
	{name: "rm -f -t 0", verb: "kill -f", prepare: background, done: gone},
}

func background(t *testing.T, p *Pod, rootfs string) { runA(t, p, rootfs, forever) }

// stubborn makes a container that has to be killed.
func stubborn(t *testing.T, p *Pod, rootfs string) {
	runA(t, p, rootfs, "trap '' TERM; while :; do sleep 0.01; done")
}

func stopped(t *testing.T, p *Pod, rootfs string) {
	runA(t, p, rootfs, forever)
	must(t, verbs["stop -c"](p, Spec{}))
}

func podStopped(t *testing.T, p *Pod, rootfs string) {
	runA(t, p, rootfs, forever)
	must(t, verbs["stop"](p, Spec{}))
}

func runA(t *testing.T, p *Pod, rootfs, script string) *Container {
	t.Helper()
	spec := shell(rootfs, script)
	spec.Name = "a"
	c, err := p.RunBackground(bg, spec)
	must(t, err)
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func state(want State) func(t *testing.T, p *Pod) {
	return func(t *testing.T, p *Pod) {
		t.Helper()
		must(t, onA(p, func(c *Container) error {
			s, err := c.Status()
			if err == nil && s.State != want {
				err = fmt.Errorf("%v is %s (%s), want %s: %+v", c, s.State, s.Error, want, s)
			}
			return err
		}))
	}
}

func none(t *testing.T, p *Pod) {
	t.Helper()
	if c, err := p.Container("a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("there still is %v, %v", c, err)
	}
}

func gone(t *testing.T, p *Pod) {
	t.Helper()
	if _, err := p.Info(); !errors.Is(err, sandbox.ErrNotFound) {
		t.Errorf("the pod is still there: %v", err)
	}
}

// honest waits until what is said of each container is true: one that is said to run
// does, of one that is said to have ended nothing is left. That must come by itself.
func honest(t *testing.T, p *Pod, when string) {
	t.Helper()
	var lie string
	for range 200 {
		if lie = p.lie(); lie == "" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s: %s", when, lie)
}

// lie returns what is said of a container and not true.
func (p *Pod) lie() string {
	list, err := p.List()
	if err != nil {
		return err.Error()
	}
	for _, s := range list {
		var pids []int
		if g, err := cgroup.Open(s.Cgroup); err == nil {
			pids, _ = g.PIDs()
		}
		switch {
		case s.State == Running && (s.PID == 0 || unix.Kill(s.PID, 0) != nil):
			return fmt.Sprintf("%s is said to run as process %d", s.Name, s.PID)
		case s.State == Running && len(pids) == 0:
			return fmt.Sprintf("%s is said to run, and no process is in its cgroup", s.Name)
		case s.State != Running && len(pids) > 0:
			return fmt.Sprintf("%s is said to be %s (%s), and processes %v are in its cgroup", s.Name, s.State, s.Error, pids)
		}
	}
	return ""
}

// again does a verb that was cut short to its end. What was made by it the first time
// is removed before, unless it should not be there any more.
func again(t *testing.T, p *Pod, tt trial, rootfs string) {
	t.Helper()
	out, err := p.command(tt.verb, rootfs, tt.script, tt.more...).CombinedOutput()
	if err != nil && strings.HasPrefix(tt.verb, "run") && tt.more == nil && strings.Contains(string(out), "exists") {
		must(t, verbs["rm -f -c"](p, Spec{}))
		out, err = p.command(tt.verb, rootfs, tt.script, tt.more...).CombinedOutput()
	}
	absent := strings.HasPrefix(tt.verb, "rm") || strings.HasPrefix(tt.verb, "kill")
	if err != nil && !(absent && strings.Contains(string(out), "no such")) && !(strings.Contains(tt.verb, "start -c") && strings.Contains(string(out), "is running")) {
		t.Errorf("again: %v: %s", err, out)
		return
	}
	tt.done(t, p)
	honest(t, p, "again")
}

// duration returns how long a verb takes.
func duration(t *testing.T, rt *sandbox.Runtime, tt trial, rootfs string) time.Duration {
	t.Helper()
	p := podIn(t, rt, "timed")
	if tt.prepare != nil {
		tt.prepare(t, p, rootfs)
	}
	start := time.Now()
	if out, err := p.command(tt.verb, rootfs, tt.script, tt.more...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	took := time.Since(start)
	tt.done(t, p)
	must(t, verbs["kill -f"](p, Spec{}))
	return took
}

// The command is killed at any moment of all that it can do. What is said of the
// container is true then, the command can be repeated, and the removal of the pod
// leaves nothing.
func TestCommandKilled(t *testing.T) {
	rt := newRuntime(t)
	before, rootfs := lookAround(t, rt), newRootfs(t)
	for _, tt := range trials {
		t.Run(tt.name, func(t *testing.T) {
			took := duration(t, rt, tt, rootfs)
			n := rounds(8)
			for i := range n {
				after := took * time.Duration(2*i+1) / time.Duration(2*n)
				cutShort(t, rt, tt, rootfs, fmt.Sprintf("killed after %v of %v", after, took), func(p *Pod, cmd *exec.Cmd) {
					time.Sleep(after)
					_ = cmd.Process.Kill()
				})
			}
			before.same(t, "after many kills")
		})
	}
}

// The supervisor is killed at any moment while the command waits for it.
func TestSupervisorKilledAnywhere(t *testing.T) {
	rt := newRuntime(t)
	before, rootfs := lookAround(t, rt), newRootfs(t)
	for _, tt := range trials {
		if tt.verb == "run" {
			continue // has none
		}
		t.Run(tt.name, func(t *testing.T) {
			took := duration(t, rt, tt, rootfs)
			n := rounds(8)
			for i := range n {
				after := took * time.Duration(2*i+1) / time.Duration(2*n)
				cutShort(t, rt, tt, rootfs, fmt.Sprintf("supervisor killed after %v of %v", after, took), func(p *Pod, cmd *exec.Cmd) {
					time.Sleep(after)
					killSupervisor(p)
				})
			}
			before.same(t, "after many kills")
		})
	}
}

// killSupervisor kills a pod's supervisor if it has one.
func killSupervisor(p *Pod) {
	conn, err := p.dial()
	if err != nil {
		return
	}
	defer conn.Close()
	if pidfd, err := peer(conn); err == nil {
		_ = unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGKILL, nil, 0)
		pidfd.Close()
	}
}

// cutShort does a verb and disturbs it.
func cutShort(t *testing.T, rt *sandbox.Runtime, tt trial, rootfs, how string, disturb func(*Pod, *exec.Cmd)) {
	t.Helper()
	p := podIn(t, rt, "cut")
	if tt.prepare != nil {
		tt.prepare(t, p, rootfs)
	}
	cmd := p.command(tt.verb, rootfs, tt.script, tt.more...)
	must(t, cmd.Start())
	disturb(p, cmd)
	_ = cmd.Wait()
	honest(t, p, how)
	if !t.Failed() {
		again(t, p, tt, rootfs)
	}
	if err := verbs["rm -f"](p, Spec{}); err != nil {
		t.Errorf("%s: remove: %v", how, err)
	}
	if t.Failed() {
		t.Fatal(how)
	}
}
