package reaper_test

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait. Nothing here takes more than a second or so.
const patience = 20 * time.Second

// helper returns the command line of a helper.
func helper(t *testing.T, name string, args ...string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), helperName)
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	return append([]string{link, name}, args...)
}

// shell returns the command line of a script.
func shell(script string) []string { return []string{"/bin/sh", "-c", script} }

// A container is a started reaper.
type container struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr bytes.Buffer
	exited chan struct{} // closed when cmd is waited for
}

// start has the reaper run a command line.
func start(t *testing.T, p program, argv ...string) *container {
	t.Helper()
	return startCommand(t, p.command(append([]string{"--"}, argv...)...))
}

// startCommand starts cmd, as PID 1 of a PID namespace if we are root.
func startCommand(t *testing.T, cmd *exec.Cmd) *container {
	t.Helper()
	c := &container{cmd: cmd, exited: make(chan struct{})}
	cmd.Stderr = &c.stderr
	cmd.WaitDelay = time.Second
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID
	}
	if cmd.Stdin == nil {
		var err error
		if c.in, err = cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
	}
	if cmd.Stdout == nil {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		defer w.Close()
		cmd.Stdout = w
		c.out = bufio.NewScanner(r)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(c.exited)
	}()
	t.Cleanup(func() {
		select {
		case <-c.exited:
			return
		default:
		}
		// Without a PID namespace they would outlive the reaper.
		for pid := range c.children(t) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		_ = cmd.Process.Kill()
		<-c.exited
	})
	return c
}

func (c *container) pid() int { return c.cmd.Process.Pid }

func (c *container) signal(t *testing.T, sig unix.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// want wants a line of output.
func (c *container) want(t *testing.T, line string) {
	t.Helper()
	if got := c.next(); got != line {
		t.Fatalf("output %q, want %q", got, line)
	}
}

// next returns a line of output, or nothing at its end. The end comes.
func (c *container) next() string {
	timer := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	c.out.Scan()
	return c.out.Text()
}

// wantExit wants the reaper to end by itself.
func (c *container) wantExit(t *testing.T, status int) {
	t.Helper()
	select {
	case <-c.exited:
		if got := c.cmd.ProcessState; got.ExitCode() != status {
			t.Errorf("%v, want %d\n%s", got, status, &c.stderr)
		}
	case <-time.After(patience):
		t.Fatalf("still there, want exit status %d", status)
	}
}

// children returns the states of the reaper's children by their PIDs.
func (c *container) children(t *testing.T) map[int]string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int]string{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// PID (COMM) STATE PPID …, see proc_pid_stat(5)
		f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if string(f[1]) == strconv.Itoa(c.pid()) {
			pid, err := strconv.Atoi(strings.Split(file, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			children[pid] = string(f[0])
		}
	}
	return children
}

// await polls until ok.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s", what)
		}
	}
}

// withBlocked runs f on a thread that has signals blocked, which its children
// inherit.
func withBlocked(t *testing.T, mask uint64, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		set := unix.Sigset_t{Val: [16]uint64{mask}}
		if err := unix.PthreadSigmask(unix.SIG_SETMASK, &set, nil); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

const allSignals = ^uint64(0)
