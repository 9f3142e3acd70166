//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insidePod is set in the copy of the test binary that runs in namespaces like a
// pod's.
const insidePod = "PODTALK_TEST_INSIDE"

// TestPairs runs both halves of each conversation as two processes in fresh
// network and IPC namespaces, in either order, and looks for what they left.
func TestPairs(t *testing.T) {
	if os.Getenv(insidePod) == "" {
		if os.Getuid() != 0 {
			if os.Getenv("PODBOX_PRIVILEGED") == "1" {
				t.Fatal("PODBOX_PRIVILEGED=1, but this is not root")
			}
			t.Skip("needs root to make namespaces")
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestPairs$", fmt.Sprintf("-test.v=%v", testing.Verbose()))
		cmd.Env = append(os.Environ(), insidePod+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Unshareflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWNS,
			Pdeathsig:    syscall.SIGKILL,
		}
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}

	mqueues := t.TempDir()
	if err := furnish(mqueues); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(mqueues, 0)
	tests := []struct {
		receiver, sender string // command lines
		received, sent   string // what each prints, as regular expressions
		sameOutput       bool
	}{
		{
			receiver: "tcp-serve 127.0.0.1:7", received: `listening on 127\.0\.0\.1:7\nheard "hello" from 127\.0\.0\.1:\d+\n`,
			sender: "tcp-dial 127.0.0.1:7 hello", sent: `pid \d+ heard "hello"\n`,
		},
		{
			receiver: "tcp-serve [::1]:7", received: `listening on \[::1\]:7\nheard "hello" from \[::1\]:\d+\n`,
			sender: "tcp-dial [::1]:7 hello", sent: `pid \d+ heard "hello"\n`,
		},
		{
			receiver: "udp-serve 127.0.0.1:7", received: `listening on 127\.0\.0\.1:7\nheard "hello" from 127\.0\.0\.1:\d+\n`,
			sender: "udp-dial 127.0.0.1:7 hello", sent: `pid \d+ heard "hello"\n`,
		},
		{
			receiver: "udp-serve [::1]:7", received: `listening on \[::1\]:7\nheard "hello" from \[::1\]:\d+\n`,
			sender: "udp-dial [::1]:7 hello", sent: `pid \d+ heard "hello"\n`,
		},
		{
			receiver: "unix-serve @talk", received: `listening on @talk\nheard "hello"\n`,
			sender: "unix-dial @talk hello", sent: `pid \d+ heard "hello"\n`,
		},
		{
			receiver: "mq-consume /talk", received: `([A-Z2-7]{26}\n){20}exit\n`,
			sender: "mq-produce /talk 20", sent: `([A-Z2-7]{26}\n){20}exit\n`,
			sameOutput: true,
		},
		{receiver: "mq-consume empty", received: `exit\n`, sender: "mq-produce empty 0", sent: `exit\n`},
		{
			receiver: "sysv-msg-consume 0x706f", received: `([A-Z2-7]{26}\n){20}exit\n`,
			sender: "sysv-msg-produce 0x706f 20", sent: `([A-Z2-7]{26}\n){20}exit\n`,
			sameOutput: true,
		},
		{receiver: "sysv-msg-recv 0x706f", received: `hello\n`, sender: "sysv-msg-send 0x706f hello"},
		{receiver: "sysv-shm-read 0x706f", received: `hello\n`, sender: "sysv-shm-write 0x706f hello"},
		{receiver: "sysv-sem-wait 0x706f", received: `woken\n`, sender: "sysv-sem-post 0x706f"},
		{receiver: "shm-read talk", received: `hello\n`, sender: "shm-write talk hello"},
		{receiver: "sem-wait talk", received: `woken\n`, sender: "sem-post talk"},
	}
	for _, test := range tests {
		for _, senderFirst := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/senderFirst=%v", test.receiver, senderFirst), func(t *testing.T) {
				if _, err := os.Stat("/proc/net/if_inet6"); err != nil && strings.Contains(test.receiver, "[::1]") {
					t.Skip("the kernel has no IPv6")
				}
				received, sent := converse(t, test.receiver, test.sender, senderFirst)
				matches(t, test.receiver, received, test.received)
				matches(t, test.sender, sent, test.sent)
				if test.sameOutput && received != sent {
					t.Errorf("sent %q, received %q", sent, received)
				}
				for _, object := range leftovers(t, "/dev/shm", mqueues) {
					t.Errorf("left behind: %s", object)
				}
			})
		}
	}

	t.Run("count", func(t *testing.T) {
		server := start(t, "tcp-serve -count 3 127.0.0.1:7")
		for range 3 {
			out, err := start(t, "tcp-dial 127.0.0.1:7 again")()
			matches(t, "tcp-dial", out, `pid \d+ heard "again"\n`)
			if err != nil {
				t.Error(err)
			}
		}
		out, err := server()
		if err != nil || strings.Count(out, "again") != 3 {
			t.Errorf("the server ended with %v after %q", err, out)
		}
	})
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "message")
		received, _ := converse(t, "file-read "+path, "file-write "+path+" hello", false)
		again, err := start(t, "file-read "+path)()
		if received != "hello\n" || again != received || err != nil {
			t.Errorf("read %q, then %q, %v", received, again, err)
		}
	})
	t.Run("keep", func(t *testing.T) {
		for _, line := range []string{"shm-write talk hello", "shm-read -keep talk", "shm-read talk", "sysv-shm-write 9 hello", "sysv-shm-read -keep 9", "sysv-shm-read 9", "sem-post talk", "sem-post talk", "sem-wait -keep talk", "sem-wait talk"} {
			if out, err := start(t, line)(); err != nil {
				t.Errorf("%s: %v: %s", line, err, out)
			}
		}
	})
}

// furnish gives the namespaces what podbox gives a pod: a loopback that is up and
// a /dev/shm of their own. It shows the message queues in a directory.
func furnish(mqueues string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return os.NewSyscallError("ioctl SIOCSIFFLAGS", err)
	}
	if err := unix.Mount("shm", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m"); err != nil {
		return &os.PathError{Op: "mount", Path: "/dev/shm", Err: err}
	}
	if err := unix.Mount("mqueue", mqueues, "mqueue", 0, ""); err != nil {
		return &os.PathError{Op: "mount", Path: mqueues, Err: err}
	}
	return nil
}

// converse runs the halves of a conversation and returns what each printed.
func converse(t *testing.T, receiver, sender string, senderFirst bool) (received, sent string) {
	first, second := receiver, sender
	if senderFirst {
		first, second = sender, receiver
	}
	wait := start(t, first)
	time.Sleep(20 * time.Millisecond) // long enough for most firsts to be first
	out2, err2 := start(t, second)()
	out1, err1 := wait()
	if err1 != nil || err2 != nil {
		t.Errorf("%s: %v: %s\n%s: %v: %s", first, err1, out1, second, err2, out2)
	}
	if senderFirst {
		return out2, out1
	}
	return out1, out2
}

// start starts podtalk with the words of line as its arguments. The function it
// returns waits for podtalk to end and returns what it printed.
func start(t *testing.T, line string) (wait func() (string, error)) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), self, strings.Fields(line)...)
	// Under -race every exit would otherwise take a second.
	cmd.Env = append(os.Environ(), asPodtalk+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	once := sync.OnceValues(func() (string, error) {
		err := cmd.Wait()
		return out.String(), err
	})
	t.Cleanup(func() { once() })
	return once
}

// leftovers lists the IPC objects in this namespace: those of System V, and what
// is in dirs.
func leftovers(t *testing.T, dirs ...string) (objects []string) {
	for _, kind := range []string{"msg", "shm", "sem"} {
		b, err := os.ReadFile("/proc/sysvipc/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		objects = append(objects, lines[1:]...) // the first is the heading
	}
	for _, dir := range dirs {
		files, err := filepath.Glob(dir + "/*")
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, files...)
	}
	return objects
}
