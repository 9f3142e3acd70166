package spawn

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

func wait(t *testing.T, p *Process) unix.WaitStatus {
	t.Helper()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(p.PID, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	p.PidFD.Close()
	return ws
}

func TestExec(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var p Program
	if err := p.Exec([]string{"/nonexistent/sh", "/bin/sh"}, []string{"sh", "-c", "exit 7"}, nil); err != nil {
		t.Fatal(err)
	}
	proc, err := p.Start(context.Background(), 0, Inherit)
	if err != nil {
		t.Fatal(err)
	}
	if ws := wait(t, proc); ws.ExitStatus() != 7 {
		t.Errorf("status %v, want exit 7", ws)
	}
}

func TestErrors(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var p Program
	p.Call("close a closed file", unix.SYS_CLOSE, 9999)
	p.Exec([]string{"/bin/true"}, []string{"true"}, nil)
	_, err := p.Start(context.Background(), 0, Inherit)
	var failed *Error
	if !errors.As(err, &failed) || failed.Call != "close a closed file" || !errors.Is(err, unix.EBADF) {
		t.Errorf("failing call: %v", err)
	}

	p = Program{}
	p.Expect("be an orphan", 0x7fffffff, unix.SYS_GETPPID)
	p.Exec([]string{"/bin/true"}, []string{"true"}, nil)
	if _, err := p.Start(context.Background(), 0, Inherit); !errors.Is(err, ErrDied) {
		t.Errorf("unexpected result: %v", err)
	}

	p = Program{}
	p.Exec([]string{"/nonexistent", "/etc/passwd", "/bin/true/x"}, []string{"x"}, nil)
	var exec *ExecError
	if _, err := p.Start(context.Background(), 0, Inherit); !errors.As(err, &exec) || exec.Err != unix.EACCES {
		t.Errorf("exec error: %v", err)
	}

	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("children left: %v", err)
	}
}

// As execvp(3), the search ends at a file that is there but is no program.
func TestNoExecFormat(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte{0x7f, 'E', 'L', 'F'}, 0o755); err != nil {
		t.Fatal(err)
	}
	var p Program
	p.Exec([]string{"/nonexistent", bad, "/bin/true"}, []string{"x"}, nil)
	var exec *ExecError
	if _, err := p.Start(context.Background(), 0, Inherit); !errors.As(err, &exec) || exec.Path != bad || exec.Err != unix.ENOEXEC {
		t.Errorf("error %v", err)
	}
}

// A child that hangs is killed when the context ends, and the process goes on
// meanwhile.
func TestContext(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var p Program
	long := unix.Timespec{Sec: 1000}
	p.Call("sleep", unix.SYS_NANOSLEEP, Pointer(&p, &long), 0)
	p.Exec([]string{"/bin/true"}, []string{"true"}, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			runtime.GC()
		}
	}()
	if _, err := p.Start(ctx, 0, Inherit); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// What a child does to be another user does not stay with its parent.
func TestDumpable(t *testing.T) {
	testenv.NeedRoot(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var p Program
	p.Call("setresuid", unix.SYS_SETRESUID, 65534, 65534, 65534)
	p.Exec([]string{"/bin/true"}, []string{"true"}, nil)
	proc, err := p.Start(context.Background(), 0, Inherit)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, proc)
	if d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || d != 1 {
		t.Errorf("dumpable %d, %v", d, err)
	}
}

// Making children leaves no thread with its signals blocked.
func TestSignalMask(t *testing.T) {
	done := make(chan error)
	for range 4 {
		go func() {
			for range 300 {
				var p Program
				p.Call("getpid", unix.SYS_GETPID)
				proc, err := p.Detach(0)
				if err != nil {
					done <- err
					return
				}
				reap(proc.PID)
				proc.PidFD.Close()
				runtime.KeepAlive(&p)
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, path := range tasks {
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), "SigBlk:\tffff") {
			t.Errorf("%s: signals are blocked", path)
		}
	}
}

func TestFiles(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	// A descriptor without close-on-exec must not reach the child.
	leak, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	hn, err := DupHigh(int(null.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer hn.Close()
	hw, err := DupHigh(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer hw.Close()
	var p Program
	if err := p.Files([]int{int(hn.Fd()), int(hw.Fd()), int(hn.Fd())}); err != nil {
		t.Fatal(err)
	}
	p.Exec([]string{"/bin/ls"}, []string{"ls", "/proc/self/fd"}, nil)
	proc, err := p.Start(context.Background(), 0, Inherit)
	if err != nil {
		t.Fatal(err)
	}
	if ws := wait(t, proc); ws.ExitStatus() != 0 {
		t.Fatal(ws)
	}
	buf := make([]byte, 100)
	n, _ := r.Read(buf)
	if got, want := string(buf[:n]), "0\n1\n2\n3\n"; got != want { // 3: ls reading the directory
		t.Errorf("child has descriptors %q, want %q", got, want)
	}
}

// Garbage collection and other goroutines go on while children are made.
func TestManyAtOnce(t *testing.T) {
	done := make(chan error)
	const n, each = 8, 50
	for range n {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for range each {
				var p Program
				p.Exec([]string{"/bin/true"}, []string{"true"}, nil)
				proc, err := p.Start(context.Background(), 0, Inherit)
				if err != nil {
					done <- err
					return
				}
				var ws unix.WaitStatus
				if _, err := unix.Wait4(proc.PID, &ws, 0, nil); err != nil || ws.ExitStatus() != 0 {
					done <- errors.Join(err, errors.New("bad status"))
					return
				}
				proc.PidFD.Close()
				runtime.GC()
			}
			done <- nil
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for b.Loop() {
		var p Program
		p.Exec([]string{"/bin/true"}, []string{"true"}, nil)
		proc, err := p.Start(context.Background(), 0, Inherit)
		if err != nil {
			b.Fatal(err)
		}
		reap(proc.PID)
		proc.PidFD.Close()
	}
}
