package reaper_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/seccomp"
)

// helperName is argv[0] of the test binary when it runs as one of helpers.
const helperName = "reaper-test-helper"

// helpers are the programs that a test needs in another process: the one that
// becomes the reaper, and those that the reaper runs.
var helpers = map[string]func(args []string) error{
	"launch":     launch,
	"signals":    signals,
	"foreground": foreground,
}

func runHelper(args []string) int {
	// Credentials and filters belong to the thread.
	runtime.LockOSThread()
	if err := helpers[args[0]](args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
		return 100
	}
	return 0
}

// launch takes from itself what a container does not have and executes the rest of
// its arguments.
func launch(args []string) error {
	flags := flag.NewFlagSet("launch", flag.ContinueOnError)
	root := flags.String("root", "", "directory to make the root")
	user := flags.Int("user", 0, "user and group ID")
	confined := flags.Bool("confined", false, "no_new_privs and the default seccomp profile, no capabilities")
	ignore := flags.Bool("ignore", false, "ignore SIGCHLD and SIGUSR2")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *ignore {
		signal.Ignore(unix.SIGCHLD, unix.SIGUSR2)
	}
	// The directory is not for every user.
	program, err := unix.Open(flags.Arg(0), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var filter unix.SockFprog
	if *confined {
		profile, err := seccomp.Default(nil)
		if err != nil {
			return err
		}
		f, err := seccomp.Compile(profile)
		if err != nil {
			return err
		}
		filter = f.Program()
	}
	if *root != "" {
		if err := errors.Join(unix.Chroot(*root), os.Chdir("/")); err != nil {
			return err
		}
	}
	if *user != 0 {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(*user), uintptr(*user), uintptr(*user)); errno != 0 {
			return errno
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(*user), uintptr(*user), uintptr(*user)); errno != 0 {
			return errno
		}
	}
	if *confined {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&filter)))
		if errno != 0 {
			return fmt.Errorf("seccomp: %w", errno)
		}
	}
	argv, err := syscall.SlicePtrFromStrings(flags.Args())
	if err != nil {
		return err
	}
	env, err := syscall.SlicePtrFromStrings([]string{"PATH=/bin:/usr/bin:/"})
	if err != nil {
		return err
	}
	empty := []byte{0}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(program), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, 0)
	return fmt.Errorf("execveat: %w", errno)
}

// signals says which signals come, until SIGTERM does.
func signals([]string) error {
	c := make(chan os.Signal, 100)
	signal.Notify(c)
	fmt.Println("ready")
	for sig := range c {
		// SIGURG is the Go runtime's own.
		if sig != unix.SIGURG {
			fmt.Println(int(sig.(unix.Signal)))
		}
		if sig == unix.SIGTERM {
			break
		}
	}
	return nil
}

// foreground says whether it is the foreground process group of its terminal, and
// all of it.
func foreground([]string) error {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	if err != nil {
		return err
	}
	fmt.Println(group == unix.Getpgrp(), group == unix.Getpid())
	return nil
}
