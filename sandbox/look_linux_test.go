package sandbox

import (
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/podbox/podbox/internal/nsfs"
	"github.com/podbox/podbox/internal/testenv"
)

// A look is shared by those who ask before it begins, and never by those who ask later:
// they would not see who has come meanwhile.
func TestLooksAreFresh(t *testing.T) {
	testenv.NeedRoot(t)
	var ls looks
	one, two := ls.fresh(), ls.fresh()
	if one != two {
		t.Error("two who ask before a look begins do not share it")
	}
	if _, err := one.at(Net); err != nil {
		t.Fatal(err)
	}
	if three := ls.fresh(); three == one {
		t.Fatal("somebody was given a look that had begun")
	}
	// Of many who ask, each sees the program that it has started itself.
	var wg sync.WaitGroup
	for range 8 {
		cmd := exec.Command("sleep", "100")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		wg.Go(func() {
			in, err := ls.fresh().at(Net)
			if err != nil {
				t.Error(err)
				return
			}
			inode, err := nsfs.Inode(cmd.Process.Pid, string(Net))
			if err != nil || !slices.Contains(in[inode], cmd.Process.Pid) {
				t.Errorf("process %d was not seen (%v)", cmd.Process.Pid, err)
			}
		})
	}
	wg.Wait()
	// Looks take turns: while one goes on, all others wait for one and the same.
	ls.turn.Lock()
	first := ls.fresh()
	done := make(chan struct{}, 8)
	for range cap(done) {
		go func() {
			_, _ = ls.fresh().at(Net)
			done <- struct{}{}
		}()
	}
	time.Sleep(10 * time.Millisecond)
	select {
	case <-done:
		t.Error("a look did not wait for the one before")
	default:
	}
	ls.turn.Unlock()
	for range cap(done) {
		<-done
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	if first.pids == nil {
		t.Error("they have not shared the one that was next")
	}
}
