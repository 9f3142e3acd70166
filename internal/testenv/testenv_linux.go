// Package testenv says what a test may rely on, and compares the world before and
// after it.
package testenv

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NeedRoot skips a test that cannot do its work without root. With
// PODBOX_PRIVILEGED=1 in the environment, as in CI, it fails instead: a missing
// privilege must not look like a passed test.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("PODBOX_PRIVILEGED") == "1" {
		t.Fatal("PODBOX_PRIVILEGED=1, but not root")
	}
	t.Skip("needs root")
}

// private marks a process that has been moved by Private.
const private = "PODBOX_TEST_PRIVATE"

// Private moves the whole test process into network and mount namespaces of its
// own, which play the host: what a test leaves behind, it leaves there. It is
// called first thing in TestMain, and executes the test program again. Without
// root it does nothing.
//
// Its parent is a process that reaps orphans at once, as process 1 should and not
// all do: what is not reaped keeps its PID namespace from ending.
func Private() {
	if os.Geteuid() != 0 {
		return
	}
	var err error
	switch os.Getenv(private) {
	case "":
		err = enterPrivate()
	case inNamespaces:
		err = reap()
	default:
		return
	}
	fmt.Fprintln(os.Stderr, "testenv:", err)
	os.Exit(1)
}

// What private says: the namespaces are there; the parent is too.
const (
	inNamespaces = "1"
	reaped       = "2"
)

// reap runs the test program once more, and reaps what that leaves behind. It ends as
// that does.
func reap() error {
	runtime.LockOSThread() // on whose end the program is killed
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if err := os.Setenv(private, reaped); err != nil {
		return err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP)
	p, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL},
	})
	if err != nil {
		return err
	}
	go func() {
		for s := range signals {
			_ = p.Signal(s)
		}
	}()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("wait4", err)
		case pid == p.Pid && ws.Signaled():
			os.Exit(128 + int(ws.Signal()))
		case pid == p.Pid:
			os.Exit(ws.ExitStatus())
		}
	}
}

func enterPrivate() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	// The thread that executes a program becomes its main thread, and its
	// namespaces those of the process.
	return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), private+"="+inNamespaces))
}
