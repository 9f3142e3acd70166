package launcher

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/sandbox"
)

func TestDevices(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	mode, uid, gid := os.FileMode(0o640), uint32(3), uint32(4)
	s := container(t, root, `cd /dev; stat -c '%n %F %a %u %g %t,%T' null zero full random urandom tty sub/zero fifo block
for l in fd stdin stdout stderr core ptmx; do readlink $l; done; head -c2 sub/zero | wc -c; echo x >null; stat -c '%a %u %g' .; grep ' /dev ' /proc/self/mountinfo | cut -d' ' -f6`)
	s.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/sub/zero", Type: "c", Major: 1, Minor: 5, FileMode: &mode, UID: &uid, GID: &gid},
		{Path: "/dev/../dev/fifo", Type: "p"},
		{Path: "/dev/block", Type: "b", Major: 7, Minor: 200},
		{Path: "/dev/tty", Type: "u", Major: 5, Minor: 0, FileMode: &mode}, // in the place of the default
	}
	got, _ := output(t, pod, s, nil)
	want := `null character special file 666 0 0 1,3
zero character special file 666 0 0 1,5
full character special file 666 0 0 1,7
random character special file 666 0 0 1,8
urandom character special file 666 0 0 1,9
tty character special file 640 0 0 5,0
sub/zero character special file 640 3 4 1,5
fifo fifo 666 0 0 0,0
block block special file 666 0 0 7,c8
/proc/self/fd
/proc/self/fd/0
/proc/self/fd/1
/proc/self/fd/2
/proc/kcore
pts/ptmx
2
755 0 0
rw,nosuid,noexec
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A /dev that is read-only is made first.
func TestReadonlyDev(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	const script = "ls -1 /dev/null /dev/console; (echo >/dev/x) 2>&1; echo x >/dev/null; echo >/dev/shm/x && echo shm"
	for how, want := range map[string]string{
		"option": "/dev/console\r\n/dev/null\r\n/bin/sh: can't create /dev/x: Read-only file system\r\nshm\r\n",
		"path":   "/dev/console\r\n/dev/null\r\n/bin/sh: can't create /dev/x: Read-only file system\r\n/bin/sh: can't create /dev/shm/x: Read-only file system\r\n",
	} {
		s := container(t, root, script)
		s.Process.Terminal = true
		if how == "path" {
			s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, "/dev")
		} else {
			s.Mounts[1].Options = append(s.Mounts[1].Options, "ro")
		}
		if got, _ := output(t, pod, s, nil); got != want {
			t.Errorf("%s: %q", how, got)
		}
	}
}

// Without a /dev of its own a container has the devices only that are there.
func TestDevicesElsewhere(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	s := container(t, root, "echo x >/dev/null && echo null")
	Privilege(s)
	privileged(s)
	s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}}
	if got, _ := output(t, pod, s, nil); got != "null\n" {
		t.Errorf("got %q", got)
	}
	for _, d := range []specs.LinuxDevice{{Path: "/dev/podbox-none", Type: "c", Major: 1, Minor: 3}, {Path: "/dev/null", Type: "c", Major: 1, Minor: 5}} {
		s.Linux.Devices = []specs.LinuxDevice{d}
		if _, err := Start(bg, pod, s, IO{}); err == nil || !strings.Contains(err.Error(), "linux.devices[0] "+d.Path) {
			t.Errorf("%s: %v", d.Path, err)
		}
	}
}

// What is a device in the root, or a volume, is none.
func TestDeadDevices(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	if err := unix.Mknod(root+"/zero", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	below := root + "/below"
	hostMount(t, below)
	if err := unix.Mknod(below+"/zero", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	s := privileged(container(t, root, "head -c1 /zero 2>&1; head -c1 /below/zero 2>&1; mknod /new c 1 5 && head -c1 /new 2>&1"))
	want := "head: /zero: Permission denied\nhead: /below/zero: Permission denied\nhead: /new: Permission denied\n"
	if got, _ := output(t, pod, s, nil); got != want {
		t.Errorf("got %q", got)
	}
}

func TestConsole(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	s := container(t, root, `tty; stty size; stat -c '%u' /dev/pts/0; [ /dev/console -ef /dev/pts/0 ]; ps -o pid,sid,tty | grep -c '1 .*1 .*136,0'
ls -l /proc/self/fd/0 | grep -o '/.*'; echo from console >/dev/console; echo from tty >/dev/tty; read x; stty size; exec 3</dev/pts/0; echo end`)
	s.Process.Terminal = true
	s.Process.ConsoleSize = &specs.Box{Width: 91, Height: 17}
	s.Process.User.UID = 1000
	// A device of the same name must not be in the way.
	s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/console", Type: "c", Major: 5, Minor: 1}}
	in, press := io.Pipe()
	screen, written := io.Pipe()
	p, err := Start(bg, pod, s, IO{Stdin: in, Stdout: written})
	if err != nil {
		t.Fatal(err)
	}
	var status int
	go func() {
		status, err = p.Wait(bg)
		written.Close()
	}()
	var out strings.Builder
	for lines := bufio.NewScanner(screen); lines.Scan(); {
		fmt.Fprintln(&out, lines.Text())
		if lines.Text() != "from tty" {
			continue
		}
		if err := p.Resize(80, 25); err != nil {
			t.Error(err)
		}
		if _, err := press.Write([]byte("\n")); err != nil {
			t.Error(err)
		}
	}
	if status != 0 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	want := "/dev/pts/0\n17 91\n1000\n1\n/proc/self/fd/0 -> /dev/pts/0\nfrom console\nfrom tty\n\n25 80\nend\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
	press.Close()
}

// A container without a devpts(5) has a terminal of the host's.
func TestTerminalOfHost(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	write(t, root+"/dev/ptmx", "", 0o666)
	for _, mounts := range []int{0, 2} { // with a /dev, and without one
		s := container(t, root, "stty size")
		s.Mounts = s.Mounts[:mounts]
		s.Process.Terminal = true
		s.Process.ConsoleSize = &specs.Box{Width: 91, Height: 17}
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		if got, _ := output(t, pod, s, nil); got != "17 91\r\n" {
			t.Errorf("%d mounts: %q", mounts, got)
		}
	}
}

// The null device that a program gets is not the host's, whose mode it could change.
func TestNullOfHost(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	before, err := null.Stat()
	if err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(os.DevNull, before.Mode().Perm())
	const script = "for fd in 0 1 2; do chmod 640 /proc/self/fd/$fd; chown 5 /proc/self/fd/$fd; done; echo x >/proc/self/fd/1 && cat /proc/self/fd/0 && [ -c /proc/self/fd/2 ]"
	for name, change := range map[string]func(*specs.Spec){
		"default":    func(*specs.Spec) {},
		"no /dev":    func(s *specs.Spec) { s.Mounts = s.Mounts[:1] },
		"replaced":   func(s *specs.Spec) { s.Mounts = s.Mounts[:1]; write(t, root+"/dev/null", "", 0o666) },
		"all caps":   func(s *specs.Spec) { privileged(s) },
		"in a chain": func(s *specs.Spec) { s.Process.Args = []string{"sh", "-c", "sh -c '" + script + "'"} },
	} {
		for _, streams := range []IO{{}, {Stdin: null, Stdout: null, Stderr: null}} {
			s := container(t, root, script)
			change(s)
			p, err := Start(bg, pod, s, streams)
			if err != nil {
				t.Fatal(name, err)
			}
			if status, err := p.Wait(bg); status != 0 || err != nil {
				t.Errorf("%s: status %d, %v", name, status, err)
			}
			after, err := os.Stat(os.DevNull)
			if err != nil || after.Mode() != before.Mode() {
				t.Fatalf("%s: the mode of the host's is %v, was %v; %v", name, after.Mode(), before.Mode(), err)
			}
		}
	}
}
