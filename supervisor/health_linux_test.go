package supervisor

import (
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/podbox/podbox/internal/cgroup"
)

// often has a command be a container's probe of readiness, which is made often.
func often(timeout time.Duration, script string) func(*Spec) {
	return func(s *Spec) {
		s.Readiness = &Probe{Action: Action{Exec: []string{"/bin/sh", "-c", script}}, Period: 20 * time.Millisecond, Timeout: timeout, Failures: 1}
	}
}

// processes returns how many there are in a container.
func (c *cast) processes(name string) int {
	c.t.Helper()
	s, err := statusOf(c.pod, name)
	must(c.t, err)
	g, err := cgroup.Open(s.Cgroup)
	must(c.t, err)
	pids, err := g.PIDs()
	must(c.t, err)
	return len(pids)
}

// A command that takes too long is killed with what it has started.
func TestProbeTimesOut(t *testing.T) {
	c := newCast(t).add("a", "echo a >>/said; exec sleep 1000", often(100*time.Millisecond, "echo x >>/said; sleep 500 & sleep 500")).lead()
	c.untilSaid("x", 4)
	// The main program, and the third of one probe.
	eventually(t, "few processes are left", func() bool { return c.processes("a") <= 4 })
	if n := c.processes("a"); n > 4 {
		t.Errorf("%d processes after four probes", n)
	}
}

// What a command leaves behind does not hold anything of the supervisor's.
func TestProbeLeavesOutputOpen(t *testing.T) {
	c := newCast(t).add("a", "exec sleep 1000", often(0, "sleep 300 & echo x >>/said")).lead()
	c.untilSaid("x", 2)
	a, err := c.pod.Container("a")
	must(t, err)
	r, err := a.record()
	must(t, err)
	files := func() int {
		least := math.MaxInt
		for range 50 { // while a probe is being started there are some thirty more
			es, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.Runner.PID))
			must(t, err)
			least = min(least, len(es))
			time.Sleep(time.Millisecond)
		}
		return least
	}
	before := files()
	c.untilSaid("x", 22)
	if now := files(); now > before+8 {
		t.Errorf("the supervisor has %d files open, before twenty probes %d", now, before)
	}
}

// What is paused does not answer, and is not ended for that.
func TestProbePaused(t *testing.T) {
	sick := func(a Action) func(*Spec) {
		return func(s *Spec) {
			s.Liveness = &Probe{Action: a, Period: 20 * time.Millisecond, Timeout: 50 * time.Millisecond, Failures: 4}
		}
	}
	c := newCast(t).
		add("exec", "echo x >>/said"+endless, always, sick(Action{Exec: []string{"/bin/true"}})).
		add("http", "echo y >>/said; exec httpd -f -p 8080 -h /", always, func(s *Spec) {
			s.Startup = &Probe{Action: Action{TCP: &TCPSocket{Port: 8080}}, Period: 20 * time.Millisecond, Failures: 100}
		}, sick(Action{HTTP: &HTTPGet{Port: 8080, Path: "/said"}}))
	mustLink(t, c.rootfs, "httpd")
	c.lead()
	c.until("both are well", func(s *PodStatus) bool { return s.of("exec").Ready && s.of("http").Ready })
	for _, name := range []string{"exec", "http"} {
		a, err := c.pod.Container(name)
		must(t, err)
		must(t, a.Pause(bg))
	}
	time.Sleep(700 * time.Millisecond)
	for _, name := range []string{"exec", "http"} {
		a, err := c.pod.Container(name)
		must(t, err)
		must(t, a.Unpause())
	}
	must(t, c.pod.Pause(bg))
	time.Sleep(700 * time.Millisecond)
	must(t, c.pod.Unpause(bg))
	time.Sleep(100 * time.Millisecond)
	s := c.status()
	for _, name := range []string{"exec", "http"} {
		if s.of(name).RestartCount > 0 || s.of(name).State.Running == nil {
			t.Errorf("%s: %+v", name, s.of(name))
		}
	}
}

// A container that is being stopped is asked no more whether it lives: what is done before
// its end is done once, and in peace.
func TestStopIgnoresLiveness(t *testing.T) {
	soon := 100 * time.Millisecond
	c := newCast(t).add("a", "trap 'echo a-ends >>/said; exit 0' TERM; echo a >>/said; while :; do sleep 0.02; done", always, func(s *Spec) {
		s.Liveness = &Probe{Action: Action{Exec: []string{"/bin/sh", "-c", "[ ! -e /sick ]"}}, Period: 20 * time.Millisecond, Failures: 1, Grace: &soon}
		s.PreStop = &Action{Exec: []string{"/bin/sh", "-c", "echo >/sick; sleep 0.4; echo pre >>/said"}}
	}).lead()
	c.untilSaid("a", 1)
	a, err := c.pod.Container("a")
	must(t, err)
	must(t, a.Stop(bg, StopOptions{}))
	c.hasSaid("a", "pre", "a-ends")
}
