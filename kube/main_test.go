package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// The test program is the pods' supervisor too.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "supervise" {
		if err := supervisor.Serve(context.Background(), os.Args[2:], os.NewFile(3, "ready"), supervisor.Options{}); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	testenv.Private()
	os.Exit(m.Run())
}

var bg = context.Background()

// A bench is a runtime with images, in which pods are applied.
type bench struct {
	*testing.T
	Options
	rt *sandbox.Runtime
}

// newBench opens a runtime. After the test all pods are removed, and nothing may be left of
// them.
func newBench(t *testing.T) *bench {
	t.Helper()
	testenv.NeedRoot(t)
	t.Parallel()
	root := t.TempDir()
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	rt, err := sandbox.Open(sandbox.Options{Root: filepath.Join(root, "run"), StateDir: filepath.Join(root, "state")})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, rt: rt}
	b.Options = Options{
		Runtime: rt, Images: roots{t},
		Supervisor: supervisor.Options{Command: []string{"/proc/self/exe", "supervise"}},
	}
	t.Cleanup(func() {
		list, err := rt.List(bg)
		for _, info := range list {
			pod, oerr := rt.Open(info.ID)
			if oerr == nil {
				oerr = supervisor.Open(pod, b.Supervisor).Remove(bg, sandbox.StopOptions{Grace: -1})
			}
			err = errors.Join(err, oerr)
		}
		if err := errors.Join(err, rt.Close()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) decode(yaml string) *Manifests {
	b.Helper()
	m, err := Decode([]Source{{"test.yaml", []byte(yaml)}}, DecodeOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// apply applies a text, and returns what was said.
func (b *bench) apply(yaml string, opts ApplyOptions) string {
	b.Helper()
	said, _, err := b.try(yaml, opts)
	if err != nil {
		b.Fatal(err)
	}
	return said
}

// try is apply, and returns notes and the error too.
func (b *bench) try(yaml string, opts ApplyOptions) (said, notes string, err error) {
	b.Helper()
	o := b.Options
	o.Say = func(line string) { said += line + "\n" }
	o.Note = func(line string) { notes += line + "\n" }
	err = Apply(bg, b.decode(yaml), o, opts)
	return said, notes, err
}

func (b *bench) pod(name string) *supervisor.Pod {
	b.Helper()
	pod, err := b.rt.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	return supervisor.Open(pod, b.Supervisor)
}

// logs returns what a container has written, to its end.
func (b *bench) logs(pod, name string) string {
	b.Helper()
	c, err := b.pod(pod).Container(name)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(bg, 20*time.Second)
	defer cancel()
	for {
		s, err := b.pod(pod).Status()
		if err != nil {
			b.Fatal(err)
		}
		if ended(s, name) {
			break
		}
		if ctx.Err() != nil {
			b.Fatalf("container %s has not ended: %+v%s", name, s, because(s))
		}
		time.Sleep(10 * time.Millisecond)
	}
	var text strings.Builder
	err = c.Logs(ctx, supervisor.LogOptions{}, func(e supervisor.LogEntry) error {
		text.Write(e.Text)
		if !e.Partial {
			text.WriteByte('\n')
		}
		return nil
	})
	if err != nil {
		s, _ := b.pod(pod).Status()
		b.Fatalf("logs of %s: %v%s", name, err, because(s))
	}
	return text.String()
}

func ended(s *supervisor.PodStatus, name string) bool {
	for _, list := range [][]supervisor.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for _, c := range list {
			if c.Name == name {
				return c.State.Terminated != nil || c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff"
			}
		}
	}
	return false
}

// roots are images that are root directories: busybox in each, and podtalk in that which is
// called so.
type roots struct{ t *testing.T }

func (r roots) Ensure(_ context.Context, ref string, _ corev1.PullPolicy, _ [][]byte) (Image, error) {
	switch {
	case strings.Contains(ref, "absent"):
		return nil, fmt.Errorf("image %q: no such image", ref)
	case strings.Contains(ref, "podtalk"):
		return root{podtalk(r.t), ImageConfig{Entrypoint: []string{"/podtalk"}, ID: "sha256:podtalk"}}, nil
	case strings.Contains(ref, "nobody"):
		return root{busybox(r.t), ImageConfig{User: "nobody"}}, nil
	}
	return root{busybox(r.t), ImageConfig{Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}, ID: "sha256:busybox"}}, nil
}

type root struct {
	dir    string
	config ImageConfig
}

func (r root) Config() ImageConfig { return r.config }

func (r root) Settle(s *supervisor.Spec, u User) error {
	s.OCI.Root.Path = r.dir
	p := &s.OCI.Process.User
	if u.Name != "" {
		if _, err := fmt.Sscan(u.Name, &p.UID); err != nil {
			return err
		}
	}
	if u.Group != nil {
		p.GID = *u.Group
	}
	p.AdditionalGids = u.Groups
	return nil
}

func (r root) Mount(destination, subPath string) (specs.Mount, error) {
	return specs.Mount{Destination: destination, Type: "bind", Source: filepath.Join(r.dir, subPath), Options: []string{"rbind", "ro"}}, nil
}

var (
	mu    sync.Mutex
	built []byte
)

// podtalk returns a root with nothing but podtalk in it.
func podtalk(t *testing.T) string {
	mu.Lock()
	defer mu.Unlock()
	dir := t.TempDir()
	name := filepath.Join(dir, "podtalk")
	if built == nil {
		cmd := exec.Command("go", "build", "-o", name, "../examples/podtalk")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var err error
		if built, err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(name, built, 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// busybox returns a root with busybox under all its names.
func busybox(t *testing.T) string {
	mu.Lock()
	defer mu.Unlock()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/bin/busybox")
	if err == nil {
		err = errors.Join(os.Mkdir(filepath.Join(dir, "bin"), 0o755), os.WriteFile(filepath.Join(dir, "bin/busybox"), text, 0o755),
			os.Mkdir(filepath.Join(dir, "tmp"), 0o1777), os.Chmod(filepath.Join(dir, "tmp"), 0o1777))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields("sh cat ls id stat hostname env sleep grep ip nslookup ps head touch mkdir echo wc tr sort test df dd awk nc httpd mount umount chmod true false sed date od kill pwd printenv ipcs readlink") {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
