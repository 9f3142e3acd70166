package cgroup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestFreeze(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		ctx := soon(t)
		pod, g := group(t, l, "pod"), group(t, l, "pod/web")
		create(t, g, nil)
		start(t, g, "sh", "-c", "while :; do :; done")
		runs := func() bool {
			before := stats(t, g).CPU.Usage
			time.Sleep(50 * time.Millisecond)
			return stats(t, g).CPU.Usage > before+time.Millisecond
		}
		frozen := func(g *Group, want bool) {
			t.Helper()
			if got, err := g.Frozen(); err != nil || got != want {
				t.Errorf("%v: frozen %v, %v", g, got, err)
			}
		}
		frozen(pod, false)
		for range 2 {
			if err := pod.Freeze(ctx); err != nil {
				t.Fatal(err)
			}
		}
		frozen(pod, true)
		frozen(g, true)
		if runs() {
			t.Error("a group below runs")
		}
		// A thaw below a frozen group does nothing.
		if err := g.Thaw(); err != nil {
			t.Error(err)
		}
		frozen(g, true)
		for range 2 {
			if err := pod.Thaw(); err != nil {
				t.Error(err)
			}
		}
		frozen(pod, false)
		frozen(g, false)
		eventually(t, "run", runs)
	})
}

// A frozen group is frozen also while what is in it is killed.
func TestFrozenWhileKilled(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		g := group(t, l, "pod/web")
		create(t, g, nil)
		for range 20 {
			start(t, g, "sleep", "1000")
		}
		if err := g.Freeze(soon(t)); err != nil {
			t.Fatal(err)
		}
		defer g.Thaw()
		pids, err := g.PIDs()
		if err != nil || len(pids) < 20 {
			t.Fatalf("%d processes, %v", len(pids), err)
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Error(err)
			}
			for range 50 {
				if is, err := g.Frozen(); err != nil || !is {
					t.Fatalf("frozen %v, %v", is, err)
				}
			}
		}
	})
}

// A group that forks all the time is frozen, or thawed when the context ends.
func TestFreezeBomb(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		g := group(t, l, "pod/web")
		create(t, g, bounded)
		explode(t, g, "hop")
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := g.Freeze(ctx)
		frozen, ferr := g.Frozen()
		if ferr != nil || frozen != (err == nil) || err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("freeze: %v; frozen: %v, %v", err, frozen, ferr)
		}
		t.Log(err)
	})
}

// bounded is what a fork bomb needs to have.
var bounded = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(64))}}

// explode starts a fork bomb, and returns when it has spread.
func explode(t *testing.T, g *Group, how string) {
	t.Helper()
	for range 3 {
		cmd := again(t, g, how)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go cmd.Wait()
	}
	first, err := g.PIDs()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "spread", func() bool {
		pids, err := g.PIDs()
		return err == nil && len(pids) > 0 && (len(first) == 0 || pids[0] != first[0] || len(pids) > 30)
	})
	time.Sleep(20 * time.Millisecond)
}

func TestKillBomb(t *testing.T) {
	for _, how := range []string{"grow", "hop"} {
		t.Run(how, func(t *testing.T) {
			each(t, func(t *testing.T, l *layout) {
				pod, g := group(t, l, "pod"), group(t, l, "pod/web")
				create(t, pod, bounded)
				create(t, g, nil)
				explode(t, g, how)
				began := time.Now()
				if err := pod.Kill(soon(t)); err != nil {
					t.Error(err)
				}
				t.Logf("in %v", time.Since(began))
				time.Sleep(20 * time.Millisecond)
				if pids, err := pod.PIDs(); err != nil || len(pids) > 0 {
					t.Errorf("left: %v, %v", pids, err)
				}
				if err := pod.Remove(soon(t)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestKillFrozen(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		ctx := soon(t)
		pod, web, db := group(t, l, "pod"), group(t, l, "pod/web"), group(t, l, "pod/db")
		create(t, web, nil)
		create(t, db, nil)
		cmd := start(t, web, "sleep", "1000")
		start(t, db, "sleep", "1000")
		if err := web.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		if err := web.Kill(ctx); err != nil {
			t.Error(err)
		}
		cmd.Wait()
		if frozen, err := web.Frozen(); err != nil || frozen {
			t.Errorf("frozen after Kill: %v, %v", frozen, err)
		}

		// One that was frozen by itself dies with its pod.
		cmd = start(t, web, "sleep", "1000")
		if err := web.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		if err := pod.Kill(ctx); err != nil {
			t.Error(err)
		}
		cmd.Wait()
		if frozen, err := web.Frozen(); err != nil || frozen {
			t.Errorf("frozen after Kill: %v, %v", frozen, err)
		}

		// One of a frozen pod's dies, the pod stays frozen.
		start(t, db, "sleep", "1000")
		start(t, web, "sleep", "1000")
		if err := pod.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		if err := web.Kill(ctx); err != nil {
			t.Error(err)
		}
		if frozen, err := db.Frozen(); err != nil || !frozen {
			t.Errorf("the other one is frozen: %v, %v", frozen, err)
		}
		if err := pod.Kill(ctx); err != nil {
			t.Error(err)
		}
	})
}

// A process that only one hierarchy has in the group does not get away.
func TestKillStray(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		a, b := group(t, l, "pod/a"), group(t, l, "pod/b")
		create(t, a, nil)
		create(t, b, nil)
		cmd := start(t, a, "sleep", "1000")
		if err := b.add(b.dirs()[0], cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		if err := b.Kill(soon(t)); err != nil {
			t.Error(err)
		}
		cmd.Wait()
	})
}

// Nor does one of a group that is half removed.
func TestKillPartial(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		if len(l.v1) == 0 {
			t.Skip("one hierarchy")
		}
		g := group(t, l, "web")
		create(t, g, nil)
		cmd := start(t, g, "sleep", "1000")
		last := g.dirs()[len(g.dirs())-1] // which has the freezer, of v2 or v1
		if err := write(filepath.Dir(filepath.Dir(last)), "cgroup.procs", strconv.Itoa(cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(last); err != nil {
			t.Fatal(err)
		}
		if err := g.Kill(soon(t)); err != nil {
			t.Error(err)
		}
		cmd.Wait()
	})
}

// More processes than are signalled at once.
func TestKillMany(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		const n = 520
		g := group(t, l, "web")
		create(t, g, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(n + 10))}})
		cmd := start(t, g, "sh", "-c", "i=0; while [ $i -lt "+strconv.Itoa(n)+" ]; do sleep 1000 & i=$((i+1)); done; wait")
		eventually(t, "start", func() bool { return stats(t, g).PIDs.Current > n })
		began := time.Now()
		if err := g.Kill(soon(t)); err != nil {
			t.Error(err)
		}
		t.Logf("in %v", time.Since(began))
		cmd.Wait()
	})
}

func TestKillContext(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		g := group(t, l, "web")
		create(t, g, nil)
		cmd := start(t, g, "sleep", "1000")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		// It is killed, but not waited for.
		if err := g.Kill(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		cmd.Wait()
	})
}

func TestOwnGroup(t *testing.T) {
	each(t, func(t *testing.T, l *layout) {
		g := group(t, l, "pod/web")
		create(t, g, nil)
		if out, err := again(t, g, "suicide:"+testRoot()+"/pod").CombinedOutput(); err != nil {
			t.Errorf("%s: %v", out, err)
		}
		var errno unix.Errno
		if err := g.refuseOwn("x"); err != nil || errors.As(err, &errno) {
			t.Error(err)
		}
	})
}
