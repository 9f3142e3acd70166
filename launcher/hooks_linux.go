package launcher

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
)

// hookTime bounds a hook that has no timeout of its own.
const hookTime = 5 * time.Minute

// runHooks runs hooks of the kind named, in order, in the namespaces of the host. Each is
// told the state of the container on its standard input.
func runHooks(ctx context.Context, kind string, hooks []specs.Hook, state specs.State) error {
	if len(hooks) == 0 {
		return nil
	}
	b, err := json.Marshal(state)
	if err != nil {
		return err
	}
	for i, h := range hooks {
		if err := runHook(ctx, h, b); err != nil {
			return fmt.Errorf("hooks.%s[%d] %s: %w", kind, i, h.Path, err)
		}
	}
	return nil
}

func runHook(ctx context.Context, h specs.Hook, state []byte) error {
	limit := hookTime
	if h.Timeout != nil {
		limit = time.Duration(*h.Timeout) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	defer read.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	var child *spawn.Process
	err = nsthread.Do(func() error {
		child, err = startHook(ctx, h, []*os.File{read, null, null})
		return err
	})
	if err != nil {
		return err
	}
	defer child.PidFD.Close()
	go func() {
		defer write.Close()
		_, _ = write.Write(state)
	}()
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		_ = proc.Signal(child.PidFD, unix.SIGKILL)
	})
	status, err := await(child.PidFD)
	if !stop() {
		<-killed
	}
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil && status != 0 {
		err = fmt.Errorf("exit status %d", status)
	}
	return err
}

func startHook(ctx context.Context, h specs.Hook, files []*os.File) (*spawn.Process, error) {
	var p spawn.Program
	var fds []int
	for _, f := range files {
		high, err := spawn.DupHigh(int(f.Fd()))
		if err != nil {
			return nil, err
		}
		defer high.Close()
		fds = append(fds, int(high.Fd()))
	}
	p.Call("setsid", unix.SYS_SETSID)
	if err := p.Files(fds); err != nil {
		return nil, err
	}
	args := h.Args
	if len(args) == 0 {
		args = []string{h.Path}
	}
	if err := p.Exec([]string{h.Path}, args, h.Env); err != nil {
		return nil, err
	}
	return p.Start(ctx, 0, spawn.Inherit)
}

func checkHooks(h *specs.Hooks) error {
	if h == nil {
		return nil
	}
	//lint:ignore SA1019 deprecated, but in use
	for _, list := range [][]specs.Hook{h.Prestart, h.CreateRuntime, h.Poststart, h.Poststop} {
		for _, hook := range list {
			if hook.Path == "" || hook.Path[0] != '/' || hook.Timeout != nil && *hook.Timeout <= 0 {
				return fmt.Errorf("hooks: path %q: %w: want an absolute path, and a timeout above 0", hook.Path, ErrInvalid)
			}
		}
	}
	return nil
}

// state is what hooks are told. pid is 0 for a program that has ended.
func (l *launch) state(status specs.ContainerState, pid int) specs.State {
	s := specs.State{Version: specs.Version, ID: l.opts.ID, Status: status, Pid: pid, Annotations: l.spec.Annotations}
	if l.spec.Root != nil {
		s.Bundle = l.spec.Root.Path
	}
	return s
}

// beforeStart runs the hooks that come before the program is executed.
func (l *launch) beforeStart(ctx context.Context, pid int) error {
	h := l.spec.Hooks
	if h == nil {
		return nil
	}
	// From here on there is something for the last hooks to undo.
	l.hooked = true
	state := l.state(specs.StateCreating, pid)
	//lint:ignore SA1019 deprecated, but in use
	if err := runHooks(ctx, "prestart", h.Prestart, state); err != nil {
		return err
	}
	return runHooks(ctx, "createRuntime", h.CreateRuntime, state)
}

// afterStart runs the hooks that come when the program runs.
func (l *launch) afterStart(ctx context.Context, p *Process) error {
	h := l.spec.Hooks
	if h == nil {
		return nil
	}
	return runHooks(ctx, "poststart", h.Poststart, l.state(specs.StateRunning, p.PID()))
}

// afterEnd runs the hooks that come after the program's end, or when it could not be
// started although the first hooks have run. Each runs, whatever becomes of the others:
// their errors are nobody's.
func (l *launch) afterEnd() {
	if !l.hooked {
		return
	}
	for i := range l.spec.Hooks.Poststop {
		_ = runHooks(context.Background(), "poststop", l.spec.Hooks.Poststop[i:i+1], l.state(specs.StateStopped, 0))
	}
}
