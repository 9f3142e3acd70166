package supervisor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/probe"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
)

// ask makes a probe of a container that runs.
func (c *Container) ask(ctx context.Context, a *Action) error {
	if len(a.Exec) > 0 {
		return c.command(ctx, a.Exec)
	}
	host, err := c.pod.host()
	if err != nil {
		return err
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
	if err == nil && !outcome.OK() {
		err = errors.New(said)
	}
	return err
}

// act does what a hook is to do for a container that runs.
func (c *Container) act(ctx context.Context, a *Action) error {
	switch {
	case len(a.Exec) > 0:
		return c.command(ctx, a.Exec)
	case a.Sleep != nil:
		pause(ctx, *a.Sleep)
		return ctx.Err()
	}
	host, err := c.pod.host()
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

// command runs a command in the container, which is to end with status 0.
func (c *Container) command(ctx context.Context, args []string) error {
	out := &head{max: maxSaid}
	p, err := c.Exec(ctx, func(s *specs.Spec) error {
		s.Process.Args = args
		return nil
	}, launcher.Options{IO: launcher.IO{Stdout: out, Stderr: out}})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Signal(unix.SIGKILL) })
	defer stop()
	// What it has left behind may hold its output open.
	select {
	case <-p.Ended():
	case <-ctx.Done():
		select {
		case <-p.Ended():
		case <-time.After(cleanTime):
		}
		return fmt.Errorf("%s: it takes too long", args[0])
	}
	wctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	status, err := p.Wait(wctx)
	switch {
	case err != nil && wctx.Err() == nil:
		return fmt.Errorf("%s: %w", args[0], err)
	case status != 0:
		said := ""
		if s := strings.TrimSpace(out.String()); s != "" {
			said = ": " + s
		}
		return fmt.Errorf("%s: exit status %d%s", args[0], status, said)
	}
	return nil
}

// drainTime is how long the output of a command is awaited that has ended.
const drainTime = 100 * time.Millisecond

// A head keeps the beginning of what is written to it.
type head struct {
	buf bytes.Buffer
	max int
}

func (h *head) Write(p []byte) (int, error) {
	h.buf.Write(p[:min(len(p), h.max-h.buf.Len())])
	return len(p), nil
}

func (h *head) String() string { return h.buf.String() }
