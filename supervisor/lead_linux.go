package supervisor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/podbox/podbox/internal/replace"
	"github.com/podbox/podbox/sandbox"
)

// A lifeRecord is what is known of a pod's life, as a file. It is written by the pod's
// supervisor, once there is one.
type lifeRecord struct {
	Version int  `json:"version"`
	Life    Life `json:"life"`
	// Started is when the first container was about to be started.
	Started time.Time `json:"started,omitzero"`
	// Ending says that nothing will be started any more, and what runs is being ended;
	// Done, that this is over; Stopped, that this is so since the pod was stopped.
	Ending  bool `json:"ending,omitempty"`
	Done    bool `json:"done,omitempty"`
	Stopped bool `json:"stopped,omitempty"`
	// Reason and Message tell why the pod has failed, if that is not because of
	// one of its containers.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

const (
	lifeVersion = 1
	lifeFile    = "life.json"
)

// life reads the pod's. fs.ErrNotExist if it leads none.
func (p *Pod) life() (*lifeRecord, error) {
	b, err := os.ReadFile(p.File(lifeFile))
	if err != nil {
		return nil, err
	}
	l := new(lifeRecord)
	if err = json.Unmarshal(b, l); err == nil {
		err = l.Life.Validate()
	}
	if err == nil && l.Version != lifeVersion {
		err = fmt.Errorf("version %d, want %d", l.Version, lifeVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", p.File(lifeFile), sandbox.ErrBadRecord, err)
	}
	return l, nil
}

func (p *Pod) writeLife(l *lifeRecord) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return replace.File(p.File(""), p.File(lifeFile), b)
}

// grace returns how long the containers of the pod have to end if nothing else is said.
func (p *Pod) grace() time.Duration {
	if l, err := p.life(); err == nil {
		return l.Life.grace()
	}
	return sandbox.DefaultGrace
}

// Lead makes containers, and has the pod's supervisor lead them through life. It returns
// when that has begun. If a container cannot be made there is none of them. ErrExists if
// the pod is led already.
func (p *Pod) Lead(ctx context.Context, life Life, containers []Spec) error {
	err := p.lead(ctx, life, containers)
	if err != nil {
		return fmt.Errorf("lead containers of %v: %w", p, err)
	}
	return nil
}

func (p *Pod) lead(ctx context.Context, life Life, containers []Spec) (err error) {
	if err := life.Validate(); err != nil {
		return err
	}
	var got []string
	for i := range containers {
		got = append(got, containers[i].Name)
	}
	want := slices.Concat(life.Init, life.Containers)
	if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		return invalid("containers", fmt.Sprint(got), fmt.Sprintf("want those of the life: %v", want))
	}
	if _, err := p.life(); !errors.Is(err, fs.ErrNotExist) {
		return cmp.Or(err, fmt.Errorf("%w: the pod has a life already", ErrExists))
	}
	// It is started meanwhile.
	there := make(chan struct{})
	go func() {
		defer close(there)
		if conn, err := p.connect(ctx); err == nil { // else the request tells
			conn.Close()
		}
	}()
	defer func() { <-there }()
	var made []*Container
	defer func() {
		if err != nil {
			err = errors.Join(err, p.unlead(context.WithoutCancel(ctx), made))
		}
	}()
	for _, spec := range containers {
		c, err := p.create(spec, &record{State: Created, Background: true})
		if err != nil {
			return fmt.Errorf("create container %q: %w", spec.Name, err)
		}
		made = append(made, c)
	}
	if err := p.writeLife(&lifeRecord{Version: lifeVersion, Life: life}); err != nil {
		return err
	}
	<-there
	_, err = p.request(ctx, request{Verb: verbLead})
	return err
}

// GoOn has the pod's life led on if nobody leads it, because whoever did, or was about to have it
// led, was killed. It does nothing to a pod that has none, or whose life is over.
func (p *Pod) GoOn(ctx context.Context) error {
	l, err := p.life()
	if errors.Is(err, fs.ErrNotExist) || err == nil && l.Done {
		return nil
	}
	if err == nil && l.Started.IsZero() && !l.Ending {
		_, err = p.request(ctx, request{Verb: verbLead})
	} else if err == nil {
		var conn *net.UnixConn
		if conn, err = p.connect(ctx); err == nil { // which does it of itself
			conn.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("lead containers of %v: %w", p, err)
	}
	return nil
}

// unlead removes the containers of a life that could not be begun, with the life. If it has
// begun all the same, it is ended.
func (p *Pod) unlead(ctx context.Context, made []*Container) error {
	conn, err := p.dial()
	if err == nil {
		ectx, cancel := context.WithTimeout(ctx, stopTime)
		defer cancel()
		_, err = p.ask(ectx, conn, request{Verb: verbEnd, Grace: -1})
		conn.Close()
	}
	if err != nil && !isAbsent(err) && !errors.Is(err, sandbox.ErrNotFound) && !errors.Is(err, errGone) {
		return err
	}
	if err := os.Remove(p.File(lifeFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, c := range made {
		if r, err := c.record(); err == nil {
			errs = append(errs, c.discard(r))
		}
	}
	return errors.Join(errs...)
}

// A leader leads the containers of a pod through its life. One goroutine, run, does all
// of it and writes the record.
type leader struct {
	s *server
	r *lifeRecord

	once    sync.Once
	ending  chan struct{} // closed when all is to end
	reason  string
	message string
	stop    request // how, if it is by request

	done chan struct{}
}

// leadOn begins the life of the pod by request, or goes on with it. One that is over, or is
// just being ended, begins anew if that is so since the pod was stopped.
func (s *server) leadOn() error {
	s.mu.Lock()
	l := s.leader
	s.mu.Unlock()
	if l != nil {
		select {
		case <-l.ending:
			<-l.done
		default:
		}
	}
	return s.lead(true)
}

// lead begins the life of the pod, or goes on with it; one that is over since the pod was
// stopped begins anew if it is to. Nothing is done to a pod that has none, or whose leader
// is at work.
func (s *server) lead(anew bool) error {
	r, err := s.pod.life()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader != nil {
		select {
		case <-s.leader.done:
		default:
			return nil
		}
	}
	if r.Done && r.Stopped && anew {
		if err := s.beginAnew(r); err != nil {
			return err
		}
	}
	if r.Done {
		return nil
	}
	if r.Started.IsZero() && !r.Ending {
		r.Started = time.Now().UTC()
		if err := s.pod.writeLife(r); err != nil {
			return err
		}
	}
	l := &leader{s: s, r: r, ending: make(chan struct{}), done: make(chan struct{})}
	s.leader = l
	s.busy++
	go func() {
		defer s.done()
		defer close(l.done)
		l.run()
	}()
	return nil
}

// beginAnew has all containers of a pod that was stopped be as if they had never been
// started. s.mu is held.
func (s *server) beginAnew(r *lifeRecord) error {
	for _, name := range slices.Concat(r.Life.Init, r.Life.Containers) {
		if s.keepers[name] != nil {
			continue // somebody has started it already
		}
		c := &Container{pod: s.pod, name: name}
		old, err := c.record()
		if err != nil {
			if errors.Is(err, ErrNotFound) {
				continue
			}
			return err
		}
		old.remember()
		fresh := &record{Version: old.Version, ID: old.ID, Spec: old.Spec, Created: old.Created, State: Created, Background: true, Last: old.Last}
		// It may have been removed meanwhile, as any may be.
		if err := c.write(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	*r = lifeRecord{Version: lifeVersion, Life: r.Life}
	return nil
}

func (l *leader) run() {
	if l.r.Ending { // and the last supervisor was killed before all had ended
		if l.r.Stopped || l.r.Reason != "" {
			l.end(l.r.Reason, l.r.Message, request{Grace: l.r.Life.grace()})
		}
		l.finish()
		return
	}
	if d := l.r.Life.Deadline; d > 0 {
		t := time.AfterFunc(time.Until(l.r.Started.Add(d)), func() {
			l.end("DeadlineExceeded", "Pod was active on the node longer than the specified deadline", request{Grace: l.r.Life.grace()})
		})
		defer t.Stop()
	}
	if len(l.r.Life.Bounds) > 0 {
		ctx, cancel := context.WithCancel(context.Background())
		var measured sync.WaitGroup
		measured.Go(func() { l.measure(ctx) })
		defer measured.Wait()
		defer cancel()
	}
	if l.initialise() && l.startAll() {
		for _, name := range l.r.Life.Containers {
			l.await(name)
		}
	}
	l.finish()
}

// initialise starts what comes before the pod's containers; false if they are not to be
// started.
func (l *leader) initialise() bool {
	for _, name := range l.r.Life.Init {
		if !l.initialised(name) {
			return false
		}
	}
	return true
}

// initialised leads one init container to its end, or one sidecar to its start.
func (l *leader) initialised(name string) bool {
	c := &Container{pod: l.s.pod, name: name}
	r, err := c.record()
	if err != nil {
		return errors.Is(err, ErrNotFound) // somebody has removed it
	}
	if !r.Spec.Sidecar && r.succeeded() {
		return true
	}
	if l.s.keeper(name) == nil && r.State == Created {
		if !l.start(name) {
			return false
		}
	}
	if k := l.s.keeper(name); k != nil && r.Spec.Sidecar {
		select {
		case <-k.up:
			return true
		case <-k.gone:
			return true // stopped on purpose, or it may not be restarted
		case <-l.ending:
			return false
		}
	}
	if !l.await(name) {
		return false
	}
	r, err = c.record()
	return err != nil || r.Spec.Sidecar || r.succeeded()
}

// succeeded reports whether a container has ended, and well.
func (r *record) succeeded() bool {
	return r.State == Exited && r.ExitCode != nil && *r.ExitCode == 0
}

// startAll starts the containers that have not been; false if all is to end.
func (l *leader) startAll() bool {
	for _, name := range l.r.Life.Containers {
		r, err := (&Container{pod: l.s.pod, name: name}).record()
		if err != nil || r.State != Created && l.s.keeper(name) == nil {
			continue
		}
		if !l.start(name) {
			return false
		}
	}
	return true
}

// start starts a container unless it has been already, and returns when it is known how that
// went; false if all is to end.
func (l *leader) start(name string) bool {
	select {
	case <-l.ending:
		return false
	default:
	}
	k, _ := l.s.keep(name, true)
	select {
	case <-k.begun: // its record tells how
		return true
	case <-l.ending:
		return false
	}
}

// await waits until a container is at rest; false if all is to end.
func (l *leader) await(name string) bool {
	k := l.s.keeper(name)
	if k == nil {
		return true
	}
	select {
	case <-k.gone:
		return true
	case <-l.ending:
		return false
	}
}

// end has everything end. The first reason counts: it reports whether this is it.
func (l *leader) end(reason, message string, stop request) (first bool) {
	l.once.Do(func() {
		l.reason, l.message, l.stop = reason, message, stop
		close(l.ending)
		first = true
	})
	return first
}

// finish ends what still runs: first all containers at once, then the sidecars, the one
// that came last first. All have the same time together, and what is to be done before
// the end is done at once.
func (l *leader) finish() {
	stop := request{Grace: l.r.Life.grace()}
	select {
	case <-l.ending:
		stop = l.stop
		l.r.Reason, l.r.Message, l.r.Stopped = l.reason, l.message, l.reason == ""
	default:
	}
	// The next supervisor goes by it, should this one be killed.
	l.r.Ending = true
	_ = l.s.pod.writeLife(l.r)
	var all, sidecars sync.WaitGroup
	for _, name := range slices.Concat(l.r.Life.Containers, l.r.Life.Init) {
		if k := l.s.keeper(name); k != nil && !l.isSidecar(name) {
			all.Go(func() { _ = k.stop(stop, nil) })
		}
	}
	turn := make(chan struct{})
	first := turn
	for _, name := range slices.Backward(l.r.Life.Init) {
		k := l.s.keeper(name)
		if k == nil || !l.isSidecar(name) {
			continue
		}
		mine, next := turn, make(chan struct{})
		sidecars.Go(func() {
			defer close(next)
			_ = k.stop(stop, mine)
		})
		turn = next
	}
	all.Wait()
	close(first)
	sidecars.Wait()
	l.r.Done = true
	_ = l.s.pod.writeLife(l.r)
}

// isSidecar reports whether a container is to end after the others.
func (l *leader) isSidecar(name string) bool {
	if !slices.Contains(l.r.Life.Init, name) {
		return false
	}
	r, err := (&Container{pod: l.s.pod, name: name}).record()
	return err == nil && r.Spec.Sidecar
}

// leastGrace is what a container has in any case after hooks and others have used up
// the time, as with the kubelet.
const leastGrace = 2 * time.Second

// end ends the life of the pod by request, and returns when all of it has ended. If it is
// being ended already, with more time, what is left when this one's is over is killed.
func (s *server) end(req request) error {
	s.mu.Lock()
	l := s.leader
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	if !l.end("", "", req) {
		late := time.NewTimer(max(req.Grace, 0))
		defer late.Stop()
		select {
		case <-l.done:
			return nil
		case <-late.C:
		}
		for _, name := range slices.Concat(l.r.Life.Containers, l.r.Life.Init) {
			if k := s.keeper(name); k != nil {
				go func() { _ = k.stop(request{Grace: -1}, nil) }()
			}
		}
	}
	<-l.done
	return nil
}
