package spawn

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
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
	proc, err := p.Start(0, Inherit)
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
	_, err := p.Start(0, Inherit)
	var failed *Error
	if !errors.As(err, &failed) || failed.Call != "close a closed file" || !errors.Is(err, unix.EBADF) {
		t.Errorf("failing call: %v", err)
	}

	p = Program{}
	p.Expect("be an orphan", 0x7fffffff, unix.SYS_GETPPID)
	p.Exec([]string{"/bin/true"}, []string{"true"}, nil)
	if _, err := p.Start(0, Inherit); !errors.Is(err, ErrDied) {
		t.Errorf("unexpected result: %v", err)
	}

	p = Program{}
	p.Exec([]string{"/nonexistent", "/etc/passwd", "/bin/true/x"}, []string{"x"}, nil)
	var exec *ExecError
	if _, err := p.Start(0, Inherit); !errors.As(err, &exec) || exec.Err != unix.EACCES {
		t.Errorf("exec error: %v", err)
	}

	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("children left: %v", err)
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
	proc, err := p.Start(0, Inherit)
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
				proc, err := p.Start(0, Inherit)
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
		proc, err := p.Start(0, Inherit)
		if err != nil {
			b.Fatal(err)
		}
		reap(proc.PID)
		proc.PidFD.Close()
	}
}
