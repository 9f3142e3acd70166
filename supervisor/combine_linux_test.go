package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
)

// The supervisor, the command, a container and the pause are killed in every
// combination. What is said of the containers is true; Start heals the pod, with its
// addresses and its memory; a container that was not meant has noticed nothing; and the
// pod's removal leaves nothing.
func TestKilledTogether(t *testing.T) {
	rt := newRuntime(t)
	before, rootfs := lookAround(t, rt), newRootfs(t)
	for set := range 16 {
		var victims []string
		for i, name := range []string{"supervisor", "command", "container", "pause"} {
			if set&(1<<i) != 0 {
				victims = append(victims, name)
			}
		}
		t.Run(strings.Join(victims, "+"), func(t *testing.T) {
			p := podIn(t, rt, "pod")
			killTogether(t, p, rootfs, victims)
			must(t, verbs["rm -f"](p, Spec{}))
			before.same(t, "after the pod's removal")
		})
	}
}

func killTogether(t *testing.T, p *Pod, rootfs string, victims []string) {
	t.Helper()
	was, err := p.Info()
	must(t, err)
	victim := shell(rootfs, "echo $HOSTNAME >>/dev/shm/starts; exec sleep 1000")
	victim.Name, victim.Restart = "victim", Restart{Policy: Always, Delay: time.Millisecond, MaxDelay: 5 * time.Millisecond}
	v, err := p.RunBackground(bg, victim)
	must(t, err)
	counter := shell(rootfs, "i=0; while sleep 0.01; do i=$((i+1)); echo $i >/dev/shm/count; done")
	counter.Name = "counter"
	c, err := p.RunBackground(bg, counter)
	must(t, err)
	command := p.command("run", rootfs, forever)
	must(t, command.Start())
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	eventually(t, "the container in the foreground runs", func() bool {
		s, err := statusOf(p, "a")
		return err == nil && s.State == Running && s.PID != 0
	})
	first, err := c.Status()
	must(t, err)

	for _, name := range victims {
		switch name {
		case "supervisor":
			killSupervisor(p)
		case "command":
			_ = command.Process.Kill()
		case "container":
			must(t, v.Kill(unix.SIGKILL))
		case "pause":
			must(t, unix.Kill(was.PausePID, unix.SIGKILL))
			eventually(t, "the pause has ended", func() bool {
				stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", was.PausePID))
				return err != nil || strings.Contains(string(stat), ") Z ")
			})
		}
	}
	honest(t, p, "killed "+strings.Join(victims, ", "))
	must(t, p.Start(bg))

	eventually(t, "the pod is whole", func() bool {
		s, err := v.Status()
		return err == nil && s.State == Running && s.Supervised && s.PID != 0
	})
	now, err := p.Info()
	must(t, err)
	if now.IP != was.IP || now.IP6 != was.IP6 || now.MAC != was.MAC || now.Hostname != was.Hostname {
		t.Errorf("the pod was %s %s %s %s, and is %s %s %s %s", was.IP, was.IP6, was.MAC, was.Hostname, now.IP, now.IP6, now.MAC, now.Hostname)
	}
	if s, err := c.Status(); err != nil || s.State != Running || s.PID != first.PID || s.Restarts != 0 {
		t.Errorf("the other container: %+v, %v; it was process %d", s, err, first.PID)
	}
	// Its memory is that of new ones.
	var out strings.Builder
	f, err := p.Run(bg, shell(rootfs, "cat /dev/shm/starts /dev/shm/count; hostname"), launcher.IO{Stdout: &out})
	must(t, err)
	if status, err := f.Wait(bg); err != nil || status != 0 || !strings.HasSuffix(out.String(), "pod\n") {
		t.Errorf("status %d, %v, %q", status, err, out.String())
	}
	_ = command.Process.Signal(unix.SIGKILL)
	<-ended
}

// A container that was to be restarted always, and had nobody to do so, is started with the pod
// also if that is stopped before, as by podbox restart; one that was not to be is not.
func TestStoppedUnattended(t *testing.T) {
	p := newPod(t)
	rootfs := newRootfs(t)
	var running []*record
	for name, policy := range map[string]Policy{"always": Always, "never": Never} {
		spec := shell(rootfs, "exec sleep 1000")
		spec.Name, spec.Restart = name, Restart{Policy: policy}
		c, err := p.RunBackground(bg, spec)
		must(t, err)
		r, err := c.record()
		must(t, err)
		running = append(running, r)
	}
	must(t, p.Stop(bg, sandbox.StopOptions{Grace: -1}))
	// Whoever was to note their end has been killed with them.
	for _, r := range running {
		c, err := p.Container(r.Spec.Name)
		must(t, err)
		must(t, c.write(r))
	}
	must(t, p.Stop(bg, sandbox.StopOptions{}))
	must(t, p.Start(bg))
	if s, err := statusOf(p, "always"); err != nil || s.State != Running {
		t.Errorf("the one that is restarted always: %+v, %v", s, err)
	}
	if s, err := statusOf(p, "never"); err != nil || s.State != Exited {
		t.Errorf("the one that is not restarted: %+v, %v", s, err)
	}
}

func statusOf(p *Pod, name string) (*Status, error) {
	c, err := p.Container(name)
	if err != nil {
		return nil, err
	}
	return c.Status()
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(testenv.Patience(5 * time.Second)); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("it never holds that %s", what)
}

// A container that leaves thousands of orphans behind ends, with an init that reaps
// them and without, and nothing of them is left.
func TestOrphans(t *testing.T) {
	n := 10000
	if testing.Short() {
		n = 500
	}
	p := newPod(t)
	rootfs := newRootfs(t)
	for _, init := range []bool{true, false} {
		spec := shell(rootfs, fmt.Sprintf("for i in $(seq %d); do (true &) ; done; (sleep 1000 &); exit 6", n))
		spec.Init = init
		c, err := p.RunBackground(bg, spec)
		must(t, err)
		if status, err := c.Wait(bg); status != 6 || err != nil {
			t.Errorf("init %v: status %d, %v", init, status, err)
		}
		honest(t, p, "after orphans")
	}
	if left, err := exec.Command("pgrep", "-f", p.ID()+".*sleep").Output(); err == nil {
		t.Errorf("left: %s", left)
	}
}
