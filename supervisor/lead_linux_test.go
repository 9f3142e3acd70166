package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/volumes"
)

// A cast is the containers of a pod that is led, all in one root directory, in which they
// leave lines in /said.
type cast struct {
	t      *testing.T
	pod    *Pod
	rootfs string
	life   Life
	specs  []Spec
}

func newCast(t *testing.T) *cast {
	t.Helper()
	c := &cast{t: t, pod: newPod(t), rootfs: newRootfs(t), life: Life{Grace: time.Second}}
	mustLink(t, c.rootfs, "grep")
	return c
}

// onceSaid begins the script of one who speaks when another has spoken: they are started in an order,
// but run at once.
func onceSaid(word string) string {
	return "until grep -q '^" + word + "$' /said; do sleep 0.01; done; "
}

// add adds a container that runs a script.
func (c *cast) add(name, script string, more ...func(*Spec)) *cast {
	return c.with(&c.life.Containers, name, script, more)
}

// init adds an init container.
func (c *cast) init(name, script string, more ...func(*Spec)) *cast {
	return c.with(&c.life.Init, name, script, more)
}

func (c *cast) with(to *[]string, name, script string, more []func(*Spec)) *cast {
	*to = append(*to, name)
	s := shell(c.rootfs, script)
	s.Name = name
	s.Restart = Restart{Delay: 20 * time.Millisecond, MaxDelay: 20 * time.Millisecond}
	for _, f := range more {
		f(&s)
	}
	c.specs = append(c.specs, s)
	return c
}

func (c *cast) lead() *cast {
	c.t.Helper()
	if err := c.pod.Lead(bg, c.life, c.specs); err != nil {
		c.t.Fatal(err)
	}
	return c
}

func (c *cast) status() *PodStatus {
	c.t.Helper()
	s, err := c.pod.Status()
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// until waits until the status is as wanted.
func (c *cast) until(what string, is func(*PodStatus) bool) *PodStatus {
	c.t.Helper()
	var s *PodStatus
	for end := time.Now().Add(testenv.Patience(10 * time.Second)); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if s = c.status(); is(s) {
			return s
		}
	}
	c.t.Fatalf("waited in vain for: %s\nphase %s\ninit %+v\ncontainers %+v\nsaid %q", what, s.Phase, s.InitContainerStatuses, s.ContainerStatuses, c.said())
	return nil
}

func (c *cast) phase(want string) *PodStatus {
	c.t.Helper()
	return c.until("phase "+want, func(s *PodStatus) bool { return s.Phase == want })
}

// said returns what the containers have said.
func (c *cast) said() []string {
	b, _ := os.ReadFile(filepath.Join(c.rootfs, "said"))
	return strings.Fields(string(b))
}

func (c *cast) hasSaid(want ...string) {
	c.t.Helper()
	if diff := cmp.Diff(want, c.said()); diff != "" {
		c.t.Errorf("what the containers said (-want +got):\n%s", diff)
	}
}

// untilSaid waits until a word has been said so many times.
func (c *cast) untilSaid(word string, times int) {
	c.t.Helper()
	c.until(fmt.Sprintf("%q said %d times", word, times), func(*PodStatus) bool {
		n := 0
		for _, w := range c.said() {
			if w == word {
				n++
			}
		}
		return n >= times
	})
}

func (s *PodStatus) of(name string) ContainerStatus {
	for _, c := range append(s.InitContainerStatuses, s.ContainerStatuses...) {
		if c.Name == name {
			return c
		}
	}
	return ContainerStatus{}
}

func (s *PodStatus) holds(condition string) bool {
	for _, c := range s.Conditions {
		if c.Type == condition {
			return c.Status == "True"
		}
	}
	return false
}

func always(s *Spec)    { s.Restart.Policy = Always }
func onFailure(s *Spec) { s.Restart.Policy = OnFailure }
func sidecar(s *Spec)   { s.Sidecar, s.Restart.Policy = true, Always }

// endless is a script that ends when it is asked to.
const endless = "; trap 'exit 0' TERM; while :; do sleep 0.02; done"

func TestLeadInOrder(t *testing.T) {
	c := newCast(t).
		init("one", "sleep 0.1; echo one >>/said").
		init("two", "echo two >>/said").
		add("a", "echo a >>/said; sleep 0.3").
		add("b", onceSaid("a")+"echo b >>/said; sleep 0.2")
	c.lead()
	c.phase("Pending")
	s := c.phase("Running")
	if !s.holds("Initialized") || s.StartTime.IsZero() || s.PodIP == "" {
		t.Errorf("running: %+v", s)
	}
	c.until("ready", func(s *PodStatus) bool { return s.holds("Ready") && s.holds("ContainersReady") })
	s = c.phase("Succeeded")
	c.hasSaid("one", "two", "a", "b")
	if got := s.of("a").State.Terminated; got == nil || got.Reason != "Completed" || got.ExitCode != 0 || got.FinishedAt.Before(got.StartedAt) {
		t.Errorf("a: %+v", got)
	}
	if s.holds("Ready") || !s.holds("Initialized") || !s.of("one").Ready {
		t.Errorf("conditions %+v, init %+v", s.Conditions, s.InitContainerStatuses)
	}
}

func TestLeadInitFails(t *testing.T) {
	c := newCast(t).init("one", "echo one >>/said; exit 3").add("a", "echo a >>/said").lead()
	s := c.phase("Failed")
	if got := s.of("one").State.Terminated; got == nil || got.Reason != "Error" || got.ExitCode != 3 {
		t.Errorf("one: %+v", got)
	}
	if got := s.of("a").State.Waiting; got == nil || got.Reason != "PodInitializing" {
		t.Errorf("a: %+v", got)
	}
	c.hasSaid("one")
}

func TestLeadInitRetried(t *testing.T) {
	c := newCast(t).init("one", "echo one >>/said; [ $(grep -c one /said) = 3 ]", onFailure).add("a", "echo a >>/said")
	s := c.lead().phase("Succeeded")
	c.hasSaid("one", "one", "one", "a")
	if n := s.of("one").RestartCount; n != 2 {
		t.Errorf("restarts: %d", n)
	}
}

// Sidecars are started in order, each when the one before is up, and are ended after the
// others in reverse order.
func TestLeadSidecars(t *testing.T) {
	said := func(name string) string {
		return "sleep 0.1; touch /" + name + "; echo " + name + " >>/said; trap 'echo " + name + "-ends >>/said; exit 0' TERM; while :; do sleep 0.02; done"
	}
	up := func(name string) func(*Spec) {
		return func(s *Spec) {
			s.Startup = &Probe{Action: Action{Exec: []string{"/bin/ls", "/" + name}}, Period: 10 * time.Millisecond, Failures: 100}
		}
	}
	c := newCast(t).
		init("s1", said("s1"), sidecar, up("s1")).
		init("between", "echo between >>/said").
		init("s2", said("s2"), sidecar, up("s2")).
		add("a", "echo a >>/said; sleep 0.2; echo a-ends >>/said")
	mustLink(t, c.rootfs, "touch")
	s := c.lead().phase("Succeeded")
	c.until("the end of life", func(*PodStatus) bool { l, err := c.pod.life(); return err == nil && l.Done })
	c.hasSaid("s1", "between", "s2", "a", "a-ends", "s2-ends", "s1-ends")
	if !s.holds("Initialized") {
		t.Errorf("conditions: %+v", s.Conditions)
	}
}

func TestLeadRestarts(t *testing.T) {
	c := newCast(t).
		add("always", "echo x >>/said", always).
		add("rule", "exit 42", func(s *Spec) { s.Restart.Rules = []Rule{{Codes: []int{42}}} }).
		add("gone", "exit 1").lead()
	c.untilSaid("x", 3)
	c.until("restarts by rule", func(s *PodStatus) bool { return s.of("rule").RestartCount >= 2 })
	s := c.until("back-off", func(s *PodStatus) bool { return s.of("always").State.Waiting != nil })
	if w := s.of("always").State.Waiting; w.Reason != "CrashLoopBackOff" || s.of("always").LastState.Terminated == nil {
		t.Errorf("always: %+v", s.of("always"))
	}
	if s.Phase != "Running" || s.holds("Ready") || s.of("gone").State.Terminated == nil {
		t.Errorf("status: %+v", s)
	}
}

// What cannot be started is tried again.
func TestLeadStartFails(t *testing.T) {
	c := newCast(t).add("a", "", always, func(s *Spec) { s.OCI.Process.Args = []string{"/bin/nothing"} }).lead()
	s := c.until("three tries", func(s *PodStatus) bool { return s.of("a").RestartCount >= 2 })
	if got := s.of("a").LastState.Terminated; got == nil || got.Reason != "StartError" || got.ExitCode != 127 || !strings.Contains(got.Message, "/bin/nothing") {
		t.Errorf("last state: %+v", got)
	}
	if err := os.WriteFile(filepath.Join(c.rootfs, "bin/nothing"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.until("it starts", func(s *PodStatus) bool {
		l := s.of("a").LastState.Terminated
		return l != nil && l.Reason == "Completed"
	})
}

func TestLeadLiveness(t *testing.T) {
	c := newCast(t).add("a", "rm -f /sick; echo a >>/said"+endless, always, func(s *Spec) {
		s.Liveness = &Probe{Action: Action{Exec: []string{"/bin/sh", "-c", "[ ! -e /sick ] || { echo it is sick; exit 1; }"}}, Period: 20 * time.Millisecond, Failures: 2}
	})
	mustLink(t, c.rootfs, "rm")
	c.lead().untilSaid("a", 1)
	if err := os.WriteFile(filepath.Join(c.rootfs, "sick"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.untilSaid("a", 2)
	s := c.until("it runs again", func(s *PodStatus) bool { return s.of("a").State.Running != nil && s.of("a").RestartCount == 1 })
	if got := s.of("a").LastState.Terminated; got == nil || got.ExitCode != 0 {
		t.Errorf("last state: %+v", got)
	}
}

func TestLeadReadiness(t *testing.T) {
	c := newCast(t).add("a", "echo a >>/said"+endless, always, func(s *Spec) {
		s.Readiness = &Probe{Action: Action{Exec: []string{"/bin/ls", "/ready"}}, Period: 20 * time.Millisecond, Failures: 1}
	}).lead()
	c.untilSaid("a", 1)
	if s := c.phase("Running"); s.holds("Ready") {
		t.Error("ready before it said so")
	}
	ready := filepath.Join(c.rootfs, "ready")
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.until("ready", func(s *PodStatus) bool { return s.holds("Ready") && s.of("a").Ready })
	if err := os.Remove(ready); err != nil {
		t.Fatal(err)
	}
	s := c.until("not ready", func(s *PodStatus) bool { return !s.holds("Ready") && !s.of("a").Ready })
	if s.of("a").RestartCount != 0 {
		t.Error("it was restarted")
	}
}

// Probes by network are made from outside, to the pod's address.
func TestLeadNetworkProbes(t *testing.T) {
	port := func(n uint16) func(*Spec) {
		return func(s *Spec) {
			period := 20 * time.Millisecond
			s.Startup = &Probe{Action: Action{TCP: &TCPSocket{Port: n}}, Period: period, Failures: 100}
			s.Readiness = &Probe{Action: Action{HTTP: &HTTPGet{Port: n, Path: "/index"}}, Period: period}
		}
	}
	c := newCast(t).
		add("good", "echo hello >/index; exec httpd -f -p 8080 -h /", always, port(8080)).
		add("bad", "sleep 1000", always, func(s *Spec) {
			s.Liveness = &Probe{Action: Action{HTTP: &HTTPGet{Port: 8080, Path: "/nothing"}}, Period: 20 * time.Millisecond, Failures: 2}
		})
	mustLink(t, c.rootfs, "httpd")
	c.lead()
	c.until("good is ready", func(s *PodStatus) bool { return s.of("good").Ready && s.of("good").Started })
	s := c.until("bad is restarted", func(s *PodStatus) bool { return s.of("bad").RestartCount > 0 })
	if s.of("good").RestartCount != 0 {
		t.Error("good was restarted")
	}
}

func TestLeadHooks(t *testing.T) {
	say := func(word string) *Action {
		return &Action{Exec: []string{"/bin/sh", "-c", onceSaid("a") + "sleep 0.1; echo " + word + " >>/said"}}
	}
	c := newCast(t).
		add("a", "echo a >>/said; trap 'echo a-ends >>/said; exit 0' TERM; while :; do sleep 0.02; done", always, func(s *Spec) {
			s.PostStart, s.PreStop = say("post"), say("pre")
		}).
		add("b", "echo b >>/said"+endless).lead()
	c.until("both run", func(s *PodStatus) bool { return s.of("b").State.Running != nil && s.of("b").Ready })
	c.untilSaid("b", 1)
	must(t, c.pod.Stop(bg, sandbox.StopOptions{}))
	c.hasSaid("a", "post", "b", "pre", "a-ends")
}

func TestLeadPostStartFails(t *testing.T) {
	c := newCast(t).add("a", "echo a >>/said"+endless, always, func(s *Spec) {
		s.PostStart = &Action{Exec: []string{"/bin/sh", "-c", "echo no way; exit 1"}}
	}).lead()
	c.untilSaid("a", 2)
	s := c.until("its end is told", func(s *PodStatus) bool { return s.of("a").LastState.Terminated != nil })
	if got := s.of("a").LastState.Terminated; got.Reason != "PostStartHookError" {
		t.Errorf("last state: %+v", got)
	}
}

// A hook's time counts, and a container that does not end in what is left is killed.
func TestLeadGrace(t *testing.T) {
	hour := time.Hour
	c := newCast(t).add("a", "trap '' TERM; echo a >>/said; while :; do sleep 0.02; done", func(s *Spec) {
		s.PreStop = &Action{Sleep: &hour}
	}).lead()
	c.untilSaid("a", 1)
	begin := time.Now()
	must(t, c.pod.Stop(bg, sandbox.StopOptions{}))
	if took := time.Since(begin); took < time.Second+leastGrace || took > 2*(time.Second+leastGrace) {
		t.Errorf("stop took %v", took)
	}
	if got := c.status().of("a").State.Terminated; got == nil || got.ExitCode != 137 {
		t.Errorf("a: %+v", got)
	}
}

func TestLeadMessages(t *testing.T) {
	at := func(s *Spec) { s.Termination.Path = "/dev/termination-log" }
	c := newCast(t).
		add("said", "echo done >/dev/termination-log", at).
		add("silent", "echo from the log; exit 1", at, func(s *Spec) { s.Termination.FallbackToLogs = true }).
		add("well", "echo from the log", at, func(s *Spec) { s.Termination.FallbackToLogs = true }).
		add("much", "seq 10000 >/dev/termination-log", at).lead()
	s := c.phase("Failed")
	for name, want := range map[string]string{"said": "done\n", "silent": "from the log\n", "well": ""} {
		if got := s.of(name).State.Terminated; got == nil || got.Message != want {
			t.Errorf("%s: %+v, want message %q", name, got, want)
		}
	}
	if n := len(s.of("much").State.Terminated.Message); n != maxMessage {
		t.Errorf("the long message has %d bytes, want %d", n, maxMessage)
	}
}

// What stands in for a message is not what was said by a run before.
func TestLeadMessageOfThisRun(t *testing.T) {
	c := newCast(t).add("a", "if [ -e /again ]; then sleep 1000; else echo >/again; echo first; exit 1; fi", always, func(s *Spec) {
		s.Termination.FallbackToLogs = true
	}).lead()
	s := c.until("the second run", func(s *PodStatus) bool { return s.of("a").RestartCount == 1 && s.of("a").State.Running != nil })
	if l := s.of("a").LastState.Terminated; l == nil || l.Message != "first\n" {
		t.Errorf("after the first run: %+v", l)
	}
	a, err := c.pod.Container("a")
	must(t, err)
	time.Sleep(500 * time.Millisecond) // it runs a moment before it has executed its program
	must(t, a.Kill(9))
	c.until("the end of the second run", func(s *PodStatus) bool { return s.of("a").RestartCount == 2 })
	if l := c.status().of("a").LastState.Terminated; l == nil || l.Message != "" || l.ExitCode != 137 {
		t.Errorf("after the second run: %+v", l)
	}
}

func TestLeadDeadline(t *testing.T) {
	c := newCast(t).add("a", "echo a >>/said"+endless, always)
	c.life.Deadline = 300 * time.Millisecond
	c.lead()
	s := c.phase("Failed")
	if s.Reason != "DeadlineExceeded" {
		t.Errorf("status: %+v", s)
	}
	c.until("a ends", func(s *PodStatus) bool { return s.of("a").State.Terminated != nil })
}

// A pod that is stopped and started goes through its life again.
func TestLeadAgain(t *testing.T) {
	c := newCast(t).init("one", "echo one >>/said").add("a", "echo a >>/said"+endless, always).lead()
	c.untilSaid("a", 1)
	must(t, c.pod.Stop(bg, sandbox.StopOptions{}))
	must(t, c.pod.Start(bg))
	c.untilSaid("a", 2)
	c.hasSaid("one", "a", "one", "a")
	if s := c.phase("Running"); s.of("a").RestartCount != 0 {
		t.Errorf("status: %+v", s)
	}
}

// The supervisor is killed wherever it is; the next one goes on.
func TestLeadSurvives(t *testing.T) {
	c := newCast(t).
		init("one", "sleep 0.05; echo one >>/said", onFailure).
		init("side", "echo side >>/side"+endless, sidecar).
		init("two", "sleep 0.05; echo two >>/said", onFailure).
		add("a", "sleep 0.05; echo a >>/said", onFailure).
		add("b", "sleep 0.15; echo b >>/said", onFailure).lead()
	done := func() bool { l, err := c.pod.life(); return err == nil && l.Done }
	for i := 0; !done(); i++ {
		if i > 100 {
			t.Fatal("it does not come to its end")
		}
		if i < 8 {
			time.Sleep(time.Duration(15+7*i) * time.Millisecond)
			killSupervisor(c.pod)
		} else {
			time.Sleep(100 * time.Millisecond)
		}
		if conn, err := c.pod.connect(bg); err == nil {
			conn.Close()
		}
	}
	c.phase("Succeeded")
	// What ended without a witness has failed as far as anybody knows, and is done again.
	first := map[string]int{}
	for i, w := range c.said() {
		if _, ok := first[w]; !ok {
			first[w] = i
		}
	}
	if len(first) != 4 || first["one"] > first["two"] || first["two"] > first["a"] || first["two"] > first["b"] {
		t.Errorf("said: %v", c.said())
	}
}

// Values of secret variables are for the container alone.
func TestSecretsHidden(t *testing.T) {
	c := newCast(t).add("a", "echo $KEY >/said"+endless, func(s *Spec) {
		s.OCI.Process.Env = append(s.OCI.Process.Env, "KEY=hunter2", "OPEN=yes")
		s.Secrets = []string{"KEY"}
	}).lead()
	c.untilSaid("hunter2", 1)
	a, err := c.pod.Container("a")
	must(t, err)
	s, err := a.Status()
	must(t, err)
	if env := strings.Join(s.Spec.Process.Env, " "); !strings.Contains(env, "KEY="+hidden+" OPEN=yes") || strings.Contains(env, "hunter2") {
		t.Errorf("shown: %s", env)
	}
}

// A supervisor that was killed is started again by its guardian: nobody else has to
// come for a container to be restarted.
func TestGuarded(t *testing.T) {
	c := newCast(t).add("a", "echo a >>/said"+endless, always).lead()
	c.untilSaid("a", 1)
	a, err := c.pod.Container("a")
	must(t, err)
	killSupervisor(c.pod)
	must(t, a.Kill(9))
	for range 500 {
		if len(c.said()) == 2 { // which asks nobody
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.hasSaid("a", "a")
}

func TestLeadEvicts(t *testing.T) {
	rt := newRuntime(t)
	pod, err := rt.Create(bg, sandbox.Spec{Name: "full", Volumes: []volumes.Volume{{Name: "data", Disk: &volumes.Disk{Size: 64 << 10}}}})
	must(t, err)
	c := &cast{t: t, pod: Open(pod, supervised), rootfs: newRootfs(t), life: Life{Grace: time.Second, Bounds: map[string]int64{"data": 64 << 10}}}
	defer func() { must(t, c.pod.Remove(bg, sandbox.StopOptions{Grace: -1})) }()
	c.add("a", "seq 100000 >/data/much"+endless, always, func(s *Spec) {
		s.OCI.Mounts = append(s.OCI.Mounts, specs.Mount{Destination: "/data", Type: launcher.VolumeType, Source: "data"})
	}).lead()
	s := c.phase("Failed")
	if s.Reason != "Evicted" || !strings.Contains(s.Message, `"data"`) {
		t.Errorf("status: %+v", s)
	}
	c.until("it is ended", func(s *PodStatus) bool { return s.of("a").State.Terminated != nil })
}

func TestLeadRefused(t *testing.T) {
	p := newPod(t)
	good := shell(newRootfs(t), "true")
	good.Name = "a"
	for _, tt := range []struct {
		name  string
		life  Life
		specs []Spec
		want  string
	}{
		{"no containers", Life{}, nil, "want at least one"},
		{"twice", Life{Init: []string{"a"}, Containers: []string{"a"}}, []Spec{good}, "given twice"},
		{"another", Life{Containers: []string{"b"}}, []Spec{good}, "want those of the life: [b]"},
		{"probe", Life{Containers: []string{"a"}}, []Spec{func() Spec { s := good; s.Liveness = new(Probe); return s }()}, "liveness probe"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := p.Lead(bg, tt.life, tt.specs); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if list, err := p.List(); len(list) != 0 || err != nil {
				t.Errorf("there are containers: %v, %v", list, err)
			}
		})
	}
	must(t, p.Lead(bg, Life{Containers: []string{"a"}}, []Spec{good}))
	if err := p.Lead(bg, Life{Containers: []string{"a"}}, []Spec{good}); err == nil || !strings.Contains(err.Error(), "has a life already") {
		t.Errorf("led twice: %v", err)
	}
}

func mustLink(t testing.TB, rootfs string, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := os.Symlink("busybox", filepath.Join(rootfs, "bin", n)); err != nil {
			t.Fatal(err)
		}
	}
}

// A sidecar counts for the readiness of its pod, and what it still does after the others
// keeps the pod from having ended.
func TestLeadSidecarCounts(t *testing.T) {
	c := newCast(t).
		init("side", "trap 'sleep 0.5; exit 0' TERM; while :; do sleep 0.02; done", sidecar, func(s *Spec) {
			s.Readiness = &Probe{Action: Action{Exec: []string{"/bin/ls", "/side-ready"}}, Period: 20 * time.Millisecond, Failures: 1}
		}).
		add("a", "while [ ! -e /end ]; do sleep 0.02; done").lead()
	s := c.until("a is ready", func(s *PodStatus) bool { return s.of("a").Ready })
	if s.Phase != "Running" || !s.holds("Initialized") || s.holds("ContainersReady") || s.holds("Ready") {
		t.Errorf("with a sidecar that is not ready: %s, %+v", s.Phase, s.Conditions)
	}
	must(t, os.WriteFile(filepath.Join(c.rootfs, "side-ready"), nil, 0o600))
	c.until("all are ready", func(s *PodStatus) bool { return s.holds("Ready") && s.holds("ContainersReady") })
	must(t, os.WriteFile(filepath.Join(c.rootfs, "end"), nil, 0o600))
	s = c.until("a has ended", func(s *PodStatus) bool { return s.of("a").State.Terminated != nil })
	if s.Phase != "Running" || s.of("side").State.Running == nil {
		t.Errorf("while the sidecar ends: %s, %+v", s.Phase, s.InitContainerStatuses)
	}
	c.phase("Succeeded")
}

// While a sidecar does not start, the pod is not initialised, however often it is tried.
func TestLeadSidecarFails(t *testing.T) {
	c := newCast(t).
		init("side", "exit 1", sidecar, func(s *Spec) {
			s.Startup = &Probe{Action: Action{Exec: []string{"/bin/true"}}, InitialDelay: time.Second}
		}).
		add("a", "true").lead()
	s := c.until("the sidecar is tried again", func(s *PodStatus) bool { return s.of("side").RestartCount > 1 })
	if s.Phase != "Pending" || s.holds("Initialized") {
		t.Errorf("%s, %+v", s.Phase, s.Conditions)
	}
	for _, name := range []string{"side", "a"} {
		if w := s.of(name).State.Waiting; name == "a" && (w == nil || w.Reason != "PodInitializing") {
			t.Errorf("%s: %+v", name, s.of(name).State)
		}
	}
}

// A supervisor that is started in a pod that was stopped does not begin its life again,
// whoever starts it: only the pod's start does.
func TestLeadStaysStopped(t *testing.T) {
	c := newCast(t).add("a", "echo a >>/said"+endless, always).lead()
	c.untilSaid("a", 1)
	// As the pod's stop does, before the pod is down.
	must(t, c.pod.stopContainers(bg, sandbox.StopOptions{}, true))
	conn, err := c.pod.connect(bg)
	must(t, err)
	conn.Close()
	time.Sleep(300 * time.Millisecond)
	c.hasSaid("a")
	must(t, c.pod.Start(bg))
	c.untilSaid("a", 2)
}

// The supervisor is killed while it ends the pod: the next one goes on with that, starts
// nothing, and the pod can be started again.
func TestLeadStopSurvives(t *testing.T) {
	c := newCast(t).
		init("side", "echo side >>/said"+endless, sidecar).
		add("a", onceSaid("side")+"trap 'sleep 0.5; echo a-ends >>/said; exit 0' TERM; echo a >>/said; while :; do sleep 0.02; done", always).
		add("b", onceSaid("a")+"echo b >>/said"+endless, always).lead()
	c.untilSaid("b", 1)
	stopped := make(chan error, 1)
	go func() { stopped <- c.pod.Stop(bg, sandbox.StopOptions{Grace: 5 * time.Second}) }()
	c.until("b has ended", func(s *PodStatus) bool { return s.of("b").State.Terminated != nil })
	killSupervisor(c.pod)
	must(t, <-stopped)
	c.hasSaid("side", "a", "b", "a-ends")
	for _, name := range []string{"side", "a", "b"} {
		if s := c.status(); s.of(name).State.Terminated == nil || s.of(name).RestartCount != 0 {
			t.Errorf("%s: %+v", name, s.of(name))
		}
	}
	must(t, c.pod.Start(bg))
	c.untilSaid("b", 2)
}

// The containers of a life that cannot be begun are not left, and it can be tried again.
func TestLeadUndone(t *testing.T) {
	c := newCast(t).add("a", "echo a >>/said"+endless, always)
	broken := Open(c.pod.Sandbox, Options{Command: []string{"/nothing"}})
	if err := broken.Lead(bg, c.life, c.specs); err == nil {
		t.Fatal("led by nobody")
	}
	if list, err := c.pod.List(); len(list) > 0 || err != nil {
		t.Errorf("left: %v, %v", list, err)
	}
	c.lead().untilSaid("a", 1)
}

// What a sidecar does before its end is done when the pod ends, not when it is its turn; but
// it is asked to end after the others.
func TestLeadSidecarHook(t *testing.T) {
	c := newCast(t).
		init("side", "trap 'echo side-ends >>/said; exit 0' TERM; while :; do sleep 0.02; done", sidecar, func(s *Spec) {
			s.PreStop = &Action{Exec: []string{"/bin/sh", "-c", "echo pre >>/said"}}
		}).
		add("a", "trap 'sleep 0.5; echo a-ends >>/said; exit 0' TERM; echo a >>/said; while :; do sleep 0.02; done").lead()
	c.untilSaid("a", 1)
	must(t, c.pod.Stop(bg, sandbox.StopOptions{Grace: 5 * time.Second}))
	c.hasSaid("a", "pre", "a-ends", "side-ends")
}

// Who wants a pod that is being stopped to end sooner gets that.
func TestLeadHurry(t *testing.T) {
	c := newCast(t).add("a", "trap '' TERM; echo a >>/said; while :; do sleep 0.02; done").lead()
	c.untilSaid("a", 1)
	stopped := make(chan error, 1)
	go func() { stopped <- c.pod.Stop(bg, sandbox.StopOptions{Grace: time.Minute}) }()
	time.Sleep(100 * time.Millisecond)
	begin := time.Now()
	must(t, c.pod.Remove(bg, sandbox.StopOptions{Grace: -1}))
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	<-stopped
}

// A container that has run, and one that has been stopped on purpose, are as they were when
// the supervisor is killed.
func TestLeadSidecarStaysStopped(t *testing.T) {
	c := newCast(t).init("side", "echo side >>/said"+endless, sidecar).add("a", onceSaid("side")+"echo a >>/said"+endless, always).lead()
	c.untilSaid("a", 1)
	must(t, func() error {
		side, err := c.pod.Container("side")
		if err != nil {
			return err
		}
		return side.Stop(bg, StopOptions{})
	}())
	killSupervisor(c.pod)
	a, err := c.pod.Container("a")
	must(t, err)
	eventually(t, "there is another supervisor", func() bool { s, err := a.Status(); return err == nil && s.Supervised })
	time.Sleep(300 * time.Millisecond)
	c.hasSaid("side", "a")
}

// Who has a life led is killed between the last that it writes and its request: the supervisor,
// which is there already, finds the life.
func TestLeadForgotten(t *testing.T) {
	c := newCast(t).add("a", "echo a >>/said"+endless, always)
	conn, err := c.pod.connect(bg)
	must(t, err)
	conn.Close()
	_, err = c.pod.create(c.specs[0], &record{State: Created, Background: true})
	must(t, err)
	must(t, c.pod.writeLife(&lifeRecord{Version: lifeVersion, Life: c.life}))
	c.untilSaid("a", 1)
	c.phase("Running")
}

// All that lead a pod are killed, guardian and supervisor, before it has begun and after:
// whoever comes has it go on.
func TestLeadGoesOn(t *testing.T) {
	c := newCast(t).add("a", "echo a >>/said"+endless, always)
	must(t, c.pod.GoOn(bg)) // there is nothing
	_, err := c.pod.create(c.specs[0], &record{State: Created, Background: true})
	must(t, err)
	must(t, c.pod.writeLife(&lifeRecord{Version: lifeVersion, Life: c.life}))
	must(t, c.pod.GoOn(bg))
	c.untilSaid("a", 1)
	a, err := c.pod.Container("a")
	must(t, err)
	killGuarded(c.pod)
	eventually(t, "nobody leads it", func() bool { s, err := a.Status(); return err == nil && !s.Supervised })
	must(t, a.Kill(9))
	must(t, c.pod.GoOn(bg))
	c.untilSaid("a", 2)
	must(t, c.pod.Stop(bg, sandbox.StopOptions{}))
	must(t, c.pod.GoOn(bg)) // it is over
	if s := c.status(); s.of("a").State.Running != nil {
		t.Errorf("a pod that was stopped runs: %+v", s.of("a"))
	}
}

// A container that ends while nobody leads a pod that is being ended is not started again by
// who comes next.
func TestLeadEndingStartsNothing(t *testing.T) {
	c := newCast(t).add("a", "echo a >>/said"+endless, always, func(s *Spec) { s.Restart.Delay = time.Nanosecond }).lead()
	c.untilSaid("a", 1)
	a, err := c.pod.Container("a")
	must(t, err)
	killGuarded(c.pod)
	eventually(t, "nobody leads it", func() bool { s, err := a.Status(); return err == nil && !s.Supervised })
	l, err := c.pod.life()
	must(t, err)
	l.Ending, l.Stopped = true, true
	must(t, c.pod.writeLife(l))
	must(t, a.Kill(9))
	must(t, c.pod.GoOn(bg))
	eventually(t, "its life is over", func() bool { l, err := c.pod.life(); return err == nil && l.Done })
	c.hasSaid("a")
	if s := c.status(); s.of("a").RestartCount != 0 {
		t.Errorf("a: %+v", s.of("a"))
	}
}
