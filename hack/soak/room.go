//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/netns/cni"
)

// roomVariable names the directory of the room to those who are in it.
const roomVariable = "SOAK_ROOM"

// enterRoom runs the program again in namespaces of its own, and ends as it does. With its
// first process everything in them goes.
func enterRoom(ctx context.Context, o options) (status int, err error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("needs root")
	}
	for _, name := range []string{"ip", "nft", "tc"} {
		if _, err := exec.LookPath(name); err != nil {
			return 1, err
		}
	}
	if err := o.absolute(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "soak.")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	// The program may be one that `go run` removes; the room has its own copy.
	cmd := exec.Command(self, "first",
		"-for", o.length.String(), "-seed", strconv.FormatUint(o.seed, 10), "-procs", strconv.Itoa(o.procs),
		"-podbox", o.podbox, "-keep", o.keep, "-hold="+strconv.FormatBool(o.hold), "-survey="+strconv.FormatBool(o.survey))
	cmd.Env = append(os.Environ(), roomVariable+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Setpgid:    true, // a terminal interrupts us, and we ask the room
	}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = cmd.Process.Signal(unix.SIGTERM)
		select {
		case err = <-done:
		case <-time.After(2 * time.Minute):
			_ = cmd.Process.Kill()
			err = <-done
		}
	}
	for _, root := range []string{"run", "stay"} {
		root = filepath.Join(dir, root)
		err = errors.Join(err, netns.Loopback6{Name: netns.LoopbackName("podbox-" + rootHash(root))}.Remove())
		removeGroups(root)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// removeGroups removes the cgroups that a fault has left: they are the machine's.
func removeGroups(root string) {
	for range 50 {
		left := groups(root)
		if len(left) == 0 {
			return
		}
		for i := len(left) - 1; i >= 0; i-- { // the innermost first
			_ = os.Remove(left[i])
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// first is process 1 of the room: it furnishes it, runs the program proper and reaps what
// that leaves behind, as process 1 should.
func first() error {
	room := os.Getenv(roomVariable)
	if err := furnish(room); err != nil {
		return err
	}
	self := filepath.Join(room, "soak")
	// A signal of its own group kills what it starts, never itself.
	p, err := os.StartProcess(self, append([]string{self}, os.Args[2:]...), &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 8)
	notify(signals)
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
		case pid == p.Pid && ws.Exited():
			os.Exit(ws.ExitStatus())
		case pid == p.Pid:
			os.Exit(128 + int(ws.Signal()))
		}
	}
}

// furnish makes the room a host: its own /proc, a tmpfs for everything, an empty /dev/shm.
func furnish(room string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	// What podbox has of CNI networks is there for all installations, and all runtimes.
	if err := os.MkdirAll(cni.DefaultCacheDir, 0o755); err != nil {
		return err
	}
	for _, m := range []struct{ what, where string }{{"proc", "/proc"}, {"tmpfs", "/dev/shm"}, {"tmpfs", cni.DefaultCacheDir}, {"tmpfs", room}} {
		if err := unix.Mount(m.what, m.where, m.what, unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
			return &os.PathError{Op: "mount", Path: m.where, Err: err}
		}
	}
	if err := os.Chmod(room, 0o755); err != nil {
		return err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(room, "tmp"), 0o777); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("soakhost")); err != nil {
		return os.NewSyscallError("sethostname", err)
	}
	return os.WriteFile(filepath.Join(room, "soak"), self, 0o755)
}

// Where the host, and somebody beside it on its network, are reached.
const (
	uplink   = "soakup0"
	hostIP   = "192.0.2.1"
	hostIP6  = "2001:db8:500::1"
	otherIP  = "192.0.2.2"
	otherIP6 = "2001:db8:500::2"
)

// beside makes a network beside the host's, with somebody in it who routes everything by the
// host.
func beside() (*netns.NS, error) {
	ns, err := netns.Create()
	if err != nil {
		return nil, err
	}
	at := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.File().Fd())
	for _, words := range []string{
		"link set lo up",
		"link add " + uplink + " type veth peer name out0",
		"link set out0 netns " + at,
		"addr add " + hostIP + "/24 dev " + uplink,
		"addr add " + hostIP6 + "/64 dev " + uplink + " nodad",
		"link set " + uplink + " addrgenmode none",
		"link set " + uplink + " up",
	} {
		if err := command("ip", strings.Fields(words)...); err != nil {
			return nil, err
		}
	}
	err = ns.Do(func() error {
		for _, words := range []string{
			"addr add " + otherIP + "/24 dev out0",
			"addr add " + otherIP6 + "/64 dev out0 nodad",
			"link set out0 addrgenmode none",
			"link set out0 up",
			"route add default via " + hostIP,
			"-6 route add default via " + hostIP6,
		} {
			if err := command("ip", strings.Fields(words)...); err != nil {
				return err
			}
		}
		return nil
	})
	return ns, err
}

// command runs a program that must succeed. It is started by the calling thread, and so is
// in its namespaces.
func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// hostPID is our PID as the machine outside knows it, if /proc says.
func hostPID() string { return strconv.Itoa(os.Getpid()) + " (of the room)" }
