package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/image/ingest"
	"github.com/podbox/podbox/launcher"
)

// newImage puts an image with busybox into the store of the pod's runtime: with
// /data/first, of user 7.
func newImage(t testing.TB, p *Pod) *image.Image {
	t.Helper()
	root := newRootfs(t)
	for _, name := range []string{"stat", "touch", "chown", "grep"} {
		if err := os.Symlink("busybox", root+"/bin/"+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(root+"/data/deep", 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/data/first", []byte("first\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/data", "/data/first"} {
		if err := os.Chown(root+name, 7, 8); err != nil {
			t.Fatal(err)
		}
	}
	// As other images have.
	for _, dir := range []string{"dev", "proc", "sys", "etc"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"hosts", "hostname", "resolv.conf"} {
		if err := os.WriteFile(filepath.Join(root, "etc", file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	store, err := Images(p.Runtime())
	if err != nil {
		t.Fatal(err)
	}
	img, err := ingest.ImportDir(bg, store, root, image.Config{}, ingest.Options{Names: []string{"busy"}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// runOutput runs a container in the foreground and returns what it wrote.
func runOutput(t testing.TB, p *Pod, spec Spec) string {
	t.Helper()
	var out bytes.Buffer
	f, err := p.Run(bg, spec, launcher.IO{Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Wait(bg); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// onDisk returns what containers of a pod have on the disk.
func onDisk(t testing.TB, p *Pod) []string {
	t.Helper()
	dir, err := p.containersState()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestImage(t *testing.T) {
	p := newPod(t)
	img := newImage(t, p)
	script := "cat /changed /data/first; echo changed >/changed; echo more >>/data/first; cat /changed /data/first"
	want := "cat: can't open '/changed': No such file or directory\nfirst\nchanged\nfirst\nmore\n"
	for range 2 {
		spec := shell(img.ID, script)
		spec.Remove = true
		if got := runOutput(t, p, spec); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if left := onDisk(t, p); len(left) > 0 {
			t.Errorf("left on the disk: %q", left)
		}
	}
	mapped := shell(img.ID, "stat -c '%u %g' /bin/busybox /data; echo >/new; stat -c %u /new; chown 9 /data && stat -c %u /data")
	mapped.Remove = true
	l := mapped.OCI.Linux
	l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	l.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 1000}}
	l.GIDMappings = l.UIDMappings
	if got, want := runOutput(t, p, mapped), "0 0\n7 8\n0\n9\n"; got != want {
		t.Errorf("in a user namespace: got %q, want %q", got, want)
	}
}

// A container is started anew on the image's files; its image volumes stay.
func TestImageRestart(t *testing.T) {
	p := newPod(t)
	img := newImage(t, p)
	spec := shell(img.ID, "cat /changed 2>/dev/null; echo changed >/changed; echo more >>/data/first; cat /data/first; stat -c '%u %g %a' /data /data/first /data/deep /new; echo --; exit 1")
	spec.ImageVolumes = []string{"/data", "/new"}
	spec.Restart = Restart{Policy: OnFailure, Retries: 2, Delay: time.Millisecond, MaxDelay: time.Millisecond}
	c, err := p.RunBackground(bg, spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(bg); err != nil {
		t.Fatal(err)
	}
	modes := "7 8 750\n7 8 640\n0 0 750\n0 0 755\n--\n"
	want := "first\nmore\n" + modes + "first\nmore\nmore\n" + modes + "first\nmore\nmore\nmore\n" + modes
	if got := strings.ReplaceAll(readLog(t, c), "stdout: ", ""); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	store, err := Images(p.Runtime())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Remove(bg, "busy", image.RemoveOptions{Force: true}); !errors.Is(err, image.ErrInUse) {
		t.Errorf("image of a container removed: %v", err)
	}
	if done, err := store.Prune(bg, true); err != nil || len(done.Images) > 0 || done.Layers > 0 {
		t.Errorf("image of a container pruned: %+v, %v", done, err)
	}
	// Nothing more is used of it when the container is gone.
	if err := c.Remove(bg, false, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if left := onDisk(t, p); len(left) > 0 {
		t.Errorf("left on the disk: %q", left)
	}
	done, err := store.Remove(bg, "busy", image.RemoveOptions{})
	if err != nil || len(done.Images) != 1 || done.Layers != 1 {
		t.Errorf("remove: %+v, %v", done, err)
	}
	if _, err := p.RunBackground(bg, spec); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("run an image that is gone: %v, want ErrNotFound", err)
	}
	if left := onDisk(t, p); len(left) > 0 {
		t.Errorf("left on the disk: %q", left)
	}
}

// What is mounted where the image has a volume takes its place.
func TestImageVolumeReplaced(t *testing.T) {
	p := newPod(t)
	spec := shell(newImage(t, p).ID, "ls -a /data; grep -c ' /data ' /proc/self/mountinfo")
	spec.Remove, spec.ImageVolumes = true, []string{"/data"}
	spec.OCI.Mounts = append(spec.OCI.Mounts, specs.Mount{Destination: "/data/", Type: "tmpfs", Source: "tmpfs"})
	if got, want := runOutput(t, p, spec), ".\n..\n1\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Who executes another program in a container finds its files.
func TestImageExec(t *testing.T) {
	p := newPod(t)
	c, err := p.RunBackground(bg, shell(newImage(t, p).ID, "echo here >/here; exec sleep 100"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	deadline := time.Now().Add(10 * time.Second)
	for out.String() != "here\n" && time.Now().Before(deadline) {
		out.Reset()
		proc, err := c.Exec(bg, func(s *specs.Spec) error {
			if _, err := os.Stat(s.Root.Path + "/data/first"); err != nil {
				return err
			}
			s.Process.Args = []string{"/bin/cat", "/here"}
			return nil
		}, launcher.Options{IO: launcher.IO{Stdout: &out}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := proc.Wait(bg); err != nil {
			t.Fatal(err)
		}
	}
	if out.String() != "here\n" {
		t.Errorf("got %q", out.String())
	}
}

// Another runtime gets the image's files too, and the host no mount.
func TestImageOther(t *testing.T) {
	runtime, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("runc is not installed")
	}
	p := newPod(t)
	before := mountinfo(t)
	spec := shell(newImage(t, p).ID, "cat /data/first; echo x >/x; cat /x; echo more >>/v/f; cat /v/f")
	spec.Runtime, spec.Remove, spec.ImageVolumes = runtime, true, []string{"/v"}
	if got, want := runOutput(t, p, spec), "first\nx\nmore\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	spec = shell(spec.Image, "exec sleep 100")
	spec.Runtime = runtime
	c, err := p.RunBackground(bg, spec)
	if err != nil {
		t.Fatal(err)
	}
	if after := mountinfo(t); after != before {
		t.Errorf("mounts on the host:\n%s\nbefore:\n%s", after, before)
	}
	if err := c.Remove(bg, true, StopOptions{Grace: -1}); err != nil {
		t.Error(err)
	}
}

func mountinfo(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Whoever runs a container on an image is killed at any moment: it can be cleared away.
func TestImageKilled(t *testing.T) {
	p := newPod(t)
	img := newImage(t, p)
	store, err := Images(p.Runtime())
	if err != nil {
		t.Fatal(err)
	}
	for i := range rounds(40) {
		cmd := p.command("run", img.ID, "exec sleep 100", "--rm")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		if err := cmd.Process.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		for _, dir := range onDisk(t, p) { // as if it were old
			if err := os.Chtimes(dir, time.Time{}, time.Now().Add(-2*leftover)); err != nil {
				t.Fatal(err)
			}
		}
		for deadline := time.Now().Add(10 * time.Second); ; { // the program may be on its way out
			if _, err := p.Sweep(bg); err != nil {
				t.Fatal(err)
			}
			list, err := p.List()
			if err == nil && len(list) == 0 && len(onDisk(t, p)) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("round %d: left: %v, %v, %q", i, list, err, onDisk(t, p))
			}
			time.Sleep(10 * time.Millisecond)
		}
		if done, err := store.Prune(bg, false); err != nil || len(done.Images) > 0 {
			t.Fatalf("round %d: %+v, %v", i, done, err)
		}
	}
	if _, err := store.Remove(bg, img.ID, image.RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

func TestImageSpec(t *testing.T) {
	id := "sha256:" + strings.Repeat("a", 64)
	for name, spec := range map[string]Spec{
		"no ID":             {Image: "nginx", OCI: launcher.Default("", "x")},
		"a root too":        {Image: id, OCI: launcher.Default("/srv", "x")},
		"no root":           {Image: id, OCI: &specs.Spec{Process: &specs.Process{}}},
		"volumes only":      {ImageVolumes: []string{"/x"}, OCI: launcher.Default("/srv", "x")},
		"relative volume":   {Image: id, ImageVolumes: []string{"x"}, OCI: launcher.Default("", "x")},
		"volume of nothing": {Image: id, ImageVolumes: []string{"/a/.."}, OCI: launcher.Default("", "x")},
	} {
		if err := spec.Validate(); !errors.Is(err, image.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	good := Spec{Image: id, ImageVolumes: []string{"/x"}, OCI: launcher.Default("", "x")}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func BenchmarkImage(b *testing.B) {
	p := newPod(b)
	img := newImage(b, p)
	for _, on := range []string{newRootfs(b), img.ID} {
		b.Run(fmt.Sprintf("%.6s", on), func(b *testing.B) {
			for b.Loop() {
				spec := shell(on, "true")
				spec.Remove = true
				runOutput(b, p, spec)
			}
		})
	}
}
