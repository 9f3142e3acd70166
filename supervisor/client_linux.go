package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/internal/guardian"
	"github.com/podbox/podbox/internal/memfd"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
)

// A request is what a supervisor is asked, one to a connection, as a line of JSON.
type request struct {
	Verb      string        `json:"verb"`
	Container string        `json:"container,omitempty"`
	Signal    unix.Signal   `json:"signal,omitempty"`
	Grace     time.Duration `json:"grace,omitempty"`
	Resume    bool          `json:"resume,omitempty"` // of stop: with the pod
	Stdin     bool          `json:"stdin,omitempty"`  // of attach
	Width     uint16        `json:"width,omitempty"`
	Height    uint16        `json:"height,omitempty"`
}

// The verbs of requests.
const (
	verbStart  = "start"  // start a container that does not run
	verbStop   = "stop"   // end it, and do not restart it
	verbAttach = "attach" // connect its streams, as frames
	verbLead   = "lead"   // begin the life of the pod, or go on with it
	verbEnd    = "end"    // end it with all containers that are led
	verbQuit   = "quit"   // end, if no container is left
)

// A response is what it answers, as a line of JSON too.
type response struct {
	PID   int        `json:"pid,omitempty"`
	Error *wireError `json:"error,omitempty"`
}

// A wireError is an error that keeps what callers match.
type wireError struct {
	Text  string     `json:"text"`
	Match []string   `json:"match,omitempty"` // names of sentinels
	Exec  string     `json:"exec,omitempty"`  // of a *spawn.ExecError
	Errno unix.Errno `json:"errno,omitempty"`
}

// sentinels are the errors that keep their identity on the way.
var sentinels = map[string]error{
	"notFound": ErrNotFound, "notRunning": ErrNotRunning, "running": ErrRunning,
	"podNotFound": sandbox.ErrNotFound, "podNotRunning": sandbox.ErrNotRunning, "podPaused": sandbox.ErrPaused, "noVolume": sandbox.ErrNoVolume, "noImage": image.ErrNotFound, "corrupt": image.ErrCorrupt, "invalid": sandbox.ErrInvalid,
	"notSupported": sandbox.ErrNotSupported, "deadline": context.DeadlineExceeded,
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error()}
	for name, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			w.Match = append(w.Match, name)
		}
	}
	var exec *spawn.ExecError
	if errors.As(err, &exec) {
		w.Exec, w.Errno = exec.Path, exec.Err
	}
	return w
}

func (w *wireError) Error() string { return w.Text }

func (w *wireError) Is(target error) bool {
	for _, name := range w.Match {
		if sentinels[name] == target {
			return true
		}
	}
	return false
}

func (w *wireError) Unwrap() error {
	if w.Exec == "" {
		return nil
	}
	return &spawn.ExecError{Path: w.Exec, Err: w.Errno}
}

const (
	socketFile = "supervisor.sock"
	lockFile   = "supervisor.lock"
)

// socketAddr returns the address of the pod's supervisor, which is good while dir is
// open: the path itself may be longer than an address can be, unix(7).
func socketAddr(dir *os.File) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + socketFile}
}

// dial connects to the pod's supervisor. fs.ErrNotExist or ECONNREFUSED if there is
// none.
func (p *Pod) dial() (*net.UnixConn, error) {
	dir, err := os.OpenFile(p.File(""), unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sandbox.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return net.DialUnix("unix", nil, socketAddr(dir))
}

// startTime bounds how long a supervisor may take to be there.
const startTime = 10 * time.Second

// connect connects to the pod's supervisor, and starts it if there is none.
func (p *Pod) connect(ctx context.Context) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		conn, err := p.dial()
		if err == nil || !isAbsent(err) {
			return conn, err
		}
		if err := p.spawn(ctx); err != nil {
			return nil, fmt.Errorf("start supervisor of %v: %w", p, err)
		}
	}
}

// isAbsent reports whether dial has found that there is no supervisor.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
}

// ask sends a request to a supervisor and returns what it answers. If the context
// ends, the supervisor goes on.
func (p *Pod) ask(ctx context.Context, conn *net.UnixConn, req request) (response, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var resp response
	err := json.NewEncoder(conn).Encode(req)
	if err == nil {
		resp, err = readResponse(conn)
	}
	switch {
	case ctx.Err() != nil:
		return resp, ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return resp, errGone
	case err != nil:
		return resp, fmt.Errorf("supervisor of %v: %w", p, err)
	case resp.Error != nil:
		return resp, resp.Error
	}
	return resp, nil
}

// errGone says that a supervisor ended before it answered.
var errGone = errors.New("the supervisor has ended")

// readResponse reads a line, and nothing beyond it.
func readResponse(conn *net.UnixConn) (response, error) {
	var resp response
	var line []byte
	for b := make([]byte, 1); len(line) < maxLine; line = append(line, b[0]) {
		if _, err := io.ReadFull(conn, b); err != nil {
			return resp, err
		}
		if b[0] == '\n' {
			return resp, json.Unmarshal(line, &resp)
		}
	}
	return resp, unix.EMSGSIZE
}

// maxLine bounds a request and a response.
const maxLine = 64 << 10

// request has the pod's supervisor, old or new, do something. One that was just
// about to end is followed by another.
func (p *Pod) request(ctx context.Context, req request) (response, error) {
	for try := 1; ; try++ {
		conn, err := p.connect(ctx)
		if err != nil {
			return response{}, err
		}
		resp, err := p.ask(ctx, conn, req)
		conn.Close()
		if err != errGone || ctx.Err() != nil || try == 5 {
			return resp, err
		}
	}
}

// spawn starts a supervisor and returns when it serves, or has found that another
// one does.
func (p *Pod) spawn(ctx context.Context) error {
	if len(p.opts.Command) == 0 {
		return fmt.Errorf("no command line is given for it: %w", sandbox.ErrInvalid)
	}
	entrance, err := p.Runtime().Keepers(ctx)
	if err != nil {
		return err
	}
	defer entrance.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	err = nsthread.Do(func() error { return p.fork(entrance, write) })
	write.Close()
	if err != nil {
		return err
	}
	// It writes what went wrong, or nothing.
	deadline, _ := ctx.Deadline()
	if err := read.SetReadDeadline(deadline); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(read, maxLine))
	if err == nil && len(text) > 0 {
		err = errors.New(string(text))
	}
	return err
}

// supervisorEnv is the environment of a supervisor. The Go runtime is told to do with
// little: a supervisor waits most of the time, and the table of the samples of its
// allocations alone would take a third of its memory. How much garbage there may be is
// told later, by trim: to collect it while containers are started takes as long as to
// start one.
var supervisorEnv = []string{"PATH=" + launcher.DefaultPath, "GOMAXPROCS=2", "GODEBUG=memprofilerate=0"}

// fork starts the supervisor as nobody's child: a child of ours makes its guardian and
// ends.
func (p *Pod) fork(entrance *sandbox.Keepers, ready *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	// By its file, not by its path: what is to be started again may have been replaced.
	exe, err := os.OpenFile(p.opts.Command[0], unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer exe.Close()
	guard, err := memfd.New("podbox-guardian", guardian.Binary())
	if err != nil {
		return err
	}
	defer guard.Close()
	fds := make([]int, 6)
	for i, f := range []*os.File{null, null, null, guardian.ReadyFD: ready, guardian.ProgramFD: exe, 5: guard} {
		high, err := spawn.DupHigh(int(f.Fd()))
		if err != nil {
			return err
		}
		defer high.Close()
		fds[i] = int(high.Fd())
	}
	var prog spawn.Program
	prog.InCgroups(entrance.Into, entrance.Tasks)
	// The parent of the next one is answered its PID, and ends.
	prog.Expect("be the child's child", 0, unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0)
	prog.Call("setsid", unix.SYS_SETSID)
	prog.Call("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, spawn.Pointer(&prog, new(uint64)), 0, 8)
	root, err := prog.String("/")
	if err != nil {
		return err
	}
	prog.Call("chdir", unix.SYS_CHDIR, root)
	if err := prog.Files(fds[:5]); err != nil {
		return err
	}
	argv := append(append([]string{}, p.opts.Command...), p.Runtime().Root(), p.Runtime().StateDir(), p.ID())
	if err := prog.ExecFD(fds[5], guardian.Args(argv), supervisorEnv); err != nil {
		return err
	}
	child, err := prog.Fork()
	if err != nil {
		return err
	}
	defer child.PidFD.Close()
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(child.PID, &ws, 0, nil); err != unix.EINTR {
			return os.NewSyscallError("wait4", err)
		}
	}
}
