package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
)

const (
	maxOutput = 1 << 20  // bytes of a plugin's answer
	maxNoise  = 64 << 10 // bytes of its standard error, of which maxTold are told
	maxTold   = 512
	// lingerTime is how long a plugin's streams may stay open when it has ended: others may
	// hold them that it has left behind.
	lingerTime = time.Second
)

// A runner runs plugins for libcni.
type runner struct {
	version.PluginDecoder
}

var _ invoke.Exec = (*runner)(nil)

func (d Driver) runner() *runner { return new(runner) }

// FindInPath returns the path of a plugin's program, or a *MissingError.
func (r *runner) FindInPath(plugin string, dirs []string) (string, error) {
	if !isPluginName(plugin) {
		return "", fmt.Errorf("plugin %q: %w: want the name of a program", plugin, ErrInvalid)
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, plugin)
		st, err := os.Stat(path)
		if err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
			continue
		}
		if st.Mode()&0o002 != 0 {
			return "", fmt.Errorf("plugin %s: %w: anybody may write to it (mode %04o)", path, ErrUnsafe, st.Mode().Perm())
		}
		// Or put another one in its place.
		if st, err := os.Stat(dir); err != nil || st.Mode()&0o002 != 0 {
			return "", errors.Join(err, fmt.Errorf("plugin %s: %w: anybody may write to its directory", path, ErrUnsafe))
		}
		return path, nil
	}
	return "", &MissingError{plugin, dirs}
}

// ExecPlugin runs a plugin to its end, or to that of ctx.
func (r *runner) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	verb := "?"
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, "CNI_COMMAND="); ok {
			verb = v
		}
	}
	out, noise, status, err := run(ctx, path, stdin, environ)
	var exec *spawn.ExecError
	if errors.As(err, &exec) {
		// Not to be taken for the user's program that could not be executed, nor for a file
		// that is not there and need not be.
		err = errors.New("it cannot be executed: " + exec.Err.Error())
	}
	if err == nil && status == 0 {
		return out, nil
	}
	failed := &PluginError{Plugin: path, Verb: verb, Err: err}
	var said types.Error
	switch {
	case err == nil && json.Unmarshal(out, &said) == nil && said.Msg != "":
		failed.Code, failed.Message, failed.Details = said.Code, brief(said.Msg), brief(said.Details)
	case err == nil:
		failed.Err, failed.Details = fmt.Errorf("exit status %d", status), brief(string(noise))
		if failed.Details == "" {
			failed.Details = brief(string(out))
		}
	default:
		failed.Details = brief(string(noise))
	}
	return nil, failed
}

// brief makes one short line of what a plugin said.
func brief(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxTold {
		s = "…" + strings.ToValidUTF8(s[len(s)-maxTold:], "")
	}
	return s
}

// run runs a program and returns what it wrote and its exit status.
func run(ctx context.Context, path string, stdin []byte, environ []string) (out, noise []byte, status int, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, 0, err
	}
	var ours, its [3]*os.File
	defer func() {
		for i := range ours {
			its[i].Close()
			ours[i].Close()
		}
	}()
	for i := range ours {
		read, write, err := os.Pipe()
		if err != nil {
			return nil, nil, 0, err
		}
		if ours[i], its[i] = read, write; i == 0 {
			ours[i], its[i] = write, read
		}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	// The thread ends with the program: the death signal that it is given is tied to it.
	err = nsthread.Do(func() error {
		child, err := start(ctx, path, environ, its[:])
		if err != nil {
			return err
		}
		defer child.PidFD.Close()
		for _, f := range its {
			f.Close()
		}
		go func() {
			_, _ = ours[0].Write(stdin) // one that does not read it knows why
			ours[0].Close()
		}()
		answer, chatter := read(ours[1], maxOutput, stop), read(ours[2], maxNoise, nil)

		killed := make(chan struct{})
		cancel := context.AfterFunc(ctx, func() {
			defer close(killed)
			killGroup(child)
		})
		err = ended(child)
		if !cancel() {
			<-killed
		}
		if err != nil {
			return err
		}
		if status, err = reap(child); err != nil {
			return err
		}
		for _, f := range ours {
			_ = f.SetDeadline(time.Now().Add(lingerTime))
		}
		out, noise = <-answer, <-chatter
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return err
	})
	return out, noise, status, err
}

// read reads up to most bytes of a stream, and goes on to read to its end. What comes then
// is lost, or, if stop is given, the end of the program.
func read(f *os.File, most int64, stop context.CancelCauseFunc) <-chan []byte {
	done := make(chan []byte, 1)
	go func() {
		var b bytes.Buffer
		_, _ = io.Copy(&b, io.LimitReader(f, most))
		if n, _ := io.Copy(io.Discard, io.LimitReader(f, 1)); n > 0 {
			if stop != nil {
				stop(fmt.Errorf("%w: more than %d bytes", ErrFlood, most))
			}
			_, _ = io.Copy(io.Discard, f)
		}
		done <- b.Bytes()
	}()
	return done
}

// busyTries bounds how often a program is tried that somebody is just writing, as an
// installation does that replaces it.
const busyTries = 20

func start(ctx context.Context, path string, environ []string, files []*os.File) (*spawn.Process, error) {
	for try := 1; ; try++ {
		child, err := startOnce(ctx, path, environ, files)
		var failed *spawn.ExecError
		if !errors.As(err, &failed) || failed.Err != unix.ETXTBSY || try == busyTries {
			return child, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func startOnce(ctx context.Context, path string, environ []string, files []*os.File) (*spawn.Process, error) {
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
	root, err := p.String("/")
	if err != nil {
		return nil, err
	}
	p.Call("setsid", unix.SYS_SETSID)
	p.Call("prctl PR_SET_PDEATHSIG", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	p.Call("chdir", unix.SYS_CHDIR, root)
	if err := p.Files(fds); err != nil {
		return nil, err
	}
	if err := p.Exec([]string{path}, []string{path}, environ); err != nil {
		return nil, err
	}
	return p.Start(ctx, 0, spawn.Inherit)
}

// ended waits until a child has ended, and does not reap it: until somebody does nobody else
// can have its PID, or its process group.
func ended(child *spawn.Process) error {
	for {
		err := unix.Waitid(unix.P_PIDFD, int(child.PidFD.Fd()), nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return os.NewSyscallError("waitid", err)
		}
	}
}

// killGroup kills a plugin that is not reaped yet and what it runs in its turn, such as a
// plugin for addresses that it waits for: the session is its own.
func killGroup(child *spawn.Process) { _ = unix.Kill(-child.PID, unix.SIGKILL) }

// reap reaps a child that has ended and returns its exit status: 128+N if signal N ended it. Of
// one that failed nothing goes on.
func reap(child *spawn.Process) (int, error) {
	status := proc.ExitStatus(child.PidFD)
	if status == nil || *status != 0 {
		killGroup(child)
	}
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(child.PID, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("wait4", err)
		case ws.Signaled():
			return 128 + int(ws.Signal()), nil
		default:
			return ws.ExitStatus(), nil
		}
	}
}
