package launcher

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/memfd"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/reaper"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/sandbox"
)

// A program that cannot be executed is an error that says why, with an init or without,
// in a new container or one that runs.
func TestBrokenPrograms(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	write(t, root+"/bin/plain", "#!/bin/sh\n", 0o644)
	write(t, root+"/bin/lost", "#!/nonexistent/sh\n", 0o755)
	write(t, root+"/bin/garbage", "\x00\x01garbage", 0o755)
	write(t, root+"/bin/empty", "", 0o755)
	write(t, root+"/bin/script", "#!/bin/sh -e\necho \"$0 $1\"", 0o755)
	write(t, root+"/bin/secret", "#!/bin/sh\n", 0o700)
	write(t, root+"/cwd/here", "#!/bin/sh\necho here\n", 0o755)
	foreign := []byte(nil)
	if b, err := os.ReadFile(root + "/bin/busybox"); err == nil {
		foreign = append(foreign, b[:4096]...)
		foreign[18], foreign[19] = 0xf3, 0 // EM_RISCV
	}
	write(t, root+"/bin/foreign", string(foreign), 0o755)
	init, err := memfd.New("init", reaper.Binary())
	if err != nil {
		t.Fatal(err)
	}
	defer init.Close()
	b := newBox(t, pod, container(t, root, ""))
	for _, tt := range []struct {
		args []string
		uid  uint32
		want unix.Errno
		text string
	}{
		{[]string{"nosuchprogram"}, 0, unix.ENOENT, "exec nosuchprogram: no such file or directory"},
		{[]string{"/bin/nosuchprogram"}, 0, unix.ENOENT, "exec /bin/nosuchprogram: no such file or directory"},
		{[]string{"/bin/sh/x"}, 0, unix.ENOENT, ""},
		{[]string{"here"}, 0, unix.ENOENT, ""}, // in the working directory, which is not searched
		{[]string{"plain"}, 0, unix.EACCES, "exec /bin/plain: permission denied"},
		{[]string{"/bin/plain"}, 0, unix.EACCES, ""},
		{[]string{"/bin"}, 0, unix.EACCES, ""},
		{[]string{"/bin/secret"}, 1000, unix.EACCES, ""},
		{[]string{"/bin/lost"}, 0, unix.ENOENT, ""},
		{[]string{"/bin/garbage"}, 0, unix.ENOEXEC, "exec /bin/garbage: exec format error"},
		{[]string{"/bin/empty"}, 0, unix.ENOEXEC, ""},
		{[]string{"/bin/foreign"}, 0, unix.ENOEXEC, ""},
		{[]string{"true", strings.Repeat("x", 1<<18)}, 0, unix.E2BIG, ""},
		{[]string{"script", "x"}, 0, 0, "/bin/script x\n"},
		{[]string{"./here"}, 0, 0, "here\n"},
	} {
		for _, how := range []string{"new", "exec", "init"} {
			s := b.process(tt.args...)
			s.Process.Cwd, s.Process.User.UID = "/cwd", tt.uid
			var out bytes.Buffer
			var p *Process
			var err error
			opts := Options{IO: IO{Stdout: &out, Stderr: &out}}
			switch how {
			case "new":
				p, err = Launch(bg, pod, s, opts)
			case "exec":
				p, err = Exec(bg, pod, b.pidfd, s, opts)
			case "init":
				opts.Init = init
				p, err = Launch(bg, pod, s, opts)
			}
			status := 0
			if err == nil {
				status, _ = p.Wait(bg)
			}
			var ee *spawn.ExecError
			switch {
			case tt.want == 0:
				if err != nil || status != 0 || out.String() != tt.text {
					t.Errorf("%s %.40q: status %d, %v: %q", how, tt.args, status, err, out.String())
				}
			case how == "init" && err == nil:
				// What the init alone finds out it tells by its status.
				if status != 126 && status != 127 {
					t.Errorf("%s %.40q: status %d", how, tt.args, status)
				}
			case !errors.Is(err, tt.want) || !errors.As(err, &ee) || how != "init" && !strings.HasSuffix(err.Error(), tt.text):
				t.Errorf("%s %.40q: %v, want %v", how, tt.args, err, tt.want)
			}
		}
	}
}

func TestBrokenRoots(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	good := newRootfs(t)
	bare := func(dirs ...string) string {
		dir := t.TempDir()
		hostMount(t, dir)
		for _, d := range append(dirs, "bin") {
			if err := os.Mkdir(dir+"/"+d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	write(t, good+"/file", "", 0o644)
	for _, tt := range []struct {
		root, want string
		is         error
	}{
		{"/nonexistent/root", `root.path "/nonexistent/root": no such file or directory`, unix.ENOENT},
		{good + "/file", "root.path", unix.ENOTDIR},
		{t.TempDir(), "exec /bin/sh: no such file or directory", unix.ENOENT},
		{bare(), "mount /proc", unix.EROFS},
		{bare("proc"), "mount /dev", unix.EROFS},
		{bare("proc", "dev"), "mount /sys", unix.EROFS},
		{bare("proc", "dev", "sys"), "mount /etc/", unix.EROFS},
		{"relative", "root.path", ErrInvalid},
		{"", "root.path", ErrInvalid},
		{"/a\x00b", "root.path", ErrInvalid},
	} {
		for _, more := range []bool{false, true} {
			s := container(t, tt.root, "true")
			s.Process.Terminal, s.Root.Readonly = more, more
			if _, err := Start(bg, pod, s, IO{}); !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q: %v, want %s", tt.root, err, tt.want)
			}
		}
	}
	// A read-only root that has all directories is a good one.
	dir := bare("proc", "dev", "sys", "etc", "v")
	s := container(t, dir, "")
	s.Process.Args = []string{"/v/busybox", "sh", "-c", "echo fine"}
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: good + "/bin", Destination: "/v"})
		_ = name
	}
	s.Mounts = append(s.Mounts, specs.Mount{Type: "tmpfs", Destination: "/etc"})
	if got, _ := output(t, pod, s, nil); got != "fine\n" {
		t.Errorf("read-only root: %q", got)
	}
}

// Containers that were started, well and badly in all ways, leave nothing: no process,
// mount, file, descriptor, thread, goroutine or cgroup.
func TestNothingLeftOfContainers(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	base := inUserNamespace(container(t, root, "true"))
	own(t, root, 100000, 300000)
	for _, dir := range []string{"/tmp", "/proc", "/sys", "/dev", "/etc", "/own"} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	init, err := memfd.New("init", reaper.Binary())
	if err != nil {
		t.Fatal(err)
	}
	defer init.Close()
	b := newBox(t, pod, container(t, root, ""))
	no := errors.New("no")
	ways := []struct {
		fails  bool
		change func(*specs.Spec, *Options)
	}{
		{false, func(*specs.Spec, *Options) {}},
		{false, func(s *specs.Spec, o *Options) { o.Stdin, o.Stdout = strings.NewReader("x"), io.Discard }},
		{false, func(s *specs.Spec, o *Options) { s.Process.Terminal = true }},
		{false, func(s *specs.Spec, o *Options) { o.Init = init }},
		{false, func(s *specs.Spec, o *Options) { o.Detached = true }},
		{false, func(s *specs.Spec, o *Options) { o.Born = func(proc.Identity) error { return nil } }},
		{false, func(s *specs.Spec, o *Options) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/true"}}} }},
		{true, func(s *specs.Spec, o *Options) { s.Process.Args = []string{"nosuchprogram"} }},
		{true, func(s *specs.Spec, o *Options) { s.Process.Args, o.Init = []string{"nosuchprogram"}, init }},
		{true, func(s *specs.Spec, o *Options) { o.Born = func(proc.Identity) error { return no } }},
		{true, func(s *specs.Spec, o *Options) { s.Root.Path = "/nonexistent" }},
		{true, func(s *specs.Spec, o *Options) { s.Process.Terminal, s.Root.Path = true, "/nonexistent" }},
		{true, func(s *specs.Spec, o *Options) {
			s.Process.Terminal, s.Process.Cwd = true, "/bin/sh/x"
		}},
		{true, func(s *specs.Spec, o *Options) { s.Process.Cwd = "/bin/sh/x" }},
		{true, func(s *specs.Spec, o *Options) {
			s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: "/nonexistent", Destination: "/x"})
		}},
		{true, func(s *specs.Spec, o *Options) {
			s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: "/bin", Destination: "/bin/sh"})
		}},
		{true, func(s *specs.Spec, o *Options) {
			s.Mounts = append(s.Mounts, specs.Mount{Type: VolumeType, Source: "none", Destination: "/x"})
		}},
		{true, func(s *specs.Spec, o *Options) {
			s.Mounts = append(s.Mounts, specs.Mount{Type: "nosuchfs", Destination: "/x"})
		}},
		{true, func(s *specs.Spec, o *Options) { s.Mounts[0].Options = []string{"nosuchoption"} }},
		{true, func(s *specs.Spec, o *Options) { s.Linux.UIDMappings[1].ContainerID = 5 }},
		{true, func(s *specs.Spec, o *Options) {
			s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/false"}}}
		}},
		{true, func(s *specs.Spec, o *Options) { s.Hooks = &specs.Hooks{Poststart: []specs.Hook{{Path: "/bin/false"}}} }},
		{true, func(s *specs.Spec, o *Options) { s.Process.ApparmorProfile = "none" }},
		{true, func(s *specs.Spec, o *Options) { s.Process.Capabilities.Effective = Capabilities() }},
		{true, func(s *specs.Spec, o *Options) { s.Linux.Namespaces[0].Path = "/proc/self/ns/net" }},
	}
	n := 0
	once := func() {
		for i, way := range ways {
			s := *base
			process, linux, caps := *base.Process, *base.Linux, *base.Process.Capabilities
			s.Process, s.Linux, process.Capabilities = &process, &linux, &caps
			s.Root = &specs.Root{Path: root}
			s.Mounts = append([]specs.Mount(nil), base.Mounts...)
			linux.Namespaces = append([]specs.LinuxNamespace(nil), base.Linux.Namespaces...)
			linux.UIDMappings = append([]specs.LinuxIDMapping(nil), base.Linux.UIDMappings...)
			n++
			group := fmt.Sprintf("%s/nothing-%d", pod.Cgroup(), n)
			SetCgroup(&s, group, nil)
			var opts Options
			way.change(&s, &opts)
			p, err := Launch(bg, pod, &s, opts)
			if err == nil {
				_, _ = p.Wait(bg)
				for _, dir := range groupDirs(t, group) {
					_ = unix.Rmdir(dir) // for the caller to do
				}
			}
			if (err != nil) != way.fails {
				t.Errorf("way %d: %v", i, err)
			}
			if way.fails {
				_, _, err = b.exec(b.process("nosuchprogram"))
			} else {
				_, _, err = b.exec(b.process("true"))
			}
			if (err != nil) != way.fails {
				t.Errorf("way %d: exec: %v", i, err)
			}
		}
	}
	once()
	info, _ := pod.Info()
	dir := filepath.Dir(filepath.Dir(info.Dir))
	before, threads, goroutines, files := testenv.Look(t, dir), testenv.Threads(t), runtime.NumGoroutine(), listing(t, root)
	once()
	if !testing.Short() {
		once()
	}
	before.Same(t, dir, "after containers")
	if after := listing(t, root); after != files {
		t.Errorf("in the root: before\n%s\nafter\n%s", files, after)
	}
	for i := range 101 {
		if testenv.Threads(t) <= threads+4 && runtime.NumGoroutine() <= goroutines {
			break
		}
		if i == 100 {
			t.Errorf("%d threads, before %d; %d goroutines, before %d", testenv.Threads(t), threads, runtime.NumGoroutine(), goroutines)
		}
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
}

// 64 containers at once.
func TestManyContainersAtOnce(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	spec := container(t, root, "")
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			s := *spec
			process, linux := *spec.Process, *spec.Linux
			s.Process, s.Linux = &process, &linux
			s.Mounts = append([]specs.Mount(nil), spec.Mounts...)
			process.Args = []string{"sh", "-c", fmt.Sprintf("echo $$ %d >/dev/shm/%d; cat /dev/shm/%d; cd /proc; echo [0-9]*; exit %d", i, i, i, i)}
			SetCgroup(&s, fmt.Sprintf("%s/many%d", pod.Cgroup(), i), nil)
			var out bytes.Buffer
			p, err := Start(bg, pod, &s, IO{Stdout: &out})
			if err != nil {
				t.Error(err)
				return
			}
			if status, err := p.Wait(bg); status != i || err != nil || out.String() != fmt.Sprintf("1 %d\n1\n", i) {
				t.Errorf("status %d, %v: %q", status, err, out.String())
			}
		})
	}
	wg.Wait()
}
