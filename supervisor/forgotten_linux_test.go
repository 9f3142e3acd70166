package supervisor

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/sandbox"
)

// A stopped pod is removed without a word to its supervisor, which may wait for minutes to
// start a container again: it sees that there is none, and ends.
func TestSupervisorOfNoPod(t *testing.T) {
	rt := newRuntime(t)
	podIn(t, rt, "stays") // with the last pod they are killed
	p := podIn(t, rt, "p")
	spec := shell(newRootfs(t), "exit 1")
	spec.Name = "a"
	spec.Restart = Restart{Policy: Always, Delay: time.Hour, MaxDelay: time.Hour}
	c, err := p.RunBackground(bg, spec)
	must(t, err)
	for i := 0; ; i++ {
		s, err := c.Status()
		must(t, err)
		if s.State == Restarting && s.Restarts > 0 {
			break
		}
		if i == 500 {
			t.Fatalf("the container is %s", s.State)
		}
		time.Sleep(10 * time.Millisecond)
	}
	conn, err := p.dial()
	must(t, err)
	supervisor, err := peer(conn)
	conn.Close()
	must(t, err)
	defer supervisor.Close()

	i, err := p.Info()
	must(t, err)
	must(t, unix.Kill(i.PausePID, unix.SIGKILL))
	for i := 0; i < 500; i++ {
		if now, err := p.Info(); err == nil && now.State == sandbox.Stopped {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	must(t, p.RemoveStopped(bg))
	ctx, cancel := context.WithTimeout(bg, 10*lookAfter)
	defer cancel()
	if err := proc.Wait(ctx, supervisor); err != nil {
		t.Errorf("the supervisor of a pod that is gone goes on: %v", err)
	}
}
