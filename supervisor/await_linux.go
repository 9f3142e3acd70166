package supervisor

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// awaitTime is how often Await looks for what no event tells of: that the pod is stopped
// or paused, or that there are no events because a user has few instances of inotify(7).
const awaitTime = 100 * time.Millisecond

// Await asks done for the pod's status, at once and whenever it may have changed, until done
// returns true or an error, or ctx ends. The status is nil if the pod does not lead its
// containers.
func (p *Pod) Await(ctx context.Context, done func(*PodStatus) (bool, error)) error {
	changes := p.watch()
	defer changes.close()
	tick := time.NewTicker(awaitTime)
	defer tick.Stop()
	for {
		s, err := p.Status()
		if err != nil {
			return err
		}
		if ok, err := done(s); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes.wake:
		case <-tick.C:
		}
	}
}

// changes tell that a record of a pod's containers, or of its life, was replaced.
type changes struct {
	f    *os.File      // of inotify; nil if there is none to be had
	wake chan struct{} // has one value after events
	done chan struct{} // closed when no more will come
}

// watch watches the directories of the containers that there are. Who has no directory yet,
// or can have no watch, is not told of.
func (p *Pod) watch() *changes {
	c := &changes{wake: make(chan struct{}, 1), done: make(chan struct{})}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		close(c.done)
		return c
	}
	dirs := []string{p.File("")}
	names, _ := p.names() // without them it takes longer
	for _, n := range names {
		dirs = append(dirs, (&Container{pod: p, name: n}).dir())
	}
	for _, dir := range dirs {
		_, _ = unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	}
	c.f = os.NewFile(uintptr(fd), "inotify")
	go c.receive()
	return c
}

// receive makes one wake-up of all events at hand. What they are does not matter.
func (c *changes) receive() {
	defer close(c.done)
	buf := make([]byte, 4096)
	for {
		if _, err := c.f.Read(buf); err != nil {
			return
		}
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

func (c *changes) close() {
	if c.f != nil {
		c.f.Close()
	}
	<-c.done
}
