package netns

import (
	"context"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
)

// detached makes a child that has nothing but a socket, as descriptor 0, does some
// calls and ends: for what the kernel makes a process wait for long after it is done.
// The child may outlive us. wait returns when it has ended, and need not be called.
func detached(socket int, calls func(*spawn.Program)) (wait func(), err error) {
	high, err := spawn.DupHigh(socket)
	if err != nil {
		return nil, err
	}
	defer high.Close()
	var p spawn.Program
	// Nothing of ours may stay open in the child: not a lock, not the pipe
	// whose end somebody waits for.
	if err := p.Files([]int{int(high.Fd())}); err != nil {
		return nil, err
	}
	p.Call("close_range", unix.SYS_CLOSE_RANGE, 1, uintptr(^uint32(0)), 0)
	calls(&p)
	child, err := p.Detach(0)
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer child.PidFD.Close()
		proc.Wait(context.Background(), child.PidFD)
		proc.Reap(child.PidFD)
		runtime.KeepAlive(&p)
	}()
	return func() { <-done }, nil
}
