package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/sandbox"
)

// Serve is the supervisor of a pod: it returns when no container runs in the
// background any more. args are the last three of its command line: the runtime's root
// and state directories and the pod's ID. ready is told when it serves: it is closed
// then, after an error has been written if there is one. A pod that has a supervisor
// already needs no other: Serve returns. When it has returned the process is to end:
// it keeps the pod's lock until then.
func Serve(ctx context.Context, args []string, ready *os.File, opts Options) error {
	s, err := newServer(ctx, args, opts)
	if err != nil || s == nil {
		if err != nil {
			fmt.Fprint(ready, err)
		}
		ready.Close()
		return err
	}
	defer s.close()
	go s.accept()
	ready.Close()
	go warmUp()
	s.takeOver()
	_ = s.lead(false) // a record that cannot be read is told of by those who ask
	close(s.settled)
	s.wait()
	return nil
}

// warmUp finds out how records are written and read, which takes longer than to start
// a container.
func warmUp() {
	b, _ := json.Marshal(&record{Spec: Spec{OCI: new(specs.Spec)}})
	_ = json.Unmarshal(b, new(record))
}

// A server is a supervisor at work.
type server struct {
	pod    *Pod
	lock   *flock.Lock
	dir    *os.File
	socket *net.UnixListener

	settled chan struct{} // closed when what an earlier supervisor has left is taken over

	mu      sync.Mutex
	keepers map[string]*keeper // of containers that are not at rest, by name
	leader  *leader            // nil if there has been none
	busy    int                // keepers, the leader, and requests that are being answered
	linger  time.Duration      // for how long to stay with nothing to do
	timer   *time.Timer
	trimmer *time.Timer
	probes  trimmer
	ending  bool
	idle    chan struct{} // closed when nothing is to be done, nor will be
}

// A supervisor is started for somebody who will ask for something, and soon; later
// it stays a little for who asks next.
const (
	firstLinger = 2 * time.Second
	nextLinger  = 200 * time.Millisecond
)

func newServer(ctx context.Context, args []string, opts Options) (_ *server, err error) {
	if len(args) != 3 {
		return nil, fmt.Errorf("supervisor: %w: want the root directory, the state directory and the pod's ID", sandbox.ErrInvalid)
	}
	rt, err := sandbox.Open(sandbox.Options{Root: args[0], StateDir: args[1]})
	if err != nil {
		return nil, err
	}
	pod, err := openByName(rt, args[2])
	if err != nil {
		return nil, err
	}
	s := &server{pod: Open(pod, opts), keepers: make(map[string]*keeper), settled: make(chan struct{}), linger: firstLinger, idle: make(chan struct{})}
	s.lock, err = s.takeLock(ctx)
	if s.lock == nil || err != nil {
		return nil, err
	}
	if s.dir, err = os.OpenFile(s.pod.File(""), unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		s.lock.Close()
		return nil, err
	}
	// What the last one has left.
	if err = os.Remove(s.pod.File(socketFile)); err == nil || errors.Is(err, fs.ErrNotExist) {
		s.socket, err = net.ListenUnix("unix", socketAddr(s.dir))
	}
	if err != nil {
		s.lock.Close()
		s.dir.Close()
		return nil, err
	}
	s.socket.SetUnlinkOnClose(false)
	return s, nil
}

// openByName opens a pod by its ID, so that errors call it by its name.
func openByName(rt *sandbox.Runtime, id string) (*sandbox.Sandbox, error) {
	pod, err := rt.Open(id)
	if err != nil {
		return nil, err
	}
	info, err := pod.Info()
	if err != nil {
		return nil, err
	}
	if named, err := rt.Open(info.Name); err == nil && named.ID() == id {
		return named, nil
	}
	return pod, nil
}

// takeLock makes this process the pod's only supervisor; nil if another one is, and
// serves.
func (s *server) takeLock(ctx context.Context) (*flock.Lock, error) {
	path := s.pod.File(lockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		lock, err := flock.Try(path, flock.Exclusive)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return lock, err
		}
		if conn, err := s.pod.dial(); err == nil {
			conn.Close()
			return nil, nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// close lets the next supervisor come: when this process has ended, and with it the
// lock.
func (s *server) close() {
	s.socket.Close()
	_ = os.Remove(s.pod.File(socketFile))
	s.dir.Close()
}

// wait returns when there is nothing more to do.
func (s *server) wait() {
	s.mu.Lock()
	s.rest()
	s.mu.Unlock()
	<-s.idle
}

// begin notes that something is to be done, unless the server is about to end.
func (s *server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return false
	}
	s.busy++
	return true
}

// done notes that it has been done.
func (s *server) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	s.linger = min(s.linger, nextLinger)
	s.rest()
}

// rest ends the server if it has nothing to do for a while. s.mu is held.
func (s *server) rest() {
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.busy > 0 {
		return
	}
	forgotten := s.leader == nil && s.linger > 0
	s.timer = time.AfterFunc(s.linger, func() {
		if forgotten {
			// Who has written down a life may have been killed before they asked for it.
			_ = s.lead(false)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.busy == 0 && !s.ending {
			s.ending = true
			close(s.idle)
		}
	})
}

// accept answers requests.
func (s *server) accept() {
	for {
		conn, err := s.socket.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // for want of descriptors or memory
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if !s.begin() {
			conn.Close()
			continue
		}
		go func() {
			defer s.done()
			defer conn.Close()
			s.answer(conn)
		}()
	}
}

func (s *server) answer(conn *net.UnixConn) {
	_ = conn.SetReadDeadline(time.Now().Add(startTime))
	in := bufio.NewReaderSize(conn, 512)
	line, err := in.ReadSlice('\n')
	var req request
	if err == nil {
		err = json.Unmarshal(line, &req)
	}
	if err != nil {
		return // whoever looked whether we are there
	}
	_ = conn.SetReadDeadline(time.Time{})
	<-s.settled
	if req.Verb == verbAttach {
		s.attach(conn, in, req)
		return
	}
	pid, err := s.do(req)
	reply(conn, response{PID: pid, Error: toWire(err)})
}

func reply(conn *net.UnixConn, r response) { _ = json.NewEncoder(conn).Encode(r) }

func (s *server) do(req request) (pid int, err error) {
	switch req.Verb {
	case verbStart:
		return s.start(req.Container)
	case verbLead:
		return 0, s.leadOn()
	case verbEnd:
		return 0, s.end(req)
	case verbStop:
		k := s.keeper(req.Container)
		if k == nil {
			return 0, ErrNotRunning
		}
		return 0, k.stop(req, nil)
	case verbQuit:
		s.mu.Lock()
		s.linger = 0
		s.mu.Unlock()
		return 0, nil
	}
	return 0, fmt.Errorf("verb %q: %w", req.Verb, sandbox.ErrInvalid)
}

// keeper returns who keeps a container; nil if that is at rest.
func (s *server) keeper(name string) *keeper {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keepers[name]
}

// start starts a container that is at rest, and returns when it runs.
func (s *server) start(name string) (pid int, err error) {
	for {
		k, isNew := s.keep(name, false)
		if isNew {
			<-k.begun
			return k.pid, k.failure
		}
		pid, err = k.joinStart()
		if !k.isOther() && !(errors.Is(err, ErrRunning) && k.atRest()) {
			return pid, err
		}
		<-k.gone
	}
}

// keep begins to start a container that is at rest, or returns who is at it.
func (s *server) keep(name string, led bool) (k *keeper, isNew bool) {
	k = newKeeper(s, &Container{pod: s.pod, name: name})
	k.led = led
	s.mu.Lock()
	if other := s.keepers[name]; other != nil {
		s.mu.Unlock()
		return other, false
	}
	s.keepers[name] = k
	s.busy++
	s.mu.Unlock()
	go func() {
		defer s.forget(k)
		defer k.tell()
		k.run()
	}()
	return k, true
}

// forget lets go of a container that is at rest.
func (s *server) forget(k *keeper) {
	s.mu.Lock()
	delete(s.keepers, k.c.name)
	s.mu.Unlock()
	close(k.gone)
	s.done()
}

// takeOver goes on with the containers of a supervisor that was killed.
func (s *server) takeOver() {
	recs, _ := s.pod.records() // of a bad record there is nothing to take over
	life, _ := s.pod.life()
	var known sync.WaitGroup
	defer known.Wait()
	for _, r := range recs {
		if !r.Background || r.State != Running && r.State != Restarting {
			continue
		}
		k := newKeeper(s, &Container{pod: s.pod, name: r.Spec.Name})
		k.r, k.led = r, life != nil && life.Life.leads(r.Spec.Name)
		if k.led && life.Ending && !life.Done {
			// It may end before the leader comes to stop it, and is not to be restarted then.
			k.stopping = true
			close(k.wake)
		}
		if r.Spec.PostStart == nil || r.Hooked || r.State == Restarting {
			k.tell()
		}
		s.mu.Lock()
		s.keepers[k.c.name] = k
		s.busy++
		s.mu.Unlock()
		known.Add(1)
		go func() {
			defer s.forget(k)
			defer k.tell()
			k.adopt(known.Done)
		}()
	}
}
