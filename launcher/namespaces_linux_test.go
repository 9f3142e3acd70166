package launcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/sandbox"
)

var ownNames = map[specs.LinuxNamespaceType]string{
	specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts",
	specs.PIDNamespace: "pid", specs.CgroupNamespace: "cgroup",
}

func nsLink(t testing.TB, pid any, kind specs.LinuxNamespaceType) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%v/ns/%s", pid, ownNames[kind]))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// A container has of each kind the pod's namespace, the host's, one by a path or a new
// one.
func TestNamespaces(t *testing.T) {
	root := newRootfs(t)
	minimal := func(ns ...specs.LinuxNamespace) *specs.Spec {
		s := container(t, root, "")
		s.Linux.Namespaces = ns
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		return s
	}
	for _, share := range [][]sandbox.Namespace{{sandbox.Net, sandbox.IPC, sandbox.UTS}, {sandbox.Net, sandbox.IPC, sandbox.UTS, sandbox.PID}, {sandbox.IPC}} {
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			pod := newPod(t, sandbox.Spec{Share: share})
			i, err := pod.Info()
			if err != nil {
				t.Fatal(err)
			}
			shared := map[string]bool{}
			for _, n := range share {
				shared[string(n)] = true
			}
			other, _ := running(t, pod, minimal(specs.LinuxNamespace{Type: specs.NetworkNamespace}, specs.LinuxNamespace{Type: specs.IPCNamespace},
				specs.LinuxNamespace{Type: specs.UTSNamespace}, specs.LinuxNamespace{Type: specs.PIDNamespace}, specs.LinuxNamespace{Type: specs.CgroupNamespace}))
			plain, run := running(t, pod, minimal())
			for kind, name := range ownNames {
				pods, hosts, others := nsLink(t, i.PausePID, kind), nsLink(t, "self", kind), nsLink(t, other.PID(), kind)
				want := hosts
				if shared[name] {
					want = pods
				}
				if got := nsLink(t, plain.PID(), kind); got != want {
					t.Errorf("%s: not listed: %s, want %s", name, got, want)
				}
				if got := strings.TrimSpace(run("readlink /proc/self/ns/" + name)); got != want {
					t.Errorf("%s: by Exec: %s, want %s", name, got, want)
				}
				if others == pods || others == hosts {
					t.Errorf("%s: new: %s, the pod's %s, the host's %s", name, others, pods, hosts)
				}
				joined, _ := running(t, pod, minimal(specs.LinuxNamespace{Type: kind, Path: fmt.Sprintf("/proc/%d/ns/%s", other.PID(), name)}))
				if got := nsLink(t, joined.PID(), kind); got != others {
					t.Errorf("%s: by path: %s, want %s", name, got, others)
				}
			}
		})
	}
}

// What a pod does not share a container with a root of its own has from the host: IPC by
// any name, and processes if the spec does not ask for its own.
func TestHostIPCAndPID(t *testing.T) {
	pod := newPod(t, sandbox.Spec{Share: []sandbox.Namespace{sandbox.Net, sandbox.UTS}})
	root := newRootfs(t)
	name := fmt.Sprintf("probe-hostipc-%d", os.Getpid())
	shm := "/dev/shm/" + name
	write(t, shm, "host's\n", 0o644)
	t.Cleanup(func() { os.Remove(shm) })
	queues := t.TempDir()
	if err := unix.Mount("mqueue", queues, "mqueue", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(queues, unix.MNT_DETACH) })
	queue, err := os.OpenFile(filepath.Join(queues, name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	queue.Close()
	t.Cleanup(func() { os.Remove(filepath.Join(queues, name)) })
	script := fmt.Sprintf("cat %[1]s; echo more >>%[1]s; ls /dev/mqueue | grep ^%[2]s; readlink /proc/self/ns/ipc; grep /dev/shm /proc/self/mountinfo", shm, name)
	s := container(t, root, script)
	s.Process.Capabilities = privileged(container(t, root, "")).Process.Capabilities
	got, _ := output(t, pod, s, nil)
	want := "host's\n" + name + "\n" + nsLink(t, "self", specs.IPCNamespace) + "\n"
	if !strings.HasPrefix(got, want) || !strings.Contains(got, "nosuid,nodev,noexec") {
		t.Errorf("%q, want %q", got, want)
	}
	if b, err := os.ReadFile(shm); string(b) != "host's\nmore\n" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	// One that has an IPC namespace of its own has nothing of the host's.
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.IPCNamespace})
	s.Process.Args = []string{"/bin/sh", "-c", "ls /dev/shm /dev/mqueue"}
	if got, _ := output(t, pod, s, nil); got != "/dev/mqueue:\n\n/dev/shm:\n" {
		t.Errorf("%q", got)
	}

	// The host's processes, with their names, and those of other containers.
	s = container(t, root, fmt.Sprintf("cat /proc/%d/comm; readlink /proc/self/ns/pid; ps | grep -c 'sleep 100[0]'", os.Getpid()))
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.CgroupNamespace}}
	running(t, pod, s)
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	got, _ = output(t, pod, s, nil)
	if want := string(comm) + nsLink(t, "self", specs.PIDNamespace) + "\n"; !strings.HasPrefix(got, want) || strings.HasSuffix(got, "\n0\n") {
		t.Errorf("%q, want %q and at least one", got, want)
	}
}

// A container can be in the PID namespace of another, and sees what that sees.
func TestPIDOfAnother(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	first, _ := running(t, pod, container(t, root, ""))
	s := container(t, root, "echo $$; cat /proc/1/comm; kill -KILL 1; cat /proc/keys; ls /proc/1/root")
	s.Linux.Namespaces[0].Path = fmt.Sprintf("/proc/%d/ns/pid", first.PID())
	if got, _ := output(t, pod, s, nil); got != "2\nsleep\nbin\ndev\netc\nproc\nsys\n" {
		t.Errorf("%q", got)
	}
	_ = first.Signal(unix.SIGKILL)
	<-first.Ended()
	if _, err := Start(bg, pod, s, IO{}); err == nil {
		t.Error("started in a PID namespace whose first process is gone")
	}
}

// Containers that share processes see those of each other, and the same /proc.
func TestSharedProcesses(t *testing.T) {
	pod := newPod(t, sandbox.Spec{Share: []sandbox.Namespace{sandbox.Net, sandbox.IPC, sandbox.PID}})
	root := newRootfs(t)
	s := container(t, root, "")
	s.Linux.Namespaces = nil
	running(t, pod, s)
	_, run := running(t, pod, s)
	got := run("cat /proc/1/comm; cat /proc/[0-9]*/comm | sort | uniq -c | tr -s ' '; cat /proc/keys /proc/timer_list; (echo 1 >/proc/sys/kernel/panic) 2>&1; ls /proc/1/root/ 2>&1; ls /proc/acpi /proc/scsi 2>/dev/null | grep -v :")
	if !strings.HasPrefix(got, "pause\n") || !strings.Contains(got, " 2 sleep\n") || !strings.Contains(got, "can't create /proc/sys/kernel/panic: Read-only file system\n") {
		t.Errorf("%q", got)
	}
	// It is process 1 that must not be ended, looked into, or made to look like more.
	if got := run("kill -KILL 1; kill -STOP 1; readlink /proc/1/exe /proc/1/cwd /proc/1/root; cat /proc/1/environ 2>&1; ls /proc/1/fd 2>&1"); strings.Contains(got, "/dev/null") || strings.Contains(got, "memfd") {
		t.Errorf("of the pause one sees %q", got)
	}
	if i, err := pod.Info(); err != nil || i.State != sandbox.Running {
		t.Errorf("%+v, %v", i, err)
	}
}

func TestHostnameAndSysctls(t *testing.T) {
	pod := newPod(t, sandbox.Spec{Hostname: "pod"})
	root := newRootfs(t)
	s := container(t, root, "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax; (echo 1 >/proc/sys/net/ipv4/ip_default_ttl) 2>&1")
	s.Hostname, s.Domainname = "own", "domain"
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UTSNamespace}, specs.LinuxNamespace{Type: specs.NetworkNamespace}, specs.LinuxNamespace{Type: specs.IPCNamespace})
	s.Linux.Sysctl = map[string]string{"net.ipv4.ip_default_ttl": "33", "kernel.msgmax": "4321"}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := output(t, pod, s, nil); got != "own\ndomain\n33\n4321\n/bin/sh: can't create /proc/sys/net/ipv4/ip_default_ttl: Read-only file system\n" {
		t.Errorf("%q", got)
	}
	if got, _ := output(t, pod, container(t, root, "hostname; cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax"), nil); got != "pod\n64\n8192\n" {
		t.Errorf("the pod's: %q", got)
	}
	if now, err := os.Hostname(); now != host || err != nil {
		t.Errorf("the host's name is %q, was %q; %v", now, host, err)
	}
	for want, change := range map[string]func(*specs.Spec){
		"sysctl \"net.ipv4.nothing\"":   func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.ipv4.nothing": "1"} },
		"net.ipv4.ip_default_ttl=\"x\"": func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.ipv4.ip_default_ttl": "x"} },
		"hostname":                      func(s *specs.Spec) { s.Hostname = strings.Repeat("x", 65) },
		"domainname":                    func(s *specs.Spec) { s.Domainname = strings.Repeat("x", 65) },
	} {
		c := *s
		linux := *s.Linux
		c.Linux = &linux
		change(&c)
		if _, err := Start(bg, pod, &c, IO{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestNamespaceErrors(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	type ns = specs.LinuxNamespace
	for _, tt := range []struct {
		ns   ns
		want string
		is   error
	}{
		{ns{Type: specs.TimeNamespace}, "linux.namespaces[0].type time", ErrNotSupported},
		{ns{Type: specs.MountNamespace, Path: "/proc/self/ns/mnt"}, "linux.namespaces[0].path", ErrNotSupported},
		{ns{Type: specs.UserNamespace, Path: "/proc/self/ns/user"}, "linux.namespaces[0].path", ErrNotSupported},
		{ns{Type: specs.UserNamespace}, "linux.uidMappings", ErrInvalid},
		{ns{Type: "x"}, "linux.namespaces[0].type \"x\"", ErrInvalid},
		{ns{Type: specs.PIDNamespace, Path: "proc"}, "linux.namespaces[0].path", ErrInvalid},
		{ns{Type: specs.PIDNamespace, Path: "/proc/self/ns/net"}, "linux.namespaces: pid", ErrInvalid},
		{ns{Type: specs.PIDNamespace, Path: "/etc/passwd"}, "linux.namespaces: pid", ErrInvalid},
		{ns{Type: specs.PIDNamespace, Path: "/nonexistent"}, "linux.namespaces: pid", os.ErrNotExist},
	} {
		s := container(t, root, "true")
		s.Linux.Namespaces = []ns{tt.ns}
		if _, err := Start(bg, pod, s, IO{}); !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.ns, err)
		}
	}
}
