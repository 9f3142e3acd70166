package main

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A connection that somebody holds open although the pod behind it has been stopped is
// broken off: it would keep the pod's network in the kernel. SIGTERM ends it all well.
func TestPortForwardLetsGo(t *testing.T) {
	h := newTestHost(t)
	h.podbox(t, "create", "--network", "none", "web")
	server := h.command(t.Context(), "exec", "web", "--", "sh", "-c", "exec talk listen 127.0.0.1:80 hello")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for h.command(t.Context(), "exec", "web", "--", "talk", "dial", "127.0.0.1:80").Run() != nil {
		if time.Now().After(deadline) {
			t.Fatal("nobody listens")
		}
		time.Sleep(10 * time.Millisecond)
	}
	forward := h.command(t.Context(), "port-forward", "--address", "127.0.0.1", "web", ":80")
	out, err := forward.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := forward.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr, _, _ := strings.Cut(strings.TrimPrefix(line, "Forwarding from "), " ")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	// The server says one thing and closes; this side does not.
	if b, err := io.ReadAll(c); err != nil || string(b) != "hello\n" {
		t.Fatalf("%q, %v", b, err)
	}
	h.podbox(t, "stop", "web")
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	deadline = time.Now().Add(10 * time.Second)
	for closed := false; !closed; {
		if time.Now().After(deadline) {
			t.Fatal("the connection is still open")
		}
		// To write would break it off in any case.
		_ = raw.Control(func(fd uintptr) {
			i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			closed = err == nil && i.State == unix.BPF_TCP_CLOSE
		})
		time.Sleep(10 * time.Millisecond)
	}
	_ = server.Wait()
	if err := forward.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := forward.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	h.podbox(t, "rm", "web")
}
