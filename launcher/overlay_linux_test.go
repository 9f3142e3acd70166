package launcher

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image/overlay"
	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/sandbox"
)

// overlayRoot returns what makes an overlay of directories the root of a container.
func overlayRoot(t testing.TB, dirs ...string) func(userns *os.File) (*os.File, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/work", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/upper", 0o755); err != nil {
		t.Fatal(err)
	}
	return func(userns *os.File) (*os.File, error) {
		return overlay.New(overlay.Options{Lower: dirs, Upper: dir + "/upper", Work: dir + "/work", IDMap: userns, Volatile: true})
	}
}

// A container's root may be made for it.
func TestMadeRoot(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	base, top := newRootfs(t), t.TempDir()
	write(t, top+"/etc/motd", "above\n", 0o644)
	write(t, base+"/etc/motd", "below\n", 0o644)
	for _, tt := range []struct {
		name, script, want string
		change             func(*specs.Spec) *specs.Spec
	}{
		{"files", "cat /etc/motd; echo new >/etc/motd; cat /etc/motd", "above\nnew\n", nil},
		{"devices are dead", "stat -c %a /dead; cat /dead 2>&1", "666\ncat: can't open '/dead': Permission denied\n", nil},
		{"mount table", "grep -c / /proc/self/mountinfo; grep ' / / ' /proc/self/mountinfo | grep -o 'nodev.* - overlay'", "", nil},
		{"read-only", "touch /x 2>&1; cat /etc/motd", "touch: /x: Read-only file system\nabove\n", func(s *specs.Spec) *specs.Spec {
			s.Root.Readonly = true
			return s
		}},
		{"user namespace", "stat -c '%u %g' / /bin/busybox; echo x >/x; stat -c '%u %g' /x; chown 1000 /bin/busybox && stat -c '%u' /bin/busybox", "0 0\n0 0\n0 0\n1000\n", inUserNamespace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := container(t, "/nowhere", tt.script)
			if tt.change != nil {
				spec = tt.change(spec)
			}
			makeRoot := overlayRoot(t, base, top)
			if tt.name == "devices are dead" {
				spec.Process.Args[2] = strings.ReplaceAll(tt.script, "/dead", "/etc/dead")
				if err := unix.Mknod(top+"/etc/dead", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(top+"/etc/dead", 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if tt.name == "user namespace" && testenv.Before(t, 5, 19) {
				if _, err := Launch(bg, pod, spec, Options{Root: makeRoot}); !errors.Is(err, ErrNotSupported) {
					t.Errorf("got %v, want ErrNotSupported", err)
				}
				return
			}
			got, status := outputOf(t, pod, spec, Options{Root: func(userns *os.File) (*os.File, error) {
				if (userns != nil) != (tt.name == "user namespace") {
					t.Errorf("user namespace %v", userns)
				}
				m, err := makeRoot(userns)
				if userns != nil && err == nil {
					// As a store does, whose upper directory is like the image's.
					err = os.Chown(fmt.Sprintf("/proc/self/fd/%d", m.Fd()), 100000, 300000)
				}
				return m, err
			}})
			want := strings.ReplaceAll(tt.want, "'/dead'", "'/etc/dead'")
			if tt.name == "mount table" {
				if !strings.Contains(got, "nodev") {
					t.Errorf("root is not nodev: %q", got)
				}
				return
			}
			if got != want || status != 0 && tt.name != "devices are dead" {
				t.Errorf("status %d, got %q, want %q", status, got, want)
			}
		})
	}
	broken := errors.New("broken")
	_, err := Launch(bg, pod, container(t, "/nowhere", "true"), Options{Root: func(*os.File) (*os.File, error) { return nil, broken }})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of who makes the root", err)
	}
}

// outputOf is output with other options.
func outputOf(t testing.TB, pod *sandbox.Sandbox, spec *specs.Spec, opts Options) (string, int) {
	t.Helper()
	var out bytes.Buffer
	opts.IO = IO{Stdout: &out, Stderr: &out}
	p, err := Launch(bg, pod, spec, opts)
	if err != nil {
		t.Fatal(err)
	}
	status, err := p.Wait(bg)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), status
}

// A mount may be an overlay of directories of the host.
func TestOverlayMount(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	a, b, c, dir := t.TempDir(), t.TempDir(), t.TempDir()+"/with:colon", t.TempDir()
	for i, d := range []string{a, b, c} {
		write(t, d+"/all", fmt.Sprintln(i), 0o644)
		write(t, fmt.Sprintf("%s/%d", d, i), fmt.Sprintln(i), 0o644)
	}
	for _, d := range []string{"/upper", "/work"} {
		if err := os.Mkdir(dir+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lower := "lowerdir=" + strings.Join([]string{strings.ReplaceAll(c, ":", `\:`), b, a}, ":")
	for _, tt := range []struct {
		name, script, want string
		options            []string
	}{
		{"read-only", "cat /m/all /m/0 /m/1 /m/2; touch /m/x 2>&1", "2\n0\n1\n2\ntouch: /m/x: Read-only file system\n", []string{lower}},
		{"one", "cat /m/all", "0\n", []string{"lowerdir=" + a}},
		{"writable", "echo new >/m/all; cat /m/all", "new\n", []string{lower, "upperdir=" + dir + "/upper", "workdir=" + dir + "/work", "volatile"}},
		{"written", "cat /m/all", "new\n", []string{"lowerdir=" + dir + "/upper:" + a}},
		{"noexec", "cat /proc/self/mountinfo | grep -o ' /m .*noexec'", " /m ro,noexec\n", []string{lower, "noexec", "ro"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := container(t, root, tt.script)
			s.Mounts = append(s.Mounts, specs.Mount{Type: "overlay", Source: "image", Destination: "/m", Options: tt.options})
			got, _ := output(t, pod, s, nil)
			if tt.name == "noexec" {
				got = strings.ReplaceAll(got, ",relatime", "")
				if !strings.HasPrefix(got, " /m ro,") || !strings.Contains(got, "noexec") {
					t.Errorf("got %q", got)
				}
				return
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for option, want := range map[string]error{
		"lowerdir=":                  ErrInvalid,
		"ro":                         ErrInvalid,
		"lowerdir=relative":          ErrInvalid,
		"lowerdir=/a::/b":            ErrInvalid,
		lower + "\x00":               ErrInvalid,
		"lowerdir=/nowhere":          os.ErrNotExist,
		"lowerdir=/nowhere:/nowhere": os.ErrNotExist,
		"metacopy=on":                ErrNotSupported,
	} {
		s := container(t, root, "true")
		s.Mounts = append(s.Mounts, specs.Mount{Type: "overlay", Destination: "/m", Options: []string{option}})
		if _, err := Start(bg, pod, s, IO{}); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", option, err, want)
		}
	}
}
