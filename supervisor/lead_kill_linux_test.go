package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/sandbox"
)

// leadAll begins a life with all that there is in one: an init container, a sidecar, probes and
// a hook.
func leadAll(p *Pod, spec Spec) error {
	rootfs := spec.OCI.Root.Path
	one := shell(rootfs, "true")
	one.Name, one.Restart = "one", Restart{Policy: OnFailure, Delay: 10 * time.Millisecond}
	side := shell(rootfs, forever)
	side.Name, side.Sidecar, side.Restart = "side", true, Restart{Policy: Always, Delay: 10 * time.Millisecond}
	side.Readiness = &Probe{Action: Action{Exec: []string{"/bin/true"}}, Period: 20 * time.Millisecond}
	spec.Restart = Restart{Policy: Always, Delay: 10 * time.Millisecond}
	spec.Liveness = &Probe{Action: Action{Exec: []string{"/bin/true"}}, Period: 10 * time.Millisecond, Timeout: 20 * time.Second}
	spec.PreStop = &Action{Exec: []string{"/bin/sleep", "0.05"}}
	return p.Lead(bg, Life{Init: []string{"one", "side"}, Containers: []string{"a"}, Grace: time.Second}, []Spec{one, side, spec})
}

// leadAgain begins or goes on with a life whose beginning was cut short.
func leadAgain(p *Pod, spec Spec) error {
	_, err := p.life()
	if err == nil {
		return p.Start(bg)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := p.List()
	if err != nil {
		return err
	}
	for _, s := range list {
		c, err := p.Container(s.Name)
		if err == nil {
			err = c.Remove(bg, true, StopOptions{})
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return leadAll(p, spec)
}

// ledTrials are what is done to a pod that is led.
var ledTrials = []trial{
	{name: "lead", verb: "lead", done: ledRuns},
	{name: "stop", verb: "stop", prepare: led, done: ledRests},
	{name: "start", verb: "start", prepare: ledStopped, done: ledRuns},
	{name: "rm -f", verb: "rm -f", prepare: led, done: gone},
}

func led(t *testing.T, p *Pod, rootfs string) {
	t.Helper()
	must(t, leadAll(p, aOf(rootfs)))
	ledRuns(t, p)
}

func ledStopped(t *testing.T, p *Pod, rootfs string) {
	t.Helper()
	led(t, p, rootfs)
	must(t, verbs["stop"](p, Spec{}))
}

func aOf(rootfs string) Spec {
	spec := shell(rootfs, forever)
	spec.Name = "a"
	return spec
}

func ledRuns(t *testing.T, p *Pod) {
	t.Helper()
	eventually(t, "the pod is ready", func() bool {
		s, err := p.Status()
		return err == nil && s != nil && s.Phase == "Running" && s.holds("Ready")
	})
}

func ledRests(t *testing.T, p *Pod) {
	t.Helper()
	s, err := p.Status()
	must(t, err)
	for _, c := range append(s.InitContainerStatuses, s.ContainerStatuses...) {
		if c.State.Running != nil {
			t.Errorf("%s still runs", c.Name)
		}
	}
}

// killGuarded kills a pod's supervisor with its guardian.
func killGuarded(p *Pod) {
	conn, err := p.dial()
	if err != nil {
		return
	}
	defer conn.Close()
	pidfd, err := peer(conn)
	if err != nil {
		return
	}
	defer pidfd.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	var cred *unix.Ucred
	_ = raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil {
		return
	}
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cred.Pid))
	words := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(words) > 1 {
		parent, _ := strconv.Atoi(words[1])
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parent)); string(comm) == "podbox-guardian\n" {
			_ = unix.Kill(parent, unix.SIGKILL)
		}
	}
	_ = unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGKILL, nil, 0)
}

// What leads a pod is killed at any moment of what can be done to it: the command, the
// supervisor, it with its guardian, and all of them. What is said of the containers is
// true, what was begun can be done to its end, and removal leaves nothing.
func TestLedKilled(t *testing.T) {
	rt := newRuntime(t)
	before, rootfs := lookAround(t, rt), newRootfs(t)
	kills := []struct {
		name string
		kill func(*Pod, *exec.Cmd)
	}{
		{"command", func(_ *Pod, cmd *exec.Cmd) { _ = cmd.Process.Kill() }},
		{"supervisor", func(p *Pod, _ *exec.Cmd) { killSupervisor(p) }},
		{"supervisor and guardian", func(p *Pod, _ *exec.Cmd) { killGuarded(p) }},
		{"all", func(p *Pod, cmd *exec.Cmd) {
			_ = cmd.Process.Kill()
			killGuarded(p)
		}},
	}
	for _, tt := range ledTrials {
		t.Run(tt.name, func(t *testing.T) {
			took := ledDuration(t, rt, tt, rootfs)
			n := rounds(4)
			for i := range n {
				for j, k := range kills {
					// Each at other moments.
					after := took * time.Duration(len(kills)*i+j+1) / time.Duration(len(kills)*n+1)
					how := fmt.Sprintf("%s: %s killed after %v of %v", tt.name, k.name, after, took)
					cutLed(t, rt, tt, rootfs, how, func(p *Pod, cmd *exec.Cmd) {
						time.Sleep(after)
						k.kill(p, cmd)
					})
				}
			}
			before.same(t, "after many kills")
		})
	}
}

func ledDuration(t *testing.T, rt *sandbox.Runtime, tt trial, rootfs string) time.Duration {
	t.Helper()
	p := podIn(t, rt, "timed")
	if tt.prepare != nil {
		tt.prepare(t, p, rootfs)
	}
	begin := time.Now()
	if out, err := p.command(tt.verb, rootfs, forever).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if tt.verb == "lead" {
		ledRuns(t, p) // the life has only begun
	}
	took := time.Since(begin)
	tt.done(t, p)
	must(t, verbs["kill -f"](p, Spec{}))
	return took
}

// cutLed does a verb to a pod that is led and disturbs it.
func cutLed(t *testing.T, rt *sandbox.Runtime, tt trial, rootfs, how string, disturb func(*Pod, *exec.Cmd)) {
	t.Helper()
	p := podIn(t, rt, "cut")
	if tt.prepare != nil {
		tt.prepare(t, p, rootfs)
	}
	cmd := p.command(tt.verb, rootfs, forever)
	must(t, cmd.Start())
	disturb(p, cmd)
	_ = cmd.Wait()
	afterLed(t, p, tt, rootfs, how)
}

// afterLed checks what is left when a verb was cut short.
func afterLed(t *testing.T, p *Pod, tt trial, rootfs, how string) {
	t.Helper()
	if _, err := p.Info(); err == nil {
		honest(t, p, how)
		var err error
		if tt.verb == "lead" {
			err = leadAgain(p, aOf(rootfs))
		} else {
			err = verbs[tt.verb](p, Spec{})
		}
		if err != nil && !(tt.verb == "rm -f" && errors.Is(err, sandbox.ErrNotFound)) {
			t.Errorf("%s: again: %v", how, err)
		}
	}
	if !t.Failed() {
		tt.done(t, p)
	}
	if err := verbs["rm -f"](p, Spec{}); err != nil {
		t.Errorf("%s: remove: %v", how, err)
	}
	if t.Failed() {
		t.Fatal(how)
	}
}

// Each system call of what leads a pod in turn is its last one, or fails.
func TestLedFaults(t *testing.T) {
	rt := newRuntime(t)
	needStrace(t)
	before, rootfs := lookAround(t, rt), newRootfs(t)
	exe, err := os.Readlink("/proc/self/exe")
	must(t, err)
	all := append([]fault{killed}, faults...)
	for i, tt := range ledTrials {
		t.Run(tt.name, func(t *testing.T) {
			for j, f := range all {
				if rounds(1) == 1 && j%len(ledTrials) != i {
					continue // a sample
				}
				spread(rounds(4), 100, func(k int) {
					how := fmt.Sprintf("%s: command: %s of call %d of %s", tt.name, f.what, k, f.calls)
					p := podIn(t, rt, "cut")
					if tt.prepare != nil {
						tt.prepare(t, p, rootfs)
					}
					plain := p.command(tt.verb, rootfs, forever)
					cmd := f.inject(k, append([]string{exe}, plain.Args[1:]...)...)
					cmd.Env = plain.Env
					_, _ = runFor(t, cmd)
					afterLed(t, p, tt, rootfs, how)
					if tt.verb == "lead" {
						return // has no supervisor yet
					}
					how = fmt.Sprintf("%s: supervisor: %s of call %d of %s", tt.name, f.what, k, f.calls)
					p = podIn(t, rt, "cut")
					tt.prepare(t, p, rootfs)
					stop := f.attach(t, p, k)
					_, _ = runFor(t, p.command(tt.verb, rootfs, forever))
					stop()
					afterLed(t, p, tt, rootfs, how)
				})
			}
			before.same(t, "after many faults")
		})
	}
}
