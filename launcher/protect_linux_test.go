package launcher

import (
	"os"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/sandbox"
)

func TestMaskedAndReadonly(t *testing.T) {
	root := newRootfs(t)
	write(t, root+"/secret/file", "secret\n", 0o644)
	write(t, root+"/secret/dir/file", "secret\n", 0o644)
	write(t, root+"/ro/dir/file", "file\n", 0o644)
	write(t, root+"/moved/a/secret", "secret\n", 0o644)
	addLinks(t, root, map[string]string{"link": "/secret/file", "firmware": "/sys/firmware"})
	pods := map[string]*sandbox.Sandbox{
		"own":    newPod(t, sandbox.Spec{}),
		"shared": newPod(t, sandbox.Spec{Share: []sandbox.Namespace{sandbox.Net, sandbox.IPC, sandbox.PID}}),
	}
	src := t.TempDir()
	write(t, src+"/file", "secret\n", 0o644)
	write(t, src+"/sub/file", "secret\n", 0o644)
	for _, tt := range []struct {
		name             string
		masked, readonly []string
		script, want     string
	}{
		{"files", []string{"/secret/file", "/link", "/nonexistent/x", "/ro/dir/file/x"}, nil, "cat /secret/file /link; stat -c %F /secret/file", "character special file\n"},
		{"directories", []string{"/secret"}, nil, "ls -A /secret; (echo >/secret/x) 2>&1", "/bin/sh: can't create /secret/x: Read-only file system\n"},
		{"one in another", []string{"/secret", "/secret/dir", "/secret/dir/file"}, nil, "ls -A /secret", ""},
		{"one around another", []string{"/secret/dir/file", "/secret/dir"}, nil, "ls -A /secret/dir; cat /secret/file", "secret\n"},
		{"twice", []string{"/secret/file", "/secret/file", "/proc/keys", "/proc/keys"}, nil, "cat /secret/file /proc/keys", ""},
		{"unclean", []string{"/ro/../secret//file", "/proc/../proc/./keys"}, nil, "cat /secret/file /proc/keys", ""},
		{"in a mount", []string{"/m/file", "/m/sub"}, nil, "cat /m/file; ls -A /m/sub", ""},
		{"a mount", []string{"/m", "/f"}, nil, "ls -A /m; cat /f", ""},
		{"in /proc", []string{"/proc/sys/kernel", "/proc/sys/kernel/panic", "/proc/version", "/proc/acpi/x", "/proc/self/maps"}, nil, "ls /proc/sys/kernel; cat /proc/version", ""},
		{"in /sys by a link", []string{"/firmware"}, nil, "ls -A /sys/firmware", ""},
		{"in /dev", []string{"/dev/zero"}, nil, "head -c1 /dev/zero | wc -c", "0\n"},
		{
			"read-only", nil,
			[]string{"/ro", "/nonexistent", "/ro/dir/file"},
			"(echo >/ro/dir/file) 2>&1; (echo >/ro/new) 2>&1; cat /ro/dir/file",
			"/bin/sh: can't create /ro/dir/file: Read-only file system\n/bin/sh: can't create /ro/new: Read-only file system\nfile\n",
		},
		{"read-only and masked below", []string{"/secret/dir"}, []string{"/secret"}, "ls -A /secret/dir; (echo >/secret/x) 2>&1", "/bin/sh: can't create /secret/x: Read-only file system\n"},
		{"read-only with a mount below", []string{"/ro/m/sub"}, []string{"/ro"}, "(echo >/ro/m/x) 2>&1; ls -A /ro/m/sub", "/bin/sh: can't create /ro/m/x: Read-only file system\n"},
		{"read-only /proc", []string{"/proc/keys"}, []string{"/proc"}, "cat /proc/keys; (echo x >/proc/self/comm) 2>&1", "/bin/sh: can't create /proc/self/comm: Read-only file system\n"},
		{"read-only /sys", []string{"/sys/firmware"}, []string{"/sys"}, "ls -A /sys/firmware; (echo 1 >/sys/class/net/lo/mtu) 2>&1", "/bin/sh: can't create /sys/class/net/lo/mtu: Read-only file system\n"},
		{"read-only below /proc", nil, []string{"/proc/sys", "/proc/sys/kernel", "/proc/nonexistent", "/proc/sys/kernel/panic/x"}, "(echo 1 >/proc/sys/kernel/panic) 2>&1", "/bin/sh: can't create /proc/sys/kernel/panic: Read-only file system\n"},
	} {
		for processes, pod := range pods {
			t.Run(tt.name+" with "+processes+" processes", func(t *testing.T) {
				s := container(t, root, tt.script)
				if processes == "shared" {
					s.Linux.Namespaces = nil
				}
				// Only what is read-only by its path is.
				s.Mounts[5].Options = nil
				s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: src, Destination: "/m"},
					specs.Mount{Type: "bind", Source: src, Destination: "/ro/m"}, specs.Mount{Type: "bind", Source: src + "/file", Destination: "/f"})
				s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = tt.masked, tt.readonly
				if got, _ := output(t, pod, s, nil); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}

func TestReadonlyRoot(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	hostMount(t, root+"/below")
	s := container(t, root, "(echo >/x) 2>&1; (echo >/bin/x) 2>&1; (echo >/below/x) 2>&1; chmod 700 /bin 2>&1; rm /bin/sh 2>&1; echo >/dev/shm/x && echo >/v/x && echo rest; mount -o remount,rw / 2>&1")
	s.Root.Readonly = true
	s.Process.Cwd = "/made/for/it"
	s.Mounts = append(s.Mounts, specs.Mount{Type: "tmpfs", Destination: "/v"})
	want := `/bin/sh: can't create /x: Read-only file system
/bin/sh: can't create /bin/x: Read-only file system
/bin/sh: can't create /below/x: Read-only file system
chmod: /bin: Read-only file system
rm: can't remove '/bin/sh': Read-only file system
rest
mount: permission denied (are you root?)
`
	if got, _ := output(t, pod, s, nil); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if err := os.WriteFile(root+"/x", nil, 0o644); err != nil {
		t.Errorf("the host's root has become read-only too: %v", err)
	}
}

// What is hidden or read-only stays so, whatever a container does that has not
// CAP_SYS_ADMIN, and the default filter or not.
func TestUnmasking(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	write(t, root+"/parent/secret", "secret\n", 0o644)
	const script = `exec 2>/dev/null
umount /proc/keys; umount -l /proc/keys; umount -l /sys/firmware; umount -l /proc; mount -t proc proc /mnt; mount --bind /proc /mnt; mount -o remount,rw /proc/sys
chmod 777 /proc/keys /proc/timer_list /sys/firmware; rm /parent/secret; mv /parent/secret /parent/open; mv /parent /other; mv /proc/keys /x; ln /proc/keys /hard; rmdir /sys/firmware
unshare -m umount -l /proc/keys && echo unshare; unshare -Urm umount -l /proc/keys && echo user; chroot /proc/1/root umount -l /proc/keys; nsenter -t 1 -m umount -l /proc/keys
unshare -Urm sh -c 'umount -l /proc/timer_list; cat /proc/timer_list; umount -l /parent/secret; cat /parent/secret'
mknod /kmem c 1 2; mknod /disk b 254 0; head -c1 /kmem; head -c1 /disk; cat /proc/1/root/proc/keys /proc/self/root/proc/timer_list
cat /proc/keys /proc/timer_list /parent/secret /other/secret /parent/open /other/open; ls -A /sys/firmware; echo 1 >/proc/sys/kernel/panic && echo panic; echo h >/proc/sysrq-trigger && echo sysrq
stat -c '%a' /proc/keys /sys/firmware`
	modes, _ := output(t, pod, container(t, root, "stat -c %a /proc/keys /sys/firmware"), nil)
	for name, change := range map[string]func(*specs.Spec){
		"default": func(*specs.Spec) {},
		"no filter": func(s *specs.Spec) {
			s.Linux.Seccomp, s.Process.NoNewPrivileges = nil, false
		},
		"all but CAP_SYS_ADMIN": func(s *specs.Spec) {
			privileged(s)
			var caps []string
			for _, c := range s.Process.Capabilities.Bounding {
				if c != "CAP_SYS_ADMIN" && c != "CAP_SYS_PTRACE" {
					caps = append(caps, c)
				}
			}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		},
	} {
		s := container(t, root, script)
		s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/parent/secret")
		change(s)
		got, _ := output(t, pod, s, nil)
		if got != modes {
			t.Errorf("%s: %q", name, got)
		}
		_ = os.Rename(root+"/other", root+"/parent")
	}
	// And the pod's null device is as it was.
	if got, _ := output(t, pod, container(t, root, "stat -c %a /proc/keys /sys/firmware"), nil); got != modes {
		t.Errorf("modes %q, before %q", got, modes)
	}
}
