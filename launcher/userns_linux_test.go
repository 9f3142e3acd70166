package launcher

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/sandbox"
)

// inUserNamespace gives a container a user namespace in which the root is user 100000
// outside.
func inUserNamespace(s *specs.Spec) *specs.Spec {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 1000}, {ContainerID: 1000, HostID: 200000, Size: 1}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 300000, Size: 1001}}
	return s
}

// own gives what is in a root to a user.
func own(t testing.TB, root string, uid, gid int) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUserNamespace(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	own(t, root, 100000, 300000)
	if err := os.Mkdir(root+"/host", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, script, want string }{
		{"identity", "id -u; id -g; cat /proc/self/uid_map | tr -s ' '", "0\n0\n 0 100000 1000\n 1000 200000 1\n"},
		{"files", "echo >/new; stat -c '%u %g' /new /bin/busybox /host", "0 0\n0 0\n65534 65534\n"},
		{"capabilities", "grep CapEff /proc/self/status", "CapEff:\t00000000800405fb\n"},
		{
			"only inside", "ls /host 2>&1; chown 0 /host 2>/dev/null || echo no; chmod 777 /host 2>&1; touch /host/x 2>&1",
			"ls: can't open '/host': Permission denied\nno\nchmod: /host: Operation not permitted\ntouch: /host/x: Permission denied\n",
		},
		{
			"devices", "stat -c '%u %g' /dev /dev/null /dev/shm; echo >/dev/x && echo own; echo x >/dev/null && echo null; mknod /dev/y c 1 3 2>&1",
			"0 0\n0 0\n65534 65534\nown\nnull\nmknod: /dev/y: Operation not permitted\n",
		},
		{"own tmpfs", "stat -c '%u %g' /t /u; touch /t/x && echo own", "0 0\n7 1000\nown\n"},
		{
			"settings", "(echo 1 >/proc/sys/kernel/panic) 2>&1; (echo x >/proc/sys/kernel/hostname) 2>&1; hostname x 2>&1",
			"/bin/sh: can't create /proc/sys/kernel/panic: Read-only file system\n/bin/sh: can't create /proc/sys/kernel/hostname: Read-only file system\nhostname: sethostname: Operation not permitted\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := inUserNamespace(container(t, root, tt.script))
			s.Mounts = append(s.Mounts, specs.Mount{Type: "tmpfs", Destination: "/t", Options: []string{"mode=755"}},
				specs.Mount{Type: "tmpfs", Destination: "/u", Options: []string{"uid=7", "gid=1000"}})
			if got, _ := output(t, pod, s, nil); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
	// What it does outside is done by user 100000.
	st, err := os.Stat(root + "/new")
	if err != nil || st.Sys().(*syscall.Stat_t).Uid != 100000 || st.Sys().(*syscall.Stat_t).Gid != 300000 {
		t.Errorf("%+v, %v", st, err)
	}
}

// With all capabilities in its user namespace a container still can do nothing to what
// is not its own.
func TestUserNamespaceCapabilities(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	own(t, root, 100000, 300000)
	s := privileged(inUserNamespace(container(t, root, "")))
	p, run := running(t, pod, s)
	got := run(`mount -t tmpfs x /bin 2>&1; umount /proc/keys 2>&1; ip link add x type dummy 2>&1; hostname x 2>&1
(echo -17 >/proc/self/oom_score_adj) 2>&1; chroot / /bin/true && echo chroot; id -u; readlink /proc/1/root; date -s 2000-01-01 2>&1 | head -1`)
	want := `mount: permission denied (are you root?)
umount: can't unmount /proc/keys: Operation not permitted
ip: RTNETLINK answers: Operation not permitted
hostname: sethostname: Operation not permitted
`
	if !strings.HasPrefix(got, want) || !strings.Contains(got, "\nchroot\n0\n") || !strings.Contains(got, "date: can't set date: Operation not permitted") {
		t.Errorf("got\n%s", got)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(p.PID()), &st); err != nil || st.Uid != 100000 {
		t.Errorf("outside it is user %d, %v", st.Uid, err)
	}
	if ours, _ := os.Readlink("/proc/self/ns/user"); strings.TrimSpace(run("readlink /proc/self/ns/user")) == ours {
		t.Error("Exec has started in the host's user namespace")
	}
}

func TestUserNamespaceTerminal(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	own(t, root, 100000, 300000)
	for _, uid := range []uint32{0, 1000} {
		s := inUserNamespace(container(t, root, "tty; stat -c '%u %g' /dev/pts/0; echo x >/dev/pts/0; echo y >/dev/console"))
		s.Process.Terminal = true
		s.Process.User.UID = uid
		var out bytes.Buffer
		p, err := Start(bg, pod, s, IO{Stdout: &out})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = p.Wait(bg)
		if want := "/dev/pts/0\r\n" + strconv.Itoa(int(uid)) + " 5\r\nx\r\ny\r\n"; out.String() != want {
			t.Errorf("user %d: %q, want %q", uid, out.String(), want)
		}
	}
}

// A mount that is mapped without more words is mapped as the container is.
func TestUserNamespaceMappedMount(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	own(t, root, 100000, 300000)
	src := t.TempDir()
	write(t, src+"/file", "", 0o600)
	s := inUserNamespace(container(t, root, "stat -c '%u %g' /m/file /m; echo x >/m/new && echo own"))
	s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: src, Destination: "/m", Options: []string{"bind", "idmap"}})
	if got, _ := output(t, pod, s, nil); got != "0 0\n0 0\nown\n" {
		t.Errorf("got %q", got)
	}
	if st, err := os.Stat(src + "/new"); err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestUserNamespaceErrors(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	own(t, root, 100000, 300000)
	overlap := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1, Size: 10}, {ContainerID: 5, HostID: 100, Size: 10}}
	for want, change := range map[string]func(*specs.Spec){
		"process.user.uid":  func(s *specs.Spec) { s.Process.User.UID = 2000 },
		"process.user.gid":  func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{2000} },
		"linux.uidMappings": func(s *specs.Spec) { s.Linux.GIDMappings = nil },
		"map IDs":           func(s *specs.Spec) { s.Linux.UIDMappings = overlap },
		"mount /t: option uid": func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Type: "tmpfs", Destination: "/t", Options: []string{"uid=5000"}})
		},
		"mknodat /dev/x: user 5000": func(s *specs.Spec) {
			uid := uint32(5000)
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: 1, Minor: 3, UID: &uid}}
		},
	} {
		s := inUserNamespace(container(t, root, "true"))
		change(s)
		if _, err := Start(bg, pod, s, IO{}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
