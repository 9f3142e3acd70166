// Package examples holds programs that embed podbox. Its tests run them.
package examples

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/supervisor"
)

// superviseWord is the word on its command line that makes the test program the
// supervisor of a pod.
const superviseWord = "supervise"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == superviseWord {
		if err := supervisor.Serve(context.Background(), os.Args[2:], os.NewFile(3, "ready"), supervisor.Options{}); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
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

// Two containers of one root directory meet on the pod's localhost and by its volume.
func TestToyPod(t *testing.T) {
	testenv.NeedRoot(t)
	toy, rootfs := build(t, "toypod"), makeRootfs(t, build(t, "podtalk"))
	root := filepath.Join(t.TempDir(), "root")
	before := testenv.Look(t, root)
	for _, test := range []struct {
		first, second string
		want          string // a regular expression
		status        int
	}{
		{"/podtalk file-read /box/letter", "/podtalk file-write /box/letter hello", `^hello\n$`, 0},
		{"/podtalk tcp-serve localhost:80", "/podtalk tcp-dial localhost:80 hello", `\npid 1 heard "hello"\n`, 0},
		{"/podtalk mq-produce /talk 0", "/podtalk mq-consume /talk", `^exit\nexit\n$`, 0},
		{"/podtalk nothing", "/podtalk addresses", `unknown command "nothing"`, 2},
		{"/podtalk tcp-serve localhost:80", "/nothing", `exec /nothing: no such file or directory\n$`, 125},
	} {
		cmd := exec.Command(toy, "-root", root, rootfs, test.first, test.second)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != test.status || !regexp.MustCompile(test.want).Match(out) {
			t.Errorf("%s, %s: %v, want status %d; it printed:\n%s\nwant %s", test.first, test.second, err, test.status, out, test.want)
		}
		before.Same(t, root, "after "+test.second)
	}
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

// makeRootfs makes a root directory in which there is one program.
func makeRootfs(t *testing.T, program string) string {
	t.Helper()
	rootfs := t.TempDir()
	b, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(filepath.Join(rootfs, filepath.Base(program)), b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rootfs
}

// makeBundle writes an OCI bundle whose root filesystem is one program.
func makeBundle(t *testing.T, program string, args []string) string {
	t.Helper()
	bundle, rootfs := t.TempDir(), makeRootfs(t, program)
	spec := specs.Spec{
		Version: specs.Version, Hostname: "of-the-bundle",
		Root:    &specs.Root{Path: rootfs},
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
	b, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(bundle, "config.json"), b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}
