package launcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/sandbox"
)

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
		out, status, err := b.exec(e)
		if what == "mounted on it" && errors.Is(err, unix.EXDEV) {
			continue
		}
		if !strings.HasSuffix(out, "25 80\r\n") || err != nil {
			t.Errorf("%s: terminal: %q, status %d, %v", what, out, status, err)
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
