// Package examples holds programs that embed podbox. Its tests run them.
package examples

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.Private()
	os.Exit(m.Run())
}

func build(t *testing.T, name string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", bin, "./"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// A server and a client, programs of their own, meet on the pod's localhost.
func TestToyRuntime(t *testing.T) {
	testenv.NeedRoot(t)
	toy, talk := build(t, "toyruntime"), build(t, "podtalk")
	root := filepath.Join(t.TempDir(), "root")
	before := testenv.Look(t, root)
	cmd := exec.Command(toy, "-root", root, talk, "tcp-serve", "localhost:80", "+", talk, "tcp-dial", "localhost:80", "hello")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "hello") {
		t.Errorf("%v: %s", err, out)
	}
	before.Same(t, root, "after the toy runtime")

	cmd = exec.Command(toy, "-root", root, "sh", "-c", "exit 7", "+", "true")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("exit status 7 is passed on as: %v", err)
	}
	cmd = exec.Command(toy, "-root", root, "true", "+", "/nonexistent")
	if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "no such file") {
		t.Errorf("a program that is not there: %s", out)
	}
	before.Same(t, root, "after failures")
}

// A container of runc joins a pod, twice, and sees the same address.
func TestOCIRuntime(t *testing.T) {
	testenv.NeedRoot(t)
	runc, err := exec.LookPath("runc")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI has no runc")
		}
		t.Skip("no runc on this machine")
	}
	bundle := makeBundle(t, build(t, "podtalk"), []string{"/podtalk", "addresses"})
	root := filepath.Join(t.TempDir(), "root")
	before := testenv.Look(t, root)
	cmd := exec.Command(build(t, "ociruntime"), "-root", root, "-runtime", runc, bundle)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s%s", err, stdout.String(), stderr.String())
	}
	if n := strings.Count(stdout.String(), "10.88.0.2"); n != 2 {
		t.Errorf("two containers saw:\n%s", stdout.String())
	}
	before.Same(t, root, "after runc")
}

// makeBundle writes an OCI bundle whose root filesystem is one program.
func makeBundle(t *testing.T, program string, args []string) string {
	t.Helper()
	bundle := t.TempDir()
	rootfs := filepath.Join(bundle, "rootfs")
	for _, dir := range []string{rootfs, filepath.Join(rootfs, "proc"), filepath.Join(rootfs, "dev"), filepath.Join(rootfs, "sys")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(rootfs, filepath.Base(program)), b, 0o755); err != nil {
		t.Fatal(err)
	}
	spec := specs.Spec{
		Version: specs.Version, Hostname: "of-the-bundle",
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/"}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace},
			{Type: specs.MountNamespace},
			{Type: specs.NetworkNamespace},
			{Type: specs.IPCNamespace},
			{Type: specs.UTSNamespace},
		}},
	}
	if b, err = json.Marshal(spec); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return bundle
}
