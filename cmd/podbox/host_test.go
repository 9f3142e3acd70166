package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/netns"
)

// A host is what podbox is tried on: a network namespace, a --root and a --state-dir of
// its own.
type host struct {
	root  string
	netns string // as /proc/PID/ns/net has it
	ns    *os.File
	links []string

	patience *time.Timer
}

// newHost moves the calling goroutine, for the rest of its life, to a new network
// namespace. The programs that it starts are born there; other goroutines are
// where they were. The thread ends with the goroutine, and the namespace with the
// last of the programs.
func newHost(root string) (*host, error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return nil, fmt.Errorf("lo: %w", err)
	}
	h := &host{root: root}
	if h.netns, err = os.Readlink("/proc/thread-self/ns/net"); err != nil {
		return nil, err
	}
	if h.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return nil, err
	}
	if h.links, err = links(); err != nil {
		h.ns.Close()
		return nil, err
	}
	// A program that hangs fails its test, not all of them.
	h.patience = time.AfterFunc(testenv.Patience(30*time.Second), h.kill)
	return h, nil
}

// stateDir is the --state-dir beside a --root.
func stateDir(root string) string { return filepath.Join(filepath.Dir(root), "state") }

// join moves the calling goroutine, for the rest of its life, to the host.
func (h *host) join() error {
	runtime.LockOSThread()
	return os.NewSyscallError("setns", unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET))
}

// newTestHost is newHost for a test that is no script. What the test leaves fails
// it.
func newTestHost(t *testing.T) *host {
	testenv.NeedRoot(t)
	h, err := newHost(filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.leave(t) })
	return h
}

// leave ends a host. That anything is left on it is an error, unless the test has
// failed before it could tidy up.
func (h *host) leave(t testing.TB) {
	if !t.Failed() && !t.Skipped() {
		// What was killed may be on its way out.
		deadline := time.Now().Add(testenv.Patience(5 * time.Second))
		left := h.left()
		for len(left) > 0 && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
			left = h.left()
		}
		for _, what := range left {
			t.Errorf("left behind: %s", what)
		}
	}
	h.patience.Stop()
	h.kill()
	h.ns.Close()
}

// kill ends all processes of a host.
func (h *host) kill() {
	for pid := range h.processes() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// left returns all that is not as it was on a new host.
func (h *host) left() []string {
	var left []string
	for pid, cmdline := range h.processes() {
		left = append(left, fmt.Sprintf("process %d: %s", pid, cmdline))
	}
	now, err := links()
	if err != nil {
		left = append(left, err.Error())
	}
	for _, name := range now {
		if !slices.Contains(h.links, name) {
			left = append(left, "link "+name)
		}
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		left = append(left, err.Error())
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, filepath.Dir(h.root)+"/") {
			left = append(left, "mount "+strings.TrimSpace(line))
		}
	}
	for _, root := range h.roots() {
		groups, _ := filepath.Glob("/sys/fs/cgroup" + group(root))
		below, _ := filepath.Glob("/sys/fs/cgroup/*" + group(root))
		for _, path := range slices.Concat(groups, below) {
			left = append(left, "cgroup "+path)
		}
		// Attached to the root of the control groups, which is the machine's.
		name := strings.ReplaceAll(strings.TrimPrefix(group(root), "/"), "-", "_")
		if there, err := (netns.Loopback6{Name: name}).Present(); there {
			left = append(left, fmt.Sprintf("programs of eBPF %s, %v", name, err))
		}
		// The directories stay, of leases the cursors, and what has happened.
		for _, pattern := range []string{"*", "pods/*", "names/*", "leases/*"} {
			paths, _ := filepath.Glob(filepath.Join(root, pattern))
			for _, path := range paths {
				name, _ := filepath.Rel(root, path)
				if !slices.Contains([]string{"pods", "names", "leases", "ports", "rules", "rules-turnstile", "events"}, name) && !strings.HasPrefix(name, "leases/next-") {
					left = append(left, "file "+path)
				}
			}
		}
	}
	states, _ := filepath.Glob(filepath.Join(stateDir(h.root), "pods/*"))
	for _, path := range states {
		left = append(left, "directory "+path)
	}
	return left
}

// group is the cgroup in which those of the pods of a --root are.
func group(root string) string {
	sum := sha256.Sum256([]byte(root))
	return fmt.Sprintf("/podbox-%x", sum[:4])
}

// roots returns where podbox has been used on this host: h.root, and what a script
// has given as --root beside it or one below.
func (h *host) roots() []string {
	roots := []string{h.root}
	for _, pattern := range []string{"*/pods", "*/*/pods"} {
		paths, _ := filepath.Glob(filepath.Join(filepath.Dir(h.root), pattern))
		for _, path := range paths {
			if root := filepath.Dir(path); root != h.root && root != stateDir(h.root) {
				roots = append(roots, root)
			}
		}
	}
	return roots
}

// processes returns the command lines of the processes that have a path beside
// this host's root on it, or that root in their environment, or are in a cgroup of
// its: pauses, podbox, and what that has started.
func (h *host) processes() map[int]string {
	found := make(map[int]string)
	ours := []byte("\x00" + filepath.Dir(h.root) + "/")
	var groups [][]byte
	for _, root := range h.roots() {
		groups = append(groups, []byte(":"+group(root)+"/"))
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || len(cmdline) == 0 {
			continue
		}
		environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		environ = slices.Concat([]byte{0}, environ, []byte{0})
		cgroups, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
		in := func(group []byte) bool { return bytes.Contains(cgroups, group) }
		if bytes.Contains(cmdline, ours) || bytes.Contains(environ, []byte("\x00ROOT="+h.root+"\x00")) || slices.ContainsFunc(groups, in) {
			found[pid] = strings.TrimSpace(string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// links returns the names of the links in the calling thread's network namespace.
func links() ([]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range all {
		names = append(names, l.Name)
	}
	return names, nil
}

// talk is a program to run in pods: "listen ADDR TEXT" is a TCP server that says
// TEXT to whoever calls, "dial ADDR" prints what a server says, "mq NAME TEXT"
// puts TEXT into a POSIX message queue.
func talk(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "listen":
		l, err := net.Listen("tcp", args[1])
		if err != nil {
			return err
		}
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			fmt.Fprintln(c, args[2])
			c.Close()
		}
	case len(args) == 2 && args[0] == "dial":
		c, err := net.DialTimeout("tcp", args[1], 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.Copy(os.Stdout, c)
		return err
	case len(args) == 3 && args[0] == "mq":
		return sendMessage(args[1], args[2])
	}
	return fmt.Errorf("%q: want listen ADDR TEXT, dial ADDR or mq NAME TEXT", args)
}

// sendMessage is mq_open(3) and mq_send(3), of which the C library takes the slash
// off the name.
func sendMessage(name, text string) error {
	n, err := unix.BytePtrFromString(strings.TrimPrefix(name, "/"))
	if err != nil {
		return err
	}
	fd, _, e := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(n)), unix.O_CREAT|unix.O_WRONLY, 0o600, 0, 0, 0)
	if e != 0 {
		return os.NewSyscallError("mq_open", e)
	}
	defer unix.Close(int(fd))
	b := []byte(text)
	_, _, e = unix.Syscall6(unix.SYS_MQ_TIMEDSEND, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	if e != 0 {
		return os.NewSyscallError("mq_timedsend", e)
	}
	return nil
}
