package launcher

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/sandbox"
)

func TestProcess(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	addLinks(t, root, map[string]string{"link": "/real", "real/x": "", "bin/own": ""})
	addSetUID(t, root)
	mask, adj := uint32(0o027), 500
	list := func(names ...string) []string { return names }
	for _, tt := range []struct {
		name, script string
		change       func(*specs.Spec)
		want         string
	}{
		{"arguments and environment", `echo "$0|$1|$2|$A|$EMPTY|$PATH"`, func(s *specs.Spec) {
			s.Process.Args = append(s.Process.Args, "", "b c")
			s.Process.Env = list("A=a=b", "EMPTY=", "PATH=/bin")
		}, "|b c||a=b||/bin\n"},
		{"no path in the environment", "echo $0", func(s *specs.Spec) { s.Process.Env, s.Process.Args[0] = nil, "sh" }, "sh\n"},
		{"cwd", "pwd; stat -c '%a %u' .", func(s *specs.Spec) { s.Process.Cwd = "/a/b/c/" }, "/a/b/c\n755 0\n"},
		{"cwd below a link", "pwd -P", func(s *specs.Spec) { s.Process.Cwd = "/link/../real/new" }, "/real/new\n"},
		{"cwd is a mount", "mkdir new; ls", func(s *specs.Spec) { s.Process.Cwd = "/dev/shm/." }, "new\n"},
		{"user", "id -u; id -g; id -G; umask; echo >/tmp/x; stat -c '%u %g %a' /tmp/x", func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1234, GID: 2345, AdditionalGids: []uint32{3456, 4567}, Umask: &mask}
			s.Mounts = append(s.Mounts, specs.Mount{Type: "tmpfs", Destination: "/tmp", Options: list("mode=777")})
		}, "1234\n2345\n2345 3456 4567\n0027\n1234 2345 640\n"},
		{"umask", "umask", func(*specs.Spec) {}, "0022\n"},
		{"limits", "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -St; ulimit -Hf", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{
				{Type: "RLIMIT_NOFILE", Soft: 4, Hard: 88},
				{Type: "RLIMIT_CORE", Soft: 0, Hard: 0},
				{Type: "RLIMIT_CPU", Soft: 100, Hard: 200},
				{Type: "RLIMIT_FSIZE", Soft: 512000, Hard: 1024000},
			}
		}, "4\n88\n0\n100\n2000\n"},
		{"capabilities of root", "grep Cap /proc/self/status", func(s *specs.Spec) {
			s.Process.Capabilities = &specs.LinuxCapabilities{
				Bounding: list("CAP_CHOWN", "CAP_KILL", "CAP_SETUID"), Permitted: list("CAP_CHOWN"), Effective: list("CAP_CHOWN"),
			}
		}, capLines(0, 1, 1, 0xa1, 0)},
		{"capabilities of root with new privileges", "grep Cap /proc/self/status", func(s *specs.Spec) {
			s.Process.NoNewPrivileges = false
			s.Process.Capabilities = &specs.LinuxCapabilities{
				Bounding: list("CAP_CHOWN", "CAP_KILL", "CAP_SETUID"), Permitted: list("CAP_CHOWN"), Effective: list("CAP_CHOWN"),
			}
		}, capLines(0, 0xa1, 0xa1, 0xa1, 0)}, // it gets its bounding set when it executes
		{"capabilities of a user", "grep Cap /proc/self/status", func(s *specs.Spec) {
			s.Process.User.UID = 1000
			s.Process.Capabilities = &specs.LinuxCapabilities{
				Bounding: list("CAP_CHOWN", "CAP_KILL", "CAP_SETUID"), Permitted: list("CAP_CHOWN", "CAP_KILL"),
				Effective: list("CAP_CHOWN"), Inheritable: list("CAP_KILL"),
			}
		}, capLines(0x20, 0, 0, 0xa1, 0)}, // who is not root keeps none when it executes
		{"ambient capabilities of a user", "grep Cap /proc/self/status; chown 5 /bin/own && echo chown", func(s *specs.Spec) {
			s.Process.User.UID = 1000
			caps := list("CAP_CHOWN", "CAP_KILL")
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps, Inheritable: caps, Ambient: list("CAP_CHOWN")}
		}, capLines(0x21, 1, 1, 0x21, 1) + "chown\n"},
		{"none", "grep Cap /proc/self/status", func(s *specs.Spec) { s.Process.Capabilities = nil }, capLines(0, 0, 0, 0, 0)},
		{"oom score", "cat /proc/self/oom_score_adj", func(s *specs.Spec) {
			s.Process.OOMScoreAdj = &adj
			s.Process.Args[2] = "sleep .05; " + s.Process.Args[2]
		}, "500\n"},
		{"session", "set -- $(cat /proc/1/stat); echo $1 $5 $6", func(*specs.Spec) {}, "1 1 1\n"},
		{"scheduler", "inside attrs", func(s *specs.Spec) {
			withInside(t, s)
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7}
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
			s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
		}, "3 7 0 2 6 " + map[string]string{"amd64": "i686", "arm64": "armv8l"}[runtimeArch()] + "\n"},
		{"no new privileges", "grep NoNewPrivs /proc/self/status; inside2", func(s *specs.Spec) { s.Process.User.UID = 1000 }, "NoNewPrivs:\t1\n1000\n"},
		{"new privileges", "grep NoNewPrivs /proc/self/status; inside2", func(s *specs.Spec) { s.Process.User.UID, s.Process.NoNewPrivileges = 1000, false }, "NoNewPrivs:\t0\n0\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := container(t, root, tt.script)
			tt.change(s)
			if strings.Contains(tt.script, "inside2") {
				withInside(t, s) // for its libraries
			}
			if got, _ := output(t, pod, s, nil); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

func capLines(inh, prm, eff, bnd, amb uint64) string {
	return fmt.Sprintf("CapInh:\t%016x\nCapPrm:\t%016x\nCapEff:\t%016x\nCapBnd:\t%016x\nCapAmb:\t%016x\n", inh, prm, eff, bnd, amb)
}

func runtimeArch() string {
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	if unix.ByteSliceToString(uts.Machine[:]) == "aarch64" {
		return "arm64"
	}
	return "amd64"
}

// addSetUID gives a container a set-user-ID program, inside2, that prints who it is.
func addSetUID(t testing.TB, root string) {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	write(t, root+"/suid/inside", string(self), 0o755|os.ModeSetuid)
	write(t, root+"/bin/inside2", "#!/bin/sh\nexec /suid/inside ids\n", 0o755)
}

// A filter of system calls applies with and without new privileges, from the program's
// first instruction on and to all that it starts.
func TestSeccomp(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	filter := func(action specs.LinuxSeccompAction, names ...string) *specs.LinuxSeccomp {
		eio := uint(unix.EIO)
		rule := specs.LinuxSyscall{Names: names, Action: action}
		if action == specs.ActErrno {
			rule.ErrnoRet = &eio
		}
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{rule}}
	}
	for _, nnp := range []bool{true, false} {
		s := withInside(t, container(t, root, fmt.Sprintf("grep Seccomp: /proc/self/status; inside syscall %d; (umask 7; mkdir /x) 2>&1; ls -d /x 2>/dev/null", unix.SYS_ACCT)))
		s.Process.NoNewPrivileges = nnp
		s.Linux.Seccomp = filter(specs.ActErrno, "acct", "mkdir", "mkdirat")
		want := fmt.Sprintf("Seccomp:\t2\n%d\nmkdir: can't create directory '/x': Input/output error\n", unix.EIO)
		if got, _ := output(t, pod, s, nil); got != want {
			t.Errorf("no_new_privs %t: got %q", nnp, got)
		}
		// Also what ends the program.
		s.Process.Args[2] = "mkdir /x; echo lived"
		s.Linux.Seccomp = filter(specs.ActKillProcess, "mkdir", "mkdirat")
		if got, status := output(t, pod, s, nil); got != "Bad system call\nlived\n" && !strings.Contains(got, "lived") {
			t.Errorf("no_new_privs %t: killed: %q, %d", nnp, got, status)
		}
		s.Process.Args = []string{"/bin/mkdir", "/x"}
		addLinks(t, root, map[string]string{"bin/mkdir": "busybox"})
		if got, status := output(t, pod, s, nil); status != 128+int(unix.SIGSYS) {
			t.Errorf("no_new_privs %t: killed: %q, %d", nnp, got, status)
		}
		_ = os.Remove(root + "/bin/mkdir")
	}
	// The default filter keeps from what needs no capability to do harm.
	s := withInside(t, container(t, root, fmt.Sprintf("inside syscall %d; inside syscall %d; unshare -U true 2>&1", unix.SYS_KEYCTL, unix.SYS_BPF)))
	if got, _ := output(t, pod, s, nil); got != "1\n1\nunshare: unshare(0x10000000): Operation not permitted\n" {
		t.Errorf("default filter: %q", got)
	}
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir"}, Action: specs.ActNotify}}}
	if _, err := Start(bg, pod, s, IO{}); err == nil || !strings.Contains(err.Error(), "linux.seccomp") {
		t.Errorf("unsupported action: %v", err)
	}
}

// What the kernel here does not know is an error that names the field.
func TestLabels(t *testing.T) {
	if _, err := os.Stat("/proc/self/attr/apparmor"); err == nil {
		t.Skip("there is AppArmor")
	}
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	for want, change := range map[string]func(*specs.Process){
		"process.apparmorProfile \"x\"": func(p *specs.Process) { p.ApparmorProfile = "x" },
		"process.selinuxLabel \"x\"":    func(p *specs.Process) { p.SelinuxLabel = "x" },
	} {
		s := container(t, root, "true")
		change(s.Process)
		if _, err := Start(bg, pod, s, IO{}); !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A value that the kernel refuses is an error that says what of.
func TestRefusals(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	file := uint64(1) << 40
	for want, change := range map[string]func(*specs.Spec){
		"set RLIMIT_NOFILE": func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: file, Hard: file}}
		},
		"set scheduler":           func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedFIFO, Priority: 500} },
		"set capabilities":        func(s *specs.Spec) { s.Process.Capabilities.Effective = append(DefaultCapabilities(), "CAP_SYS_TIME") },
		"process.user 4294967295": func(s *specs.Spec) { s.Process.User.UID = 1<<32 - 1 },
		"process.cwd: open /file": func(s *specs.Spec) { s.Process.Cwd = "/file" },
		"process.cwd \"/proc\"":   func(s *specs.Spec) { s.Process.Cwd = "/proc" },
	} {
		s := container(t, root, "true")
		addLinks(t, root, nil)
		write(t, root+"/file", "", 0o644)
		change(s)
		_, err := Start(bg, pod, s, IO{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
		var call *spawn.Error
		if strings.HasPrefix(want, "set ") && !errors.As(err, &call) {
			t.Errorf("%s: %T", want, err)
		}
	}
}

// What is in the keyring of the session is the launcher's, and what is in a
// container's is that container's.
func TestKeyrings(t *testing.T) {
	if _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true); errors.Is(err, unix.ENOSYS) {
		t.Skip("the kernel has no keyrings")
	}
	const key = "podbox-launcher-test"
	id, err := unix.AddKey("user", key, []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.KeyctlInt(unix.KEYCTL_INVALIDATE, id, 0, 0, 0)
	pod := newPod(t, sandbox.Spec{})
	s := withInside(t, privileged(container(t, newRootfs(t), "")))
	const want = "keyring;0;0;3f030000;_ses required key not available\n"
	s.Process.Args = []string{"inside", "keys"}
	if got, _ := output(t, pod, s, nil); got != want {
		t.Errorf("in a container: %q", got)
	}
	_, run := running(t, pod, s)
	if got := run("inside keys"); got != want {
		t.Errorf("by Exec: %q", got)
	}
	if got := run("grep -c " + key + " /proc/keys"); got != "0\n" {
		t.Errorf("in /proc/keys: %q", got)
	}
}
