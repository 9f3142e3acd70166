package launcher

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/sandbox"
)

// hostRoot opens the host's root at a descriptor that every child has too until it
// executes something, and returns paths by which a container could try to use that.
func hostRoot(t testing.TB) (paths []string) {
	t.Helper()
	low, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	high, err := spawn.DupHigh(int(low.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		low.Close()
		high.Close()
	})
	for _, f := range []*os.File{low, high} {
		for _, self := range []string{"self", "thread-self", "1"} {
			paths = append(paths, fmt.Sprintf("/proc/%s/fd/%d", self, f.Fd()))
		}
	}
	return paths
}

// A container's program may be a link to that of the calling process, or to the host's.
// If that were executed, others in the container could open the file, and change it
// later (CVE-2019-5736).
func TestProgramOfLauncher(t *testing.T) {
	for _, share := range [][]sandbox.Namespace{nil, {sandbox.Net, sandbox.IPC, sandbox.PID}} {
		pod := newPod(t, sandbox.Spec{Share: share})
		root := newRootfs(t)
		targets := []string{"/proc/self/exe", "/proc/thread-self/exe", "/proc/1/exe"}
		for _, dir := range hostRoot(t) {
			targets = append(targets, dir+"/bin/busybox", dir+"/../bin/busybox")
		}
		s := container(t, root, "")
		if share != nil {
			s.Linux.Namespaces = nil
		}
		b := newBox(t, pod, s)
		for i, target := range targets {
			link, script := fmt.Sprintf("/bin/link%d", i), fmt.Sprintf("/bin/script%d", i)
			addLinks(t, root, map[string]string{link: target})
			write(t, root+script, "#!"+target+"\n", 0o755)
			ways := [][]string{{link, "-test.v", "-test.run=^$"}, {script, "-test.v"}}
			if i < 3 {
				ways = append(ways, []string{filepath.Base(link), "-test.v", "-test.run=^$"}, []string{target, "-test.v"})
			}
			for _, args := range ways {
				e := b.process(args...)
				e.Process.Env = append(e.Process.Env, "PODBOX_TEST_PRIVATE=1")
				var out bytes.Buffer
				p, err := Start(bg, pod, e, IO{Stdout: &out, Stderr: &out})
				status := 0
				if err == nil {
					status, err = p.Wait(bg)
				}
				// A doorstep that is given this to do does nothing.
				if err == nil && status != 127 || out.Len() > 0 {
					t.Errorf("share %v: %v to %s: status %d, %v: %.200q", share, args, target, status, err, out.String())
				}
				// In a container that runs, /proc/1 is the container's.
				if got, status, err := b.exec(e); !strings.Contains(target, "/1/") && (err == nil && status != 127 || got != "") {
					t.Errorf("share %v: exec %v to %s: status %d, %v: %.200q", share, args, target, status, err, got)
				}
			}
		}
	}
}

// Nor is the working directory, or where anything is mounted, by way of a descriptor
// (CVE-2024-21626).
func TestPathsByDescriptors(t *testing.T) {
	for _, share := range [][]sandbox.Namespace{nil, {sandbox.Net, sandbox.IPC, sandbox.PID}} {
		pod := newPod(t, sandbox.Spec{Share: share})
		root := newRootfs(t)
		s := container(t, root, "")
		if share != nil {
			s.Linux.Namespaces = nil
		}
		b := newBox(t, pod, s)
		src := t.TempDir()
		for i, dir := range hostRoot(t) {
			link := fmt.Sprintf("/cwd%d", i)
			addLinks(t, root, map[string]string{link: dir})
			for _, cwd := range []string{dir, link, dir + "/tmp", link + "/tmp", link + "/../" + link} {
				e := b.process("sh", "-c", "pwd -P; ls -d ../../../etc/passwd; ls -d etc/passwd")
				e.Process.Cwd = cwd
				var out bytes.Buffer
				p, err := Start(bg, pod, e, IO{Stdout: &out})
				if err == nil {
					_, err = p.Wait(bg)
				}
				if err == nil && (strings.Contains(out.String(), "passwd") || !strings.HasPrefix(out.String(), "/")) {
					t.Errorf("share %v: cwd %s: %q", share, cwd, out.String())
				}
				if got, _, err := b.exec(e); err == nil {
					t.Errorf("share %v: exec, cwd %s: %q", share, cwd, got)
				}
				e.Process.Cwd = "/"
				e.Mounts = append(e.Mounts[:len(e.Mounts):len(e.Mounts)], specs.Mount{Type: "bind", Source: src, Destination: cwd + "/podbox-launcher-test"})
				if p, err := Start(bg, pod, e, IO{}); err == nil {
					_, _ = p.Wait(bg)
				}
			}
		}
		if _, err := os.Stat("/podbox-launcher-test"); err == nil {
			os.Remove("/podbox-launcher-test")
			t.Error("made on the host")
		}
	}
}

// Where members share their processes, the links of others in /proc lead to what those
// see, for us as they would for root.
func TestPathsByMagicLinks(t *testing.T) {
	pod := newPod(t, sandbox.Spec{Share: []sandbox.Namespace{sandbox.Net, sandbox.IPC, sandbox.PID}})
	theirs, root := newRootfs(t), newRootfs(t)
	write(t, theirs+"/secret/file", "secret\n", 0o644)
	other := container(t, theirs, "")
	other.Linux.Namespaces, other.Process.Cwd = nil, "/secret"
	newBox(t, pod, other)
	s := container(t, root, "")
	s.Linux.Namespaces = nil
	b := newBox(t, pod, s)
	pid, _, err := b.exec(b.process("sh", "-c", "cd /proc; for p in [0-9]*; do grep -q sleep $p/comm && echo $p; done | head -1"))
	if err != nil {
		t.Fatal(err)
	}
	dir := "/proc/" + strings.TrimSpace(pid)
	addLinks(t, root, map[string]string{"link": dir + "/root"})
	before := listing(t, theirs)
	for _, cwd := range []string{dir + "/root", dir + "/root/secret", dir + "/cwd", "/link", "/link/secret", "/link/new", "/proc/1/root", "/proc/1/cwd"} {
		e := b.process("sh", "-c", "cat file secret/file; ls")
		e.Process.Cwd = cwd
		if out, _, err := b.exec(e); err == nil {
			t.Errorf("exec, cwd %s: %q", cwd, out)
		}
		if p, err := Start(bg, pod, e, IO{}); err == nil {
			_, _ = p.Wait(bg)
			t.Errorf("cwd %s: started", cwd)
		}
		e.Process.Cwd = "/"
		for _, kind := range []string{"bind", "tmpfs"} {
			e.Mounts = append(s.Mounts[:len(s.Mounts):len(s.Mounts)], specs.Mount{Type: kind, Source: theirs, Destination: cwd + "/x"})
			if p, err := Start(bg, pod, e, IO{}); err == nil {
				_, _ = p.Wait(bg)
				t.Errorf("%s on %s/x: started", kind, cwd)
			}
		}
		// What is there to be hidden is not found there, and not elsewhere either.
		e.Mounts = s.Mounts
		linux := *s.Linux
		linux.MaskedPaths, linux.ReadonlyPaths = []string{cwd + "/file"}, []string{cwd}
		e.Linux = &linux
		if p, err := Start(bg, pod, e, IO{}); err == nil {
			_, _ = p.Wait(bg)
		}
	}
	if out, _, err := b.exec(b.process("cat", "/secret/file")); err != nil || !strings.Contains(out, "No such file") {
		t.Errorf("%q, %v", out, err)
	}
	if after := listing(t, theirs); after != before {
		t.Errorf("in the other's root: before\n%s\nafter\n%s", before, after)
	}
}

// Nothing that is open here by whoever embeds us, also carelessly, is open in a
// container, or a hook.
func TestInheritance(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 200)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(high)
	dir := t.TempDir()
	s := container(t, newRootfs(t), "ls /proc/self/fd")
	s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "ls /proc/self/fd >" + dir + "/fds"}}}}
	b := newBox(t, pod, s)
	for how, f := range map[string]func() (string, int){
		"new":     func() (string, int) { return output(t, pod, s, nil) },
		"exec":    func() (string, int) { out, status, _ := b.exec(b.process("ls", "/proc/self/fd")); return out, status },
		"on host": func() (string, int) { return output(t, pod, command("ls", "/proc/self/fd"), nil) },
	} {
		if got, status := f(); got != "0\n1\n2\n3\n" || status != 0 {
			t.Errorf("%s: %q", how, got)
		}
	}
	if got, err := os.ReadFile(dir + "/fds"); string(got) != "0\n1\n2\n3\n" || err != nil {
		t.Errorf("hook: %q, %v", got, err)
	}
}

// A process of the container that watches all others never sees of one that comes in
// what it has of the host: its descriptors, its program, its memory, where it is.
func TestWatcher(t *testing.T) {
	for _, share := range [][]sandbox.Namespace{nil, {sandbox.Net, sandbox.IPC, sandbox.PID}} {
		for _, user := range []uint32{0, 1000} {
			if testing.Short() && (share == nil) == (user == 0) {
				continue
			}
			pod := newPod(t, sandbox.Spec{Share: share})
			root := newRootfs(t)
			s := withInside(t, container(t, root, ""))
			s.Process.User.UID = user
			if share != nil {
				s.Linux.Namespaces = nil
			}
			b := newBox(t, pod, s)
			var seen bytes.Buffer
			w, err := Exec(bg, pod, b.pidfd, b.process("inside", "watch"), Options{IO: IO{Stdout: &seen, Stderr: &seen}})
			if err != nil {
				t.Fatal(err)
			}
			// Some stay where nothing has been executed yet.
			born := func(proc.Identity) error {
				time.Sleep(5 * time.Millisecond)
				return nil
			}
			for i := range 10 {
				opts := Options{}
				if i%2 == 0 {
					opts.Born = born
				}
				e := b.process("true")
				if p, err := Exec(bg, pod, b.pidfd, e, opts); err != nil {
					t.Error(err)
				} else {
					_, _ = p.Wait(bg)
				}
				if share == nil {
					continue
				}
				if p, err := Launch(bg, pod, e, opts); err != nil {
					t.Error(err)
				} else {
					_, _ = p.Wait(bg)
				}
			}
			write(t, root+"/stop", "", 0o644)
			if status, err := w.Wait(bg); status != 0 || err != nil || seen.String() != "processes: true\n" {
				t.Errorf("share %v, user %d: status %d, %v: %s", share, user, status, err, seen.String())
			}
		}
	}
}

// A container that stops whoever comes into a shared PID namespace keeps nobody from
// stopping the pod, also where no context ends the wait.
func TestStopperOfContainers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	pod := newPod(t, sandbox.Spec{Share: []sandbox.Namespace{sandbox.Net, sandbox.IPC, sandbox.PID}})
	root := newRootfs(t)
	s := container(t, root, "while :; do kill -STOP -1; done 2>/dev/null")
	s.Linux.Namespaces = nil
	b := newBox(t, pod, s)
	stopper, err := Start(bg, pod, s, IO{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for begin := time.Now(); time.Since(begin) < 300*time.Millisecond; {
				if p, err := Start(bg, pod, b.process("true"), IO{}); err == nil {
					_, _ = p.Wait(bg)
				}
				if p, err := Exec(bg, pod, b.pidfd, b.process("true"), Options{}); err == nil {
					_, _ = p.Wait(bg)
				}
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	begin := time.Now()
	if err := pod.Stop(bg, sandbox.StopOptions{Grace: -1}); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("stop took %v", d)
	}
	_, _ = stopper.Wait(bg)
}
