package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
)

// A keeper follows one container in the background, until it is at rest: it has
// ended, and is not to be started again. One goroutine, run, leads the container's
// life and writes its record; requests talk to it by the fields below mu.
type keeper struct {
	s    *server
	c    *Container
	r    *record
	out  *output
	gone chan struct{} // closed when the container is at rest

	begun   chan struct{} // closed when it is known how the first start went
	told    sync.Once     // closes it
	pid     int
	failure error

	led    bool          // a start that fails is like a run that does
	up     chan struct{} // closed when it has first started, as its startup probe says
	upOnce sync.Once     // closes it

	mu       sync.Mutex
	process  program // while it runs
	patient  *patient
	hook     chan struct{} // closed when its PreStop is done; nil before that has begun
	stopping bool
	resume   bool
	wake     chan struct{} // closed to end a wait for the next start
}

// A program is what runs in a container: one that was started here, or taken over.
type program interface {
	Signal(unix.Signal) error
	Resize(width, height uint16) error
	Ended() <-chan struct{}
	// Status returns the exit status when the program has ended; nil if nobody
	// knows.
	Status() *int
}

func newKeeper(s *server, c *Container) *keeper {
	return &keeper{s: s, c: c, gone: make(chan struct{}), begun: make(chan struct{}), up: make(chan struct{}), wake: make(chan struct{})}
}

// tell lets those go on who wait for the first start.
func (k *keeper) tell() { k.told.Do(func() { close(k.begun) }) }

// run starts the container, tells how that went, and follows it to its rest.
func (k *keeper) run() {
	err := k.begin()
	if err == nil {
		err = k.launch()
	}
	if err != nil {
		k.failure = err
		// Who is led is not given up so soon.
		if k.led && k.r != nil && !errors.Is(err, ErrRunning) {
			k.notStarted(err)
			k.tell()
			if k.next(k.r.ExitCode) {
				k.follow()
			}
			return
		}
		k.failed(err)
		k.tell()
		return
	}
	k.pid = k.r.Process.PID
	if k.r.Spec.PostStart == nil {
		k.tell()
	}
	k.follow()
}

// joinStart is for who wants the container started too. If it is just being started,
// it is for both; perhaps the other one was killed.
func (k *keeper) joinStart() (pid int, err error) {
	select {
	case <-k.begun:
		return 0, ErrRunning
	default:
	}
	<-k.begun
	return k.pid, k.failure
}

// isOther reports whether the container that it keeps, of which the first start is known, was
// removed, and another one has its name.
func (k *keeper) isOther() bool {
	now, err := k.c.record()
	return err == nil && k.r != nil && now.ID != k.r.ID
}

// atRest reports whether the container that it keeps is known to have ended for good: then
// the keeper is about to go.
func (k *keeper) atRest() bool {
	now, err := k.c.record()
	return err == nil && k.r != nil && now.ID == k.r.ID && now.State == Exited
}

// begin reads the record of a container that is to be started by request.
func (k *keeper) begin() (err error) {
	if k.r, err = k.c.record(); err != nil {
		return err
	}
	if s := k.c.status(k.r).State; s == Running || s == Paused || s == Restarting {
		return ErrRunning
	}
	k.r.Background, k.r.Stopped, k.r.Resume, k.r.Row = true, false, false, 0
	return nil
}

// adopt takes a container over, and calls known when it is on record whose it is.
func (k *keeper) adopt(known func()) {
	me, err := self()
	if err != nil {
		known()
		return
	}
	k.r.Runner = me
	if k.r.State == Restarting {
		_ = k.c.write(k.r)
		known()
		if k.again(time.Until(k.r.Next)) {
			k.follow()
		}
		return
	}
	taken, err := takeOver(k.r)
	if errors.Is(err, proc.ErrGone) {
		// It has ended while there was no supervisor.
		known()
		_ = k.c.ended(k.r, nil, errors.New("it ended while it had no supervisor"))
		if k.next(nil) {
			k.follow()
		}
		return
	}
	if err != nil {
		known()
		return // it may well run: the next supervisor tries again
	}
	k.out = k.reopenOutput()
	_ = k.c.write(k.r)
	k.set(taken)
	known()
	k.s.trimSoon()
	k.follow()
}

// reopenOutput goes on with the output of a container that is taken over. Without its
// log it loses what it writes, but runs.
func (k *keeper) reopenOutput() *output {
	out, err := k.openOutput()
	if err != nil {
		out = &output{c: k.c}
		k.r.Error = "log: " + err.Error()
	}
	if err := out.reopen(); err != nil {
		k.r.Error = "output: " + err.Error()
	}
	return out
}

// follow goes on from a program that runs to the container's rest.
func (k *keeper) follow() {
	for {
		p := k.program()
		why := k.attend(p)
		k.tell()
		// First all that may still write ends: it holds the output open.
		k.r.OOM = k.c.oomKilled(k.r)
		err := k.c.sweep(k.r)
		status := p.Status()
		k.c.noteEnd(k.r, status, errors.Join(why, err))
		k.set(nil)
		k.out.close(status)
		k.r.Message = k.c.message(k.r)
		if !k.next(status) {
			return
		}
	}
}

// next starts the container again if it is to be, after a wait; or lays it to rest,
// and returns false.
func (k *keeper) next(status *int) bool {
	restart := k.r.Spec.Restart.withDefaults()
	if k.r.Finished.Sub(k.r.Started) >= restart.ResetAfter {
		k.r.Row = 0
	}
	if k.isStopping() || !restart.wants(status, k.r.Row) {
		k.rest()
		return false
	}
	return k.again(restart.backoff(k.r.Row))
}

// again starts the container after a wait; false if it is at rest instead.
func (k *keeper) again(after time.Duration) bool {
	restart := k.r.Spec.Restart.withDefaults()
	for {
		k.r.State, k.r.Next = Restarting, time.Now().Add(after).UTC()
		if err := k.c.write(k.r); errors.Is(err, fs.ErrNotExist) {
			return false // removed
		}
		if !k.sleep(after) {
			k.rest()
			return false
		}
		k.r.Restarts++
		k.r.Row++
		err := k.launch()
		if err == nil {
			return true
		}
		k.notStarted(err)
		if !k.led && isFinal(err) || !restart.wants(nil, k.r.Row) {
			k.failed(err)
			return false
		}
		after = restart.backoff(k.r.Row)
	}
}

// isFinal reports whether a start that failed will fail again. A pod whose pause was
// killed may be healed.
func isFinal(err error) bool {
	for _, final := range []error{sandbox.ErrInvalid, sandbox.ErrNotSupported, sandbox.ErrNoVolume, sandbox.ErrNotFound, ErrNotFound, image.ErrNotFound} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// lookAfter is how often who waits to start a container again looks whether that is there still.
const lookAfter = 2 * time.Second

// sleep waits; false if the container is to stop meanwhile, or is gone: a stopped pod can be
// removed without a word to us.
func (k *keeper) sleep(d time.Duration) bool {
	for end := time.Now().Add(d); !k.isStopping(); {
		t := time.NewTimer(min(time.Until(end), lookAfter))
		select {
		case <-t.C:
		case <-k.wake:
			t.Stop()
			return false
		}
		if !time.Now().Before(end) {
			return !k.isStopping()
		}
		if _, err := os.Lstat(k.c.file(recordFile)); errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return false
}

// launch starts the container's program.
func (k *keeper) launch() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), launchTime)
	defer cancel()
	if k.r.Runner, err = self(); err != nil {
		return err
	}
	if err := k.c.makeMessage(k.r); err != nil {
		return err
	}
	if k.out, err = k.openOutput(); err != nil {
		return err
	}
	streams, err := k.out.open(k.r)
	if err != nil {
		k.out.close(nil)
		return err
	}
	// The record comes before the program: whatever happens to us, nothing runs
	// that is not on it.
	p, err := k.c.launch(ctx, k.r, launcher.Options{IO: streams, Detached: true, Born: func(process proc.Identity) error {
		k.r.began(process)
		return k.c.write(k.r)
	}})
	k.out.begun()
	if err != nil {
		k.out.close(nil)
		return errors.Join(err, k.c.clean(context.Background(), k.r))
	}
	k.set(&started{Process: p})
	k.c.announce("start", k.r)
	k.s.trimSoon()
	return nil
}

// launchTime bounds a start, which may hang on a file server.
const launchTime = 2 * time.Minute

// failed notes that the container could not be started.
func (k *keeper) failed(err error) {
	if k.r == nil || errors.Is(err, ErrRunning) {
		return
	}
	k.notStarted(err)
	k.r.State = Exited
	if k.r.Spec.Remove && k.r.Restarts > 0 {
		if err := k.c.discard(k.r); err == nil {
			return
		}
	}
	_ = k.c.write(k.r)
}

// startError is the reason of an end that was none: the container could not be started.
const startError = "StartError"

// notStarted notes that a start has failed, as an end.
func (k *keeper) notStarted(err error) {
	k.r.remember()
	k.r.Started = time.Now().UTC()
	k.r.Finished, k.r.OOM, k.r.Error, k.r.Reason, k.r.Message = k.r.Started, false, err.Error(), startError, err.Error()
	w := toWire(err)
	k.r.ExitCode = new(int)
	switch {
	case w.Exec == "":
		*k.r.ExitCode = 125
	case w.Errno == unix.ENOENT:
		*k.r.ExitCode = 127
	default:
		*k.r.ExitCode = 126
	}
}

// rest notes that the container has ended for good.
func (k *keeper) rest() {
	k.mu.Lock()
	k.r.Stopped, k.r.Resume = k.stopping, k.resume
	k.mu.Unlock()
	k.r.State, k.r.Next = Exited, time.Time{}
	if k.r.Spec.Remove && !k.r.Resume {
		if err := k.c.discard(k.r); err == nil {
			return
		}
	}
	_ = k.c.write(k.r) // there may be none any more
}

func (k *keeper) set(p program) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.process, k.hook, k.patient = p, nil, nil
	if p != nil {
		k.patient = &patient{c: k.c, r: *k.r}
	}
}

func (k *keeper) program() program {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.process
}

func (k *keeper) subject() *patient {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.patient
}

func (k *keeper) isStopping() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stopping
}

// stop ends the container and returns when it is at rest. turn, unless it is nil, is closed
// when it may be asked to end; what is to be done before that is done at once.
func (k *keeper) stop(req request, turn <-chan struct{}) error {
	k.mu.Lock()
	if !k.stopping {
		k.stopping = true
		close(k.wake)
	}
	k.resume = k.resume || req.Resume
	k.mu.Unlock()
	p := k.awaitProgram()
	if p == nil {
		return nil
	}
	if err := k.end(p, req, turn); err != nil {
		return err
	}
	<-k.gone
	return nil
}

// end ends a program: what is to be done before comes first, and then its turn, if there is
// one. Both count as time that it has had.
func (k *keeper) end(p program, req request, turn <-chan struct{}) error {
	if req.Signal == 0 {
		req.Signal = stopSignal(k.r)
	}
	if hook := k.r.Spec.PreStop; req.Grace > 0 && (hook != nil || turn != nil) {
		begin := time.Now()
		late := time.NewTimer(req.Grace)
		defer late.Stop()
		var hooked <-chan struct{}
		if hook != nil {
			hooked = k.preStop(p, hook, req.Grace)
		}
		for _, before := range []<-chan struct{}{hooked, turn} {
			if before == nil {
				continue
			}
			select {
			case <-before:
			case <-p.Ended():
			case <-late.C:
				late.Reset(0)
			}
		}
		req.Grace = max(req.Grace-time.Since(begin), leastGrace)
	}
	return endProgram(k.c, k.r.ID, p.Signal, p.Ended(), req.Signal, req.Grace)
}

// preStop does what is to be done before a program is asked to end, once for all who want
// that, and returns what is closed when it is done, whatever came of it, as with the kubelet.
func (k *keeper) preStop(p program, hook *Action, grace time.Duration) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.process != p { // it has ended
		return p.Ended()
	}
	if k.hook == nil {
		done, of := make(chan struct{}), k.patient
		k.hook = done
		go func() {
			defer close(done)
			ctx, cancel := context.WithTimeout(context.Background(), grace)
			over := onEnd(p, cancel)
			defer over()
			_ = of.act(ctx, hook)
		}()
	}
	return k.hook
}

// awaitProgram returns the program of a container that is to stop: it may be about to
// be started just now. Nil when it is at rest.
func (k *keeper) awaitProgram() program {
	for {
		if p := k.program(); p != nil {
			return p
		}
		select {
		case <-k.gone:
			return nil
		case <-time.After(time.Millisecond):
		}
	}
}

// A started is a program that was started by this supervisor.
type started struct{ *launcher.Process }

func (p *started) Status() *int {
	status, err := p.Wait(context.Background())
	if err != nil && status < 0 {
		return nil
	}
	return &status
}

// A taken is a program that an earlier supervisor has started.
type taken struct {
	pidfd  *os.File
	ended  chan struct{}
	status *int
}

func takeOver(r *record) (*taken, error) {
	pidfd, err := r.Process.Open()
	if err != nil {
		return nil, err
	}
	t := &taken{pidfd: pidfd, ended: make(chan struct{})}
	go func() {
		_ = proc.Wait(context.Background(), pidfd)
		t.status = proc.ExitStatus(pidfd)
		close(t.ended)
	}()
	return t, nil
}

func (t *taken) Signal(sig unix.Signal) error { return proc.Signal(t.pidfd, sig) }
func (t *taken) Ended() <-chan struct{}       { return t.ended }
func (t *taken) Status() *int                 { return t.status }
func (t *taken) Resize(uint16, uint16) error {
	return fmt.Errorf("terminal: %w after the supervisor was killed", launcher.ErrNotSupported)
}
