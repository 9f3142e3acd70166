// Package testenv says what a test may rely on, and compares the world before and
// after it.
package testenv

import (
	"fmt"
	"os"
	"runtime"
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
func Private() {
	if os.Geteuid() != 0 || os.Getenv(private) != "" {
		return
	}
	if err := enterPrivate(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		os.Exit(1)
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
	return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), private+"=1"))
}
