package examples

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
	"github.com/podbox/podbox/volumes"
)

// TestContainersTalk has containers of one pod talk in the ways that there are: by
// volumes, by IPC objects, and over the loopback interface. Each half of a
// conversation is a container of its own, all of one root directory; the half that
// waits for the other is in the background.
func TestContainersTalk(t *testing.T) {
	testenv.NeedRoot(t)
	rootfs, dir := makeRootfs(t, build(t, "podtalk")), t.TempDir()
	root := filepath.Join(dir, "run")
	// From its first container on a process has two descriptors that libraries keep.
	t.Run("first", func(t *testing.T) { newPod(t, dir, rootfs).run(t, "first", "addresses") })
	before := testenv.Look(t, root)
	t.Run("talk", func(t *testing.T) {
		p := newPod(t, dir, rootfs)
		t.Run("volume", p.volume)
		t.Run("ipc", p.ipc)
		t.Run("loopback", p.loopback)
		t.Run("replaced", p.replaced)
	})
	before.Same(t, root, "after the pod")
}

// A pod is one with two volumes, and what its containers are made from.
type pod struct {
	*supervisor.Pod
	rootfs string
}

// mounts are where containers have the pod's volumes.
var mounts = map[string]string{"data": "/usr/share/data", "fast": "/fast"}

// newPod makes a pod that is recorded below dir, and is removed after the test.
func newPod(t *testing.T, dir, rootfs string) *pod {
	t.Helper()
	rt, err := sandbox.Open(sandbox.Options{Root: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	sb, err := rt.Create(t.Context(), sandbox.Spec{
		Name:    "talk",
		Volumes: []volumes.Volume{{Name: "data"}, {Name: "fast", Memory: &volumes.Memory{Size: 1 << 20}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{supervisor.Open(sb, supervisor.Options{Command: []string{"/proc/self/exe", superviseWord}}), rootfs}
	t.Cleanup(func() {
		if err := errors.Join(p.Remove(context.Background(), sandbox.StopOptions{}), rt.Close()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// container is one that runs podtalk.
func (p *pod) container(name, command string) supervisor.Spec {
	oci := launcher.Default(p.rootfs, strings.Fields("/podtalk "+command)...)
	for volume, path := range mounts {
		oci.Mounts = append(oci.Mounts, specs.Mount{Destination: path, Type: launcher.VolumeType, Source: volume})
	}
	return supervisor.Spec{Name: name, OCI: oci, DefaultSeccomp: true}
}

// start starts a container in the background.
func (p *pod) start(t *testing.T, name, command string) *supervisor.Container {
	t.Helper()
	c, err := p.RunBackground(t.Context(), p.container(name, command))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// finish waits for a container of the background, which must succeed, removes it,
// and returns what it has printed.
func finish(t *testing.T, c *supervisor.Container) string {
	t.Helper()
	status, err := c.Wait(t.Context())
	var out strings.Builder
	err = errors.Join(err, c.Logs(t.Context(), supervisor.LogOptions{}, func(e supervisor.LogEntry) error {
		fmt.Fprintf(&out, "%s\n", e.Text)
		return nil
	}))
	if err := errors.Join(err, c.Remove(t.Context(), false, supervisor.StopOptions{})); err != nil {
		t.Fatal(err)
	}
	if status != 0 {
		t.Fatalf("container %s has ended with status %d:\n%s", c.Name(), status, &out)
	}
	return out.String()
}

// run runs a container in the foreground, which must succeed, removes it, and
// returns what it has printed.
func (p *pod) run(t *testing.T, name, command string) string {
	t.Helper()
	var out bytes.Buffer
	spec := p.container(name, command)
	spec.Remove = true
	c, err := p.Run(t.Context(), spec, launcher.IO{Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := c.Wait(t.Context()); status != 0 || err != nil {
		t.Fatalf("%s has ended with status %d, %v:\n%s", command, status, err, &out)
	}
	return out.String()
}

// A reader waits for a message in a volume. Writer and reader are gone then; others of
// their names find what was written, and write it again.
func (p *pod) volume(t *testing.T) {
	for volume, path := range mounts {
		message := path + "/message.txt"
		reader := p.start(t, "reader", "file-read "+message)
		time.Sleep(20 * time.Millisecond)
		if s, err := reader.Status(); err != nil || s.State != supervisor.Running {
			t.Fatalf("%s: the reader does not wait: %+v, %v", volume, s, err)
		}
		p.run(t, "writer", "file-write "+message+" first")
		if got := finish(t, reader); got != "first\n" {
			t.Errorf("%s: the reader has read %q", volume, got)
		}
		if list, err := p.List(); len(list) > 0 || err != nil {
			t.Errorf("%s: containers are left: %v, %v", volume, list, err)
		}
		if got := p.run(t, "reader", "file-read "+message); got != "first\n" {
			t.Errorf("%s: the second reader has read %q", volume, got)
		}
		p.run(t, "writer", "file-write "+message+" second")
		if got := p.run(t, "reader", "file-read "+message); got != "second\n" {
			t.Errorf("%s: the third reader has read %q", volume, got)
		}
	}
}

// A producer and a consumer share message queues, memory and semaphores. The object
// outlives a producer that has gone before the consumer comes.
func (p *pod) ipc(t *testing.T) {
	for _, test := range []struct {
		consumer, producer string
		want               string // besides what the producer has printed
	}{
		{"mq-consume /talk", "mq-produce /talk 5", ""},
		{"sysv-msg-consume 0x706f", "sysv-msg-produce 0x706f 5", ""},
		{"shm-read talk", "shm-write talk hello", "hello\n"},
		{"sysv-shm-read 0x706f", "sysv-shm-write 0x706f hello", "hello\n"},
		{"sem-wait talk", "sem-post talk", "woken\n"},
		{"sysv-sem-wait 0x706f", "sysv-sem-post 0x706f", "woken\n"},
	} {
		check := func(sent, received string) {
			t.Helper()
			if received != test.want+sent || received == "" {
				t.Errorf("%s has received %q; sent was %q", test.consumer, received, sent)
			}
		}
		consumer := p.start(t, "consumer", test.consumer)
		sent := p.run(t, "producer", test.producer)
		check(sent, finish(t, consumer))

		sent = p.run(t, "producer", test.producer)
		check(sent, p.run(t, "consumer", test.consumer))
	}
}

// A server and a client meet on localhost. Both are process 1.
func (p *pod) loopback(t *testing.T) {
	for _, addr := range []string{"tcp 127.0.0.1:7", "tcp [::1]:7", "udp 127.0.0.1:7", "udp [::1]:7", "unix @talk"} {
		network, addr, _ := strings.Cut(addr, " ")
		server := p.start(t, "server", network+"-serve "+addr)
		if got := p.run(t, "client", network+"-dial "+addr+" hello"); got != "pid 1 heard \"hello\"\n" {
			t.Errorf("%s %s: the client has heard %q", network, addr, got)
		}
		if got := finish(t, server); !strings.Contains(got, "\nheard \"hello\"") {
			t.Errorf("%s %s: the server has heard %q", network, addr, got)
		}
	}
}

// A container is killed and comes back: to the pod's name and addresses, and to what
// is in its volumes and IPC objects. Another one goes on as if nothing had happened,
// on a localhost that is not the host's.
func (p *pod) replaced(t *testing.T) {
	const serve = "tcp-serve -count 0 -timeout 1m 127.0.0.1:"
	other := p.start(t, "other", serve+"7")
	spec := p.container("worker", serve+"8")
	spec.Restart.Policy = supervisor.Always
	worker, err := p.RunBackground(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"file-write /usr/share/data/kept volume", "shm-write kept memory", "sysv-msg-send 0x706f queue"} {
		p.exec(t, worker, command)
	}
	before, otherBefore := p.exec(t, worker, "addresses"), status(t, other)

	if err := worker.Kill(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for s := status(t, worker); s.Restarts == 0 || s.State != supervisor.Running; s = status(t, worker) {
		time.Sleep(2 * time.Millisecond)
	}
	if after := p.exec(t, worker, "addresses"); after != before || !strings.HasPrefix(after, "talk\n02:") {
		t.Errorf("who it is: %q, and was: %q", after, before)
	}
	for command, want := range map[string]string{"file-read /usr/share/data/kept": "volume\n", "shm-read kept": "memory\n", "sysv-msg-recv 0x706f": "queue\n"} {
		if got := p.exec(t, worker, command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	if got := p.exec(t, worker, "tcp-dial 127.0.0.1:7 hello"); got != "pid 1 heard \"hello\"\n" {
		t.Errorf("the other container has answered %q", got)
	}
	if s := status(t, other); s.PID != otherBefore.PID || s.Restarts != 0 || s.State != supervisor.Running {
		t.Errorf("the other container: %+v", s)
	}
	if l, err := net.Listen("tcp", "127.0.0.1:7"); err != nil {
		t.Errorf("the port on the host's localhost: %v", err)
	} else {
		l.Close()
	}
}

// exec runs podtalk in a container, which must succeed, and returns what it prints.
func (p *pod) exec(t *testing.T, c *supervisor.Container, command string) string {
	t.Helper()
	var out bytes.Buffer
	change := func(spec *specs.Spec) error {
		spec.Process.Args = strings.Fields("/podtalk " + command)
		return nil
	}
	process, err := c.Exec(t.Context(), change, launcher.Options{IO: launcher.IO{Stdout: &out, Stderr: &out}})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := process.Wait(t.Context()); status != 0 || err != nil {
		t.Fatalf("%s has ended with status %d, %v:\n%s", command, status, err, &out)
	}
	return out.String()
}

func status(t *testing.T, c *supervisor.Container) *supervisor.Status {
	t.Helper()
	s, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
