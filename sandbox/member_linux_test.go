package sandbox

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/testenv"
)

// joinPod starts a program of the host in a pod, with the pod's /dev/shm, and ends
// it with the test. (Package launcher, which does this for users, builds on this
// one.)
func joinPod(t testing.TB, s *Sandbox, args ...string) *exec.Cmd {
	t.Helper()
	e, err := s.Enter(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	cmd := exec.Command(args[0], args[1:]...)
	err = nsthread.Do(func() error {
		if err := nsthread.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		if e.Shm != nil {
			if err := unix.MoveMount(int(e.Shm.Fd()), "", unix.AT_FDCWD, "/dev/shm", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
				return err
			}
		}
		if err := nsthread.Join(e.Pause, e.Flags); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
	})
	return cmd
}

// killPause kills a pod's pause from outside, and waits until it is gone.
func killPause(t testing.TB, s *Sandbox) {
	t.Helper()
	pidfd, err := proc.OpenPID(info(t, s).PausePID)
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	if err := proc.Signal(pidfd, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := awaitExit(pidfd); err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	patience := testenv.Patience(10 * time.Second)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Errorf("not within %s: %s", patience, what)
}
