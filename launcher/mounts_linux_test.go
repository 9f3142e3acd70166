package launcher

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/volumes"
)

// hostMount mounts a tmpfs on a directory of the host that tests play on.
func hostMount(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("host", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func write(t testing.TB, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

// privileged takes from a container's spec what keeps its programs from doing things,
// but for what the kernel itself does.
func privileged(s *specs.Spec) *specs.Spec {
	own := []string{}
	for n, name := range capabilityNames {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err == nil && has == 1 {
			own = append(own, name)
		}
	}
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: own, Effective: own, Permitted: own}
	s.Process.NoNewPrivileges, s.Linux.Seccomp = false, nil
	return s
}

// A source for bind mounts: a file, a program, a device, a link and another mount.
func newSource(t *testing.T) string {
	t.Helper()
	src := t.TempDir()
	hostMount(t, src)
	write(t, src+"/file", "content\n", 0o666)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	write(t, src+"/inside", string(self), 0o755|os.ModeSetuid)
	if err := unix.Mknod(src+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(src+"/null", 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", src+"/link"); err != nil {
		t.Fatal(err)
	}
	hostMount(t, src+"/below")
	write(t, src+"/below/deep", "deep\n", 0o666)
	if err := unix.Chmod(src, 0o777); err != nil {
		t.Fatal(err)
	}
	return src
}

func TestBindOptions(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	src := newSource(t)
	const try = `cat /m/file; (echo new >/m/new) 2>&1; (echo new >/m/below/new) 2>&1; cat /m/below/deep 2>/dev/null
(echo x >/m/null) 2>&1; /m/inside ids 2>&1; cat /m/link 2>&1; rm -f /m/new /m/below/new 2>/dev/null
grep ' /m ' /proc/self/mountinfo | cut -d' ' -f6; grep ' /m/below ' /proc/self/mountinfo | cut -d' ' -f6`
	const ro = "/bin/sh: can't create /m/new: Read-only file system\n"
	for _, tt := range []struct {
		options string
		want    string
	}{
		{"bind", "content\n/bin/sh: can't create /m/below/new: Permission denied\n0\ncontent\nrw,relatime\n"},
		{"rbind", "content\ndeep\n0\ncontent\nrw,relatime\nrw,relatime\n"},
		{"rbind ro", "content\n" + ro + "deep\n0\ncontent\nro,relatime\nrw,relatime\n"},
		{"rbind rro", "content\n" + ro + "/bin/sh: can't create /m/below/new: Read-only file system\ndeep\n0\ncontent\nro,relatime\nro,relatime\n"},
		{"rbind rro rw", "content\n" + ro + "/bin/sh: can't create /m/below/new: Read-only file system\ndeep\n0\ncontent\nro,relatime\nro,relatime\n"},
		{"rbind nosuid", "content\ndeep\n1000\ncontent\nrw,nosuid,relatime\nrw,relatime\n"},
		{"rbind nodev", "content\ndeep\n/bin/sh: can't create /m/null: Permission denied\n0\ncontent\nrw,nodev,relatime\nrw,relatime\n"},
		{"rbind noexec", "content\ndeep\n/bin/sh: /m/inside: Permission denied\ncontent\nrw,noexec,relatime\nrw,relatime\n"},
		{"rbind nosymfollow", "content\ndeep\n0\ncat: can't open '/m/link': Too many levels of symbolic links\nrw,relatime,nosymfollow\nrw,relatime\n"},
		{"rbind noatime", "content\ndeep\n0\ncontent\nrw,noatime\nrw,relatime\n"},
		{"rbind rnoatime nodiratime", "content\ndeep\n0\ncontent\nrw,noatime,nodiratime\nrw,noatime\n"},
		{"rbind strictatime", "content\ndeep\n0\ncontent\nrw\nrw,relatime\n"},
		{"rbind noatime relatime", "content\ndeep\n0\ncontent\nrw,relatime\nrw,relatime\n"},
		{"rbind ro rw", "content\ndeep\n0\ncontent\nrw,relatime\nrw,relatime\n"},
	} {
		t.Run(tt.options, func(t *testing.T) {
			s := privileged(container(t, root, try))
			s.Process.User.UID = 1000
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_SETUID"}}
			withInside(t, s) // for its libraries, if it has any
			s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: src, Destination: "/m", Options: strings.Fields(tt.options)})
			if err := os.Chmod(src+"/below", 0o777); err != nil {
				t.Fatal(err)
			}
			if got, _ := output(t, pod, s, nil); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

// Where mounts are placed, and what is made for that.
func TestMountTargets(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	src := t.TempDir()
	write(t, src+"/file", "content\n", 0o644)
	for _, tt := range []struct {
		name, source, dest string
		links              map[string]string // in the root
		script, want       string
	}{
		{"missing directory", src, "/a/b/c", nil, "cat /a/b/c/file; stat -c %a /a/b", "content\n755\n"},
		{"missing file", src + "/file", "/a/b/f", nil, "cat /a/b/f; stat -c %a /a/b", "content\n755\n"},
		{"over a file", src + "/file", "/bin/app", map[string]string{"bin/app": ""}, "cat /bin/app", "content\n"},
		{"unclean", src + "/file", "/a/../b//f", nil, "cat /b/f; ls -d /a 2>/dev/null", "content\n"},
		{"link to a directory", src, "/link", map[string]string{"link": "/bin/../real", "real/x": ""}, "cat /real/file", "content\n"},
		{"below a link", src, "/link/new", map[string]string{"link": "/real", "real/x": ""}, "cat /real/new/file", "content\n"},
		{"link that leads out", src, "/link/new", map[string]string{"link": "../../../../real", "real/x": ""}, "cat /real/new/file", "content\n"},
		{"dangling link to a file", src + "/file", "/etc/f", map[string]string{"etc/f": "../run/x/f"}, "cat /run/x/f /etc/f", "content\ncontent\n"},
		{"dangling link below a link", src + "/file", "/link/f", map[string]string{"link": "/a/b", "a/b/f": "../x"}, "cat /a/x /link/f; ls /x 2>/dev/null", "content\ncontent\n"},
		{"dangling links", src + "/file", "/l1", map[string]string{"l1": "l2", "l2": "/l3/l4", "l3/l4": "l5"}, "cat /l3/l5 /l1", "content\ncontent\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := newRootfs(t)
			addLinks(t, root, tt.links)
			s := container(t, root, tt.script)
			s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: tt.source, Destination: tt.dest})
			if got, _ := output(t, pod, s, nil); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for dest, links := range map[string]map[string]string{
		"/loop":       {"loop": "loop2", "loop2": "loop"},
		"/loop/f":     {"loop": "loop"},
		"/bin":        nil, // a directory
		"/file/below": {"file": ""},
	} {
		root := newRootfs(t)
		addLinks(t, root, links)
		s := container(t, root, "true")
		s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: src + "/file", Destination: dest})
		if p, err := Start(bg, pod, s, IO{}); err == nil || !strings.Contains(err.Error(), "mount "+dest) {
			t.Errorf("%s: %v, %v", dest, p, err)
		}
	}
}

// addLinks makes symbolic links in a root, and empty files for what has no target.
func addLinks(t testing.TB, root string, links map[string]string) {
	t.Helper()
	for name, to := range links {
		name = filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if err == nil && to != "" {
			err = os.Symlink(to, name)
		} else if err == nil {
			err = os.WriteFile(name, nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesystems(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	ipc, network := specs.LinuxNamespace{Type: specs.IPCNamespace}, specs.LinuxNamespace{Type: specs.NetworkNamespace}
	first := container(t, root, "echo shared >/dev/shm/x; touch /dev/mqueue/q")
	if out, status := output(t, pod, first, nil); status != 0 {
		t.Fatal(out)
	}
	for _, tt := range []struct {
		name   string
		mount  specs.Mount
		own    *specs.LinuxNamespace
		script string
		want   string
	}{
		{
			"tmpfs",
			specs.Mount{Type: "tmpfs", Destination: "/t", Source: "mine", Options: []string{"size=64k", "mode=1730", "uid=5", "gid=6", "ro", "nodev"}},
			nil,
			"stat -c '%a %u %g' /t; df -k /t | tail -1; grep ' /t ' /proc/self/mountinfo | cut -d' ' -f6", "1730 5 6\nmine                        64         0        64   0% /t\nro,nodev,relatime\n",
		},
		{
			"tmpfs by recursive options",
			specs.Mount{Type: "tmpfs", Destination: "/t", Options: []string{"rro", "rnoexec"}},
			nil,
			"grep ' /t ' /proc/self/mountinfo | cut -d' ' -f6", "ro,noexec,relatime\n",
		},
		{"tmpfs through a link", specs.Mount{Type: "tmpfs", Destination: "/bin/../link"}, nil, "stat -f -c %T /real", "tmpfs\n"},
		{"sysfs of the pod", specs.Mount{}, nil, "ls /sys/class/net; (echo 1 >/sys/class/net/eth0/mtu) 2>&1", "eth0\nlo\n/bin/sh: can't create /sys/class/net/eth0/mtu: Read-only file system\n"},
		{"sysfs of its own", specs.Mount{}, &network, "ls /sys/class/net", "lo\n"},
		{"mqueue and shm of the pod", specs.Mount{}, nil, "ls /dev/mqueue; cat /dev/shm/x", "q\nshared\n"},
		{"mqueue and shm of its own", specs.Mount{}, &ipc, "ls /dev/mqueue /dev/shm", "/dev/mqueue:\n\n/dev/shm:\n"},
		{"devpts", specs.Mount{}, nil, "ls /dev/pts; stat -c '%a' /dev/ptmx /dev/pts/ptmx", "ptmx\n777\n666\n"},
		{"proc", specs.Mount{}, nil, "stat -f -c %T /proc; grep ' /proc ' /proc/self/mountinfo | cut -d' ' -f6", "proc\nrw,nosuid,nodev,noexec,relatime\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := container(t, root, tt.script)
			if tt.mount.Type != "" {
				s.Mounts = append(s.Mounts, tt.mount)
			}
			if tt.own != nil {
				s.Linux.Namespaces = append(s.Linux.Namespaces, *tt.own)
			}
			_ = os.Remove(root + "/link")
			addLinks(t, root, map[string]string{"link": "/real"})
			if err := os.MkdirAll(root+"/real", 0o755); err != nil {
				t.Fatal(err)
			}
			if got, _ := output(t, pod, s, nil); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestProcOptions(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	s := container(t, newRootfs(t), "ls /proc | grep -v '^[0-9]'; (echo 1 >/proc/self/comm) 2>&1")
	i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "proc" })
	s.Mounts[i].Options = append(s.Mounts[i].Options, "subset=pid", "ro")
	if got, _ := output(t, pod, s, nil); got != "self\nthread-self\n/bin/sh: can't create /proc/self/comm: Read-only file system\n" {
		t.Errorf("%q", got)
	}
	shared := newPod(t, sandbox.Spec{Share: []sandbox.Namespace{sandbox.Net, sandbox.IPC, sandbox.PID}})
	s.Linux.Namespaces = nil
	if _, err := Start(bg, shared, s, IO{}); err == nil || !strings.Contains(err.Error(), "mount /proc: option subset") {
		t.Errorf("options of the pod's proc: %v", err)
	}
}

func TestVolumes(t *testing.T) {
	host := t.TempDir()
	write(t, host+"/sub/file", "content\n", 0o644)
	if err := os.Symlink("/etc", host+"/out"); err != nil {
		t.Fatal(err)
	}
	pod := newPod(t, sandbox.Spec{Volumes: []volumes.Volume{
		{Name: "mem", Memory: &volumes.Memory{}},
		{Name: "disk"},
		{Name: "host", HostPath: &volumes.HostPath{Path: host}},
		{Name: "files", Files: &volumes.Files{Entries: []volumes.File{{Path: "a/b", Content: []byte("known\n")}}}},
	}})
	root := newRootfs(t)
	run := func(script string, mounts ...specs.Mount) string {
		t.Helper()
		s := container(t, root, script)
		for _, m := range mounts {
			m.Type = VolumeType
			s.Mounts = append(s.Mounts, m)
		}
		out, _ := output(t, pod, s, nil)
		return out
	}
	ro := []string{"ro"}
	for _, name := range []string{"mem", "disk", "host"} {
		v := specs.Mount{Source: name, Destination: "/v"}
		run("echo from "+name+" >/v/x", v)
		if got := run("cat /v/x; (echo >/v/y) 2>&1", specs.Mount{Source: name, Destination: "/v", Options: ro}); got != "from "+name+"\n/bin/sh: can't create /v/y: Read-only file system\n" {
			t.Errorf("%s: %q", name, got)
		}
		run("echo deep >/w/x", specs.Mount{Source: name, Destination: "/w", Options: []string{"subpath=new/sub"}})
		if got := run("cat /v/new/sub/x; ls /w", v, specs.Mount{Source: name, Destination: "/w", Options: []string{"subpath=new/sub"}}); got != "deep\nx\n" {
			t.Errorf("%s: subpath: %q", name, got)
		}
	}
	if got := run("cat /f /w/a/b", specs.Mount{Source: "host", Destination: "/f", Options: []string{"subpath=sub/file"}}, specs.Mount{Source: "files", Destination: "/w"}); got != "content\nknown\n" {
		t.Errorf("a file: %q", got)
	}
	for want, m := range map[string]specs.Mount{
		"volume \"none\"": {Source: "none", Destination: "/v"},
		"volume host":     {Source: "host", Destination: "/v", Options: []string{"subpath=out/passwd"}},
		"volume disk":     {Source: "disk", Destination: "/v", Options: []string{"subpath=../x"}},
	} {
		s := container(t, root, "true")
		m.Type = VolumeType
		s.Mounts = append(s.Mounts, m)
		if _, err := Start(bg, pod, s, IO{}); err == nil || !strings.Contains(err.Error(), "mount /v: "+want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// running starts a container that sleeps, and returns a function that runs a script in
// it.
func running(t testing.TB, pod *sandbox.Sandbox, spec *specs.Spec) (*Process, func(script string) string) {
	t.Helper()
	s := *spec
	s.Process = &specs.Process{}
	*s.Process = *spec.Process
	s.Process.Args = []string{"sleep", "1000"}
	p, err := Start(bg, pod, &s, IO{})
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err := proc.OpenPID(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Signal(unix.SIGKILL)
		_, _ = p.Wait(bg)
		pidfd.Close()
	})
	return p, func(script string) string {
		t.Helper()
		e := s
		e.Process = &specs.Process{}
		*e.Process = *spec.Process
		e.Process.Args = []string{"sh", "-c", script}
		var out bytes.Buffer
		p, err := Exec(bg, pod, pidfd, &e, Options{IO: IO{Stdout: &out, Stderr: &out}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(bg); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
}

// TestClaim looks at a volume that outlives its pods from inside their containers.
func TestClaim(t *testing.T) {
	root := newRootfs(t)
	state := t.TempDir()
	in := func(group uint32, policy volumes.GroupPolicy, uid, gid uint32, extra []uint32, script string) string {
		t.Helper()
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		rt, err := sandbox.Open(sandbox.Options{Root: dir, StateDir: state})
		if err != nil {
			t.Fatal(err)
		}
		defer rt.Close()
		v := volumes.Volume{Name: "v", Claim: &volumes.Claim{Name: "data"}, FSGroupPolicy: policy}
		if group != 0 {
			v.FSGroup = &group
		}
		pod, err := rt.Create(bg, sandbox.Spec{Name: "p", Volumes: []volumes.Volume{v}})
		if err != nil {
			t.Fatal(err)
		}
		defer pod.Remove(bg)
		s := container(t, root, script)
		s.Process.User = specs.User{UID: uid, GID: gid, AdditionalGids: extra}
		s.Process.Capabilities = nil
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: VolumeType, Source: "v"})
		got, _ := output(t, pod, s, nil)
		return got
	}
	if got := in(0, "", 1000, 1000, nil, "umask 077; echo one >/data/private; stat -c '%a %u:%g' /data /data/private"); got != "777 0:0\n600 1000:1000\n" {
		t.Errorf("the first: %q", got)
	}
	if got := in(0, "", 1001, 1001, nil, "cat /data/private 2>&1"); !strings.Contains(got, "Permission denied") {
		t.Errorf("another user: %q", got)
	}
	// Another user that is in the group gets at it, and what it makes is the group's.
	if got := in(4711, volumes.GroupOnRootMismatch, 1001, 1001, []uint32{4711}, "cat /data/private; echo two >>/data/private; echo >/data/new; stat -c '%a %u:%g' /data /data/private; stat -c %g /data/new"); got != "one\n2777 0:4711\n660 1000:4711\n4711\n" {
		t.Errorf("with fsGroup: %q", got)
	}
	// What comes later is given to it only by those who always do that.
	in(0, "", 1000, 1000, nil, "umask 077; echo three >/data/later")
	if got := in(4711, volumes.GroupOnRootMismatch, 1001, 1001, []uint32{4711}, "cat /data/later 2>&1"); !strings.Contains(got, "Permission denied") {
		t.Errorf("OnRootMismatch: %q", got)
	}
	if got := in(4711, volumes.GroupAlways, 1001, 1001, []uint32{4711}, "cat /data/private /data/later"); got != "one\ntwo\nthree\n" {
		t.Errorf("Always: %q", got)
	}
}
