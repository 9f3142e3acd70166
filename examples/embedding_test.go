package examples

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
	"github.com/podbox/podbox/volumes"
)

// What follows is shown in README.md and docs/EMBEDDING.md, and run by TestEmbedding.

func web(ctx context.Context, rt *sandbox.Runtime) (err error) {
	pod, err := rt.Create(ctx, sandbox.Spec{Name: "web", Network: netns.Pod()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pod.Remove(ctx)) }()

	proc, err := launcher.Start(ctx, pod, &specs.Spec{
		Process: &specs.Process{Args: []string{"ip", "addr"}, Cwd: "/"},
	}, launcher.IO{Stdout: os.Stdout})
	if err != nil {
		return err
	}
	status, err := proc.Wait(ctx)
	fmt.Println("exit status", status, "in", pod.Namespaces())
	return err
}

func openRuntime(log *slog.Logger, root, state string) (*sandbox.Runtime, error) {
	return sandbox.Open(sandbox.Options{
		Root:     root,  // records; on a tmpfs, of root alone. Empty: /run/podbox
		StateDir: state, // volumes on the disk, logs. Empty: /var/lib/podbox
		Logger:   log,   // each step, at level debug. Nil: nobody
	})
}

func database() sandbox.Spec {
	return sandbox.Spec{
		Name:    "db",
		Labels:  map[string]string{"app": "shop"},
		Ports:   []netns.Port{{HostPort: 25432, Port: 5432}},
		Volumes: []volumes.Volume{{Name: "data"}, {Name: "cache", Memory: &volumes.Memory{Size: 64 << 20}}},
		Limits:  sandbox.Limits{Memory: 1 << 30, CPU: 1500, PIDs: 500}, // 1 GiB, 1.5 CPUs
		DNS:     sandbox.DNS{Search: []string{"example.org"}},
		Hosts:   []sandbox.Host{{Name: "backup", IP: netip.MustParseAddr("192.0.2.7")}},
	}
}

// ensure returns the pod of this name, as it is or as it is made now.
func ensure(ctx context.Context, rt *sandbox.Runtime, spec sandbox.Spec) (*sandbox.Sandbox, error) {
	pod, err := rt.Create(ctx, spec)
	switch {
	case errors.Is(err, sandbox.ErrExists):
		pod, err = rt.Open(spec.Name)
	case errors.Is(err, netns.ErrInUse):
		return nil, fmt.Errorf("choose another port or address: %w", err)
	case errors.Is(err, sandbox.ErrInvalid), errors.Is(err, sandbox.ErrNotSupported):
		return nil, fmt.Errorf("nothing has been made: %w", err)
	}
	if err != nil {
		return nil, err
	}
	// What has been stopped, or has lost its pause, comes back as it was.
	return pod, pod.Start(ctx)
}

func greet(ctx context.Context, pod *supervisor.Pod, rootfs string) (string, error) {
	oci := launcher.Default(rootfs, "/podtalk", "file-write", "/data/greeting", "hello")
	oci.Process.Env = append(oci.Process.Env, "LANG=C.UTF-8")
	oci.Mounts = append(oci.Mounts, specs.Mount{Destination: "/data", Type: launcher.VolumeType, Source: "data"})
	c, err := pod.Run(ctx, supervisor.Spec{OCI: oci, DefaultSeccomp: true, Remove: true}, launcher.IO{Stderr: os.Stderr})
	if err != nil {
		return "", err
	}
	if status, err := c.Wait(ctx); err != nil || status != 0 {
		return "", fmt.Errorf("greet: exit status %d: %w", status, err)
	}

	// A program of the host in the same pod, whose output is a buffer.
	var out bytes.Buffer
	p, err := launcher.Start(ctx, pod.Sandbox, &specs.Spec{
		Process: &specs.Process{Args: []string{"hostname"}, Cwd: "/", Env: []string{"PATH=" + launcher.DefaultPath}},
	}, launcher.IO{Stdout: &out})
	if err != nil {
		return "", err
	}
	_, err = p.Wait(ctx)
	return strings.TrimSpace(out.String()), err
}

func openPod(pod *sandbox.Sandbox) (*supervisor.Pod, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return supervisor.Open(pod, supervisor.Options{Command: []string{self, superviseWord}}), nil
}

func background(ctx context.Context, pod *supervisor.Pod, rootfs string, log io.Writer) error {
	_, err := pod.RunBackground(ctx, supervisor.Spec{
		Name:           "reader",
		OCI:            launcher.Default(rootfs, "/podtalk", "tcp-serve", "localhost:80"),
		DefaultSeccomp: true,
		Init:           true,
		Restart:        supervisor.Restart{Policy: supervisor.OnFailure, Retries: 3},
	})
	if err != nil {
		return err
	}
	// The supervisor runs it now. This process may end and come back.
	c, err := pod.Container("reader")
	if err != nil {
		return err
	}
	if err := c.Stop(ctx, supervisor.StopOptions{}); err != nil {
		return err
	}
	return c.Logs(ctx, supervisor.LogOptions{}, func(e supervisor.LogEntry) error {
		_, err := log.Write(e.Text)
		return err
	})
}

// End of what is shown.

func TestEmbedding(t *testing.T) {
	testenv.NeedRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	rootfs, dir := makeRootfs(t, build(t, "podtalk")), t.TempDir()
	rt, err := openRuntime(nil, dir+"/run", dir+"/state")
	if err != nil {
		t.Fatal(err)
	}
	if err := web(ctx, rt); err != nil {
		t.Error(err)
	}
	sb, err := ensure(ctx, rt, database())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ensure(ctx, rt, database()); err != nil || again.ID() != sb.ID() {
		t.Errorf("the second time: %v", err)
	}
	other := database()
	other.Name = "other"
	if _, err := ensure(ctx, rt, other); !errors.Is(err, netns.ErrInUse) {
		t.Errorf("a port that is taken: %v", err)
	}
	other.Ports, other.Labels = nil, map[string]string{"no key": ""}
	if _, err := ensure(ctx, rt, other); !errors.Is(err, sandbox.ErrInvalid) {
		t.Errorf("a wrong label: %v", err)
	}
	pod, err := openPod(sb)
	if err != nil {
		t.Fatal(err)
	}
	if name, err := greet(ctx, pod, rootfs); err != nil || name != "db" {
		t.Errorf("greet: %q, %v", name, err)
	}
	var log bytes.Buffer
	if err := background(ctx, pod, rootfs, &log); err != nil {
		t.Error(err)
	}
	if err := pod.Remove(ctx, sandbox.StopOptions{}); err != nil {
		t.Error(err)
	}
	if left, err := rt.List(ctx); err != nil || len(left) > 0 {
		t.Errorf("%d pods are left, %v", len(left), err)
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
}
