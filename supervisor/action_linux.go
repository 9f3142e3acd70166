package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/probe"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
)

// errNotMade says that a probe or a hook could not be made, which says nothing of the
// container.
var errNotMade = errors.New("it could not be made")

func notMade(err error) error { return fmt.Errorf("%w: %w", errNotMade, err) }

// A patient is one run of a container's program, as probes and hooks find it. What they
// need is kept, for probes come often.
type patient struct {
	c *Container
	r record // as it was in the beginning: Spec, ID and Process stay

	mu   sync.Mutex
	addr string      // where it is reached, once that is known
	oci  *specs.Spec // what it was started with, once that is needed
}

// spec returns what the container was started with.
func (p *patient) spec() (spec *specs.Spec, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.oci == nil {
		p.oci, err = p.c.ociSpec(&p.r)
	}
	return p.oci, err
}

// host returns where the container is reached from the host.
func (p *patient) host() (addr string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.addr == "" {
		p.addr, err = p.c.pod.host()
	}
	return p.addr, err
}

// ask makes a probe. errNotMade.
func (p *patient) ask(ctx context.Context, a *Action) error {
	if len(a.Exec) > 0 {
		return p.command(ctx, a.Exec)
	}
	host, err := p.host()
	if errors.Is(err, sandbox.ErrNotSupported) {
		return err // nor will it ever be
	}
	if err != nil {
		return notMade(err)
	}
	var outcome probe.Outcome
	var said string
	switch {
	case a.HTTP != nil:
		outcome, said, err = a.HTTP.Do(ctx, host)
	case a.TCP != nil:
		outcome, said, err = a.TCP.Do(ctx, host)
	default:
		outcome, said, err = a.GRPC.Do(ctx, host)
	}
	switch {
	case err != nil && ctx.Err() == nil:
		return notMade(err)
	case err == nil && !outcome.OK():
		return errors.New(said)
	}
	return err
}

// act does what a hook is to do.
func (p *patient) act(ctx context.Context, a *Action) error {
	switch {
	case len(a.Exec) > 0:
		return p.command(ctx, a.Exec)
	case a.Sleep != nil:
		pause(ctx, *a.Sleep)
		return ctx.Err()
	}
	host, err := p.host()
	if err != nil {
		return err
	}
	if a.HTTP != nil {
		_, err = a.HTTP.Hook(ctx, host)
		return err
	}
	outcome, said, err := a.TCP.Do(ctx, host)
	if err == nil && !outcome.OK() {
		err = errors.New(said)
	}
	return err
}

// host returns where the pod is reached from the host.
func (p *Pod) host() (string, error) {
	info, err := p.Info()
	if err != nil {
		return "", err
	}
	if ip := cmp.Or(info.IP, info.IP6); ip != "" {
		return ip, nil
	}
	if shared, err := p.Shares(sandbox.Net); err != nil || shared {
		return "", errors.Join(err, fmt.Errorf("%v: %w: it has no address", p, sandbox.ErrNotSupported))
	}
	return "127.0.0.1", nil // it is on the host's network
}

// maxSaid bounds what is told of a command's output.
const maxSaid = 512

// command runs a command in the container, which is to end with status 0. When the context
// ends it is killed, with those that it has started, but for those that have made themselves
// a session or process group of their own. errNotMade, but not of a command that cannot be
// executed: that has failed.
func (p *patient) command(ctx context.Context, args []string) error {
	// Not a writer that the launcher would copy to: what the command leaves behind may hold
	// its output open for ever.
	spec, err := p.spec()
	if err != nil {
		return notMade(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return notMade(err)
	}
	var reading sync.WaitGroup
	var said string
	reading.Go(func() { said = readOutput(read) })
	defer reading.Wait()
	defer read.Close()
	program, err := p.c.exec(ctx, &p.r, spec, func(s *specs.Spec) error {
		s.Process.Args = args
		return nil
	}, launcher.Options{IO: launcher.IO{Stdout: write, Stderr: write}})
	write.Close()
	var exec *spawn.ExecError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return fmt.Errorf("%s: it takes too long to be started", args[0])
	case errors.As(err, &exec):
		return err
	default:
		return notMade(err)
	}
	select {
	case <-program.Ended():
	case <-ctx.Done():
		_ = program.SignalGroup(unix.SIGKILL)
		select {
		case <-program.Ended():
		case <-time.After(cleanTime):
		}
		return fmt.Errorf("%s: it takes too long", args[0])
	}
	status, err := program.Wait(context.Background())
	if err != nil {
		return notMade(fmt.Errorf("%s: %w", args[0], err))
	}
	if status == 0 {
		return nil
	}
	_ = read.SetReadDeadline(time.Now().Add(drainTime))
	reading.Wait()
	if said = strings.TrimSpace(said); said != "" {
		said = ": " + said
	}
	return fmt.Errorf("%s: exit status %d%s", args[0], status, said)
}

// drainTime is how long the output of a command is awaited that has ended.
const drainTime = 100 * time.Millisecond

// readOutput reads what a command writes, to its end, and returns its beginning.
func readOutput(f *os.File) string {
	b, err := io.ReadAll(io.LimitReader(f, maxSaid))
	if err == nil {
		_, _ = io.Copy(io.Discard, f)
	}
	return string(b)
}
