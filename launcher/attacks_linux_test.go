package launcher

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
	s.Hooks = &specs.Hooks{Prestart: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "ls /proc/self/fd >" + dir + "/fds"}}}}
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

// A root in which /proc, /sys or /dev are not what they seem is refused, and leads
// nowhere (CVE-2019-19921).
func TestHostileRoots(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	marker := t.TempDir()
	write(t, marker+"/file", "", 0o644)
	before := listing(t, marker)
	for _, name := range []string{"proc", "sys", "dev"} {
		for what, make := range map[string]func(path string) error{
			"link within":        func(path string) error { return os.Symlink("bin", path) },
			"link out":           func(path string) error { return os.Symlink(marker, path) },
			"relative link out":  func(path string) error { return os.Symlink("../../../../../.."+marker, path) },
			"link to descriptor": func(path string) error { return os.Symlink("/proc/self/fd/7", path) },
			"dangling link":      func(path string) error { return os.Symlink("/nonexistent", path) },
			"loop":               func(path string) error { return os.Symlink(name, path) },
			"file":               func(path string) error { return os.WriteFile(path, nil, 0o644) },
			"pipe":               func(path string) error { return unix.Mkfifo(path, 0o644) },
			"device":             func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
		} {
			root := newRootfs(t)
			if err := make(root + "/" + name); err != nil {
				t.Fatal(err)
			}
			_, err := Start(bg, pod, container(t, root, "true"), IO{})
			if err == nil || !strings.Contains(err.Error(), "mount /"+name) {
				t.Errorf("/%s is a %s: %v", name, what, err)
			}
			if strings.Contains(what, "link") && !errors.Is(err, ErrInvalid) {
				t.Errorf("/%s is a %s: %v", name, what, err)
			}
		}
	}
	if after := listing(t, marker); after != before {
		t.Errorf("outside of the root: before\n%s\nafter\n%s", before, after)
	}
}

// listing is what is in a directory of the host, and what is mounted there.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintln(&b, path, info.Mode(), st.Uid, st.Dev, st.Ino, info.Size())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(hostMounts(t)) {
		if strings.Contains(line, dir) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// What is in the place of the null device, or of a terminal, in a root or a container
// is not opened and nothing is mounted on what it leads to (CVE-2025-31133,
// CVE-2025-52565).
func TestReplacedDevices(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	marker := t.TempDir()
	write(t, marker+"/file", "secret\n", 0o600)
	before := listing(t, marker)
	for _, name := range []string{"null", "console", "ptmx", "tty", "pts/0", "pts/ptmx"} {
		addLinks(t, root, map[string]string{"dev/" + name: "/../../../../.." + marker + "/file"})
	}
	s := container(t, root, "cat /proc/keys /proc/timer_list; ls /sys/firmware; tty; stat -L -c %F /proc/self/fd/0")
	s.Mounts = []specs.Mount{s.Mounts[0], s.Mounts[5]} // /proc and /sys
	for terminal, want := range map[bool]string{false: "not a tty\ncharacter special file\n", true: "character special file\r\n"} {
		s.Process.Terminal = terminal
		if got, _ := output(t, pod, s, nil); !strings.HasSuffix(got, want) || strings.Contains(got, "secret") || strings.Contains(got, "acpi") {
			t.Errorf("terminal %t: %q", terminal, got)
		}
	}
	// A container that may, puts other things where its terminals come from.
	s = privileged(container(t, root, ""))
	for what, script := range map[string]string{
		"pipe":          "umount -l /dev/pts; mkfifo /dev/pts/ptmx /dev/pts/0; rm /dev/null; mkfifo /dev/null",
		"watchdog":      "umount -l /dev/pts; mknod /dev/pts/ptmx c 10 130; rm /dev/null; mknod /dev/null c 10 130",
		"link":          "umount -l /dev/pts; rmdir /dev/pts; ln -s /proc/1/root/dev /dev/pts; rm /dev/null; ln -s /proc/1/root/dev/zero /dev/null",
		"mounted on it": "touch /f; mount --bind /f /dev/pts/ptmx; mount --bind /f /dev/null",
		"no /dev":       "umount -l /dev; mount -t tmpfs x /dev",
	} {
		b := newBox(t, pod, s)
		if out, _, err := b.exec(b.process("sh", "-c", script)); out != "" || err != nil {
			t.Errorf("%s: %s, %v", what, out, err)
		}
		e := b.process("sh", "-c", "stat -L -c %F,%t,%T /proc/self/fd/0; stty size")
		if out, _, err := b.exec(e); out != "character special file,1,3\nstty: standard input\n" && !strings.HasPrefix(out, "character special file,1,3\n") || err != nil {
			t.Errorf("%s: %q, %v", what, out, err)
		}
		e.Process.Terminal, e.Process.ConsoleSize = true, &specs.Box{Width: 80, Height: 25}
		out, _, err := b.exec(e)
		if what == "mounted on it" && errors.Is(err, unix.EXDEV) {
			continue
		}
		if !strings.HasSuffix(out, "25 80\r\n") || err != nil {
			t.Errorf("%s: terminal: %q, %v", what, out, err)
		}
	}
	if after := listing(t, marker); after != before {
		t.Errorf("outside of the root: before\n%s\nafter\n%s", before, after)
	}
}

// Nothing is written by a path that is the container's (CVE-2025-52881).
func TestReplacedProc(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	s := privileged(container(t, root, ""))
	b := newBox(t, pod, s)
	out, _, err := b.exec(b.process("sh", "-c", `mount -t tmpfs x /proc; cd /proc; echo victim >victim; mkdir -p self/attr sys/kernel; ln -s self thread-self
for i in $(seq 1 40); do mkdir -p $i/attr; ln -s /proc/victim $i/oom_score_adj; ln -s /proc/victim $i/attr/exec; done; ln -s /proc/victim self/oom_score_adj; ln -s /proc/victim self/attr/exec`))
	if out != "" || err != nil {
		t.Fatal(out, err)
	}
	adj := 432
	e := b.process("sleep", "1000")
	e.Process.OOMScoreAdj = &adj
	p, err := Exec(bg, pod, b.pidfd, e, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.PID())); string(got) != "432\n" || err != nil {
		t.Errorf("score %q, %v", got, err)
	}
	if out, _, err := b.exec(b.process("cat", "/proc/victim")); out != "victim\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	_ = p.Signal(unix.SIGKILL)
	_, _ = p.Wait(bg)
}
