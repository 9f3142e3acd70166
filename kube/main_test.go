package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/image/ingest"
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
	if len(os.Args) == 5 && os.Args[1] == "apply" {
		os.Exit(applyAndEnd(os.Args[2:]))
	}
	testenv.Private()
	os.Exit(m.Run())
}

var bg = context.Background()

// applyAndEnd applies a file: "ROOT STATE FILE".
func applyAndEnd(words []string) int {
	rt, err := sandbox.Open(sandbox.Options{Root: words[0], StateDir: words[1]})
	if err == nil {
		var sources []Source
		var m *Manifests
		var store *image.Store
		if sources, err = Sources(words[2:], nil); err == nil {
			m, err = Decode(sources, DecodeOptions{})
		}
		if err == nil {
			store, err = supervisor.Images(rt)
		}
		if err == nil {
			o := Options{Runtime: rt, Images: Store{Store: store}, Supervisor: supervised}
			err = errors.Join(Apply(bg, m, o, ApplyOptions{}), rt.Close())
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

var supervised = supervisor.Options{Command: []string{"/proc/self/exe", "supervise"}}

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
		Runtime: rt, Images: Store{Store: importImages(t, rt)},
		Supervisor: supervised,
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
	ctx, cancel := context.WithTimeout(bg, testenv.Patience(20*time.Second))
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
	text, err := b.log(pod, name)
	if err != nil {
		s, _ := b.pod(pod).Status()
		b.Fatalf("logs of %s: %v%s", name, err, because(s))
	}
	return text
}

// log returns what a container has written by now.
func (b *bench) log(pod, name string) (string, error) {
	c, err := b.pod(pod).Container(name)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	err = c.Logs(bg, supervisor.LogOptions{}, func(e supervisor.LogEntry) error {
		text.Write(e.Text)
		if !e.Partial {
			text.WriteByte('\n')
		}
		return nil
	})
	return text.String(), err
}

// saw waits until a container has written something.
func (b *bench) saw(pod, name, want string) {
	b.Helper()
	deadline := time.Now().Add(testenv.Patience(10 * time.Second))
	for {
		text, err := b.log(pod, name)
		if strings.Contains(text, want) {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("container %s has not written %q, but %q (%v)", name, want, text, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
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

// importImages puts images into the runtime's store: what they are called is in the code.
func importImages(t *testing.T, rt *sandbox.Runtime) *image.Store {
	t.Helper()
	store, err := supervisor.Images(rt)
	if err != nil {
		t.Fatal(err)
	}
	add := func(dir string, config image.Config, names ...string) {
		if _, err := ingest.ImportDir(bg, store, dir, config, ingest.Options{Names: names}); err != nil {
			t.Fatal(err)
		}
	}
	box := busybox(t)
	add(box, image.Config{Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}}, "localhost/busybox:pods", "busybox:1", "busybox:2")
	add(box, image.Config{User: "nobody"}, "nobody:1")
	data := t.TempDir()
	if err := errors.Join(os.Chmod(data, 0o755), os.WriteFile(filepath.Join(data, "hello"), []byte("of the image\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	add(data, image.Config{}, "data:1")
	return store
}

// importPodtalk adds an image with nothing but podtalk in it.
func importPodtalk(t *testing.T, store *image.Store) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "podtalk"), "../examples/podtalk")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, err := ingest.ImportDir(bg, store, dir, image.Config{Entrypoint: []string{"/podtalk"}}, ingest.Options{Names: []string{"localhost/podtalk:pods"}})
	if err != nil {
		t.Fatal(err)
	}
}

// busybox returns a root with busybox under all its names.
func busybox(t *testing.T) string {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/bin/busybox")
	if err == nil {
		err = errors.Join(os.Mkdir(filepath.Join(dir, "bin"), 0o755), os.WriteFile(filepath.Join(dir, "bin/busybox"), text, 0o755),
			os.Mkdir(filepath.Join(dir, "etc"), 0o755),
			os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nworker:x:1000:1001::/home:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"), 0o644),
			os.WriteFile(filepath.Join(dir, "etc/group"), []byte("root:x:0:\nworker:x:1001:\nextra:x:555:worker\n"), 0o644),
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
