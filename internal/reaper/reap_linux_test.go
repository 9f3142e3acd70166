package reaper_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

func TestStatus(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"podbox-script": "#!/bin/sh\nexit 4\n", "no-interpreter": "#!/nix/nix\n", "text": "text", "first": "", "dir/first": "#!/bin/sh\nexit 6\n",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "first"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 5000)
	everyBuild(t, func(t *testing.T, p program) {
		for _, test := range []struct {
			path   string
			argv   []string
			status int
			stderr string
		}{
			{"", shell("exit 0"), 0, ""},
			{"", shell("exit 3"), 3, ""},
			{"", shell("exit 255"), 255, ""},
			{"", shell("kill -9 $$"), 137, ""},
			{"", shell("kill -TERM $$"), 143, ""},
			{"", shell("ulimit -c 0; kill -SEGV $$"), 139, ""},
			{"", shell(`test "$*" = "b  c "`), 1, ""},
			{"", append(shell(`test "$0 $*" = "a b  c "`), "a", "b ", "c "), 0, ""},
			{"", []string{"sh", "-c", "exit 7"}, 7, ""}, // where there is no PATH
			{"/nix:" + dir + ":/bin", []string{"podbox-script"}, 4, ""},
			{"/bin:" + dir, []string{"podbox-script"}, 4, ""},
			{dir + ":" + dir + "/dir", []string{"first"}, 6, ""},
			{long + ":" + dir, []string{"podbox-script"}, 4, ""},
			{":/nix", []string{"podbox-script"}, 4, ""}, // the working directory
			{"/nix:" + dir, []string{"first"}, 126, "podbox: exec first: permission denied"},
			{dir, []string{"text"}, 126, "podbox: exec text: exec format error"},
			{dir, []string{"no-interpreter"}, 127, "podbox: exec no-interpreter: no such file or directory"},
			{dir + "/text", []string{"text"}, 127, "podbox: exec text: no such file or directory"},
			{"/bin", []string{"nix"}, 127, "podbox: exec nix: no such file or directory"},
			{"/bin", []string{""}, 127, "podbox: exec : no such file or directory"},
			{"/bin", []string{"/etc"}, 126, "podbox: exec /etc: permission denied"},
			{"/bin", []string{"/etc/passwd/x"}, 127, "podbox: exec /etc/passwd/x: not a directory"},
			{"/bin", []string{"/" + long}, 126, "podbox: exec /" + long + ": file name too long"},
			{"/bin", []string{long}, 127, "podbox: exec " + long + ": no such file or directory"},
		} {
			cmd := p.command(append([]string{"--"}, test.argv...)...)
			cmd.Dir = dir
			cmd.Env = []string{"UNPATH=/", "PATHS=/", "PATH"}
			if test.path != "" {
				cmd.Env = append(cmd.Env, "PATH="+test.path)
			}
			c := startCommand(t, cmd)
			c.wantExit(t, test.status)
			if got := strings.TrimSuffix(c.stderr.String(), "\n"); got != test.stderr {
				t.Errorf("%.100q says %q, want %q", test.argv, got, test.stderr)
			}
		}
		for _, args := range [][]string{nil, {"--"}, {"sh", "-c", "exit 0"}, {"-x"}} {
			c := startCommand(t, p.command(args...))
			c.wantExit(t, 125)
			if got := c.stderr.String(); got != "podbox: reaper: no program given\n" {
				t.Errorf("%q says %q", args, got)
			}
		}
	})
}

// TestReapsOrphans leaves 1,000 orphans to the reaper, half of them alive.
func TestReapsOrphans(t *testing.T) {
	const alive = 500
	everyBuild(t, func(t *testing.T, p program) {
		if len(p.emulator) > 0 {
			testenv.NeedRoot(t) // it knows no subreapers
		}
		c := start(t, p, shell(fmt.Sprintf(`
			i=0
			while [ $i -lt %d ]; do
				(true &)
				(sleep 1000 &)
				i=$((i + 1))
			done
			echo ready
			read line
			exit 7`, alive))...)
		c.want(t, "ready")
		zombies := func() (n int) {
			for _, state := range c.children(t) {
				if state == "Z" {
					n++
				}
			}
			return n
		}
		await(t, "without zombies", func() bool { return len(c.children(t)) == alive+1 && zombies() == 0 })
		program := 0
		for pid := range c.children(t) {
			if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && strings.HasSuffix(exe, "sleep") {
				_ = unix.Kill(pid, unix.SIGKILL)
			} else {
				program = pid
			}
		}
		await(t, "alone with its program", func() bool { return len(c.children(t)) == 1 && zombies() == 0 })
		if c.children(t)[program] == "" {
			t.Error("the program has gone")
		}
		c.in.Close()
		c.wantExit(t, 7)
	})
}

// TestEndsWithProgram leaves processes behind.
func TestEndsWithProgram(t *testing.T) {
	testenv.NeedRoot(t)
	everyBuild(t, func(t *testing.T, p program) {
		c := start(t, p, shell("sleep 1000 & trap '' TERM; sleep 1000 & exit 2")...)
		c.wantExit(t, 2)
	})
}

// TestKeepsNothing looks at the reaper from outside.
func TestKeepsNothing(t *testing.T) {
	testenv.NeedRoot(t) // others may not look
	eachBuild(t, func(t *testing.T, p program) {
		cmd := p.command("--", "/bin/sh", "-c", "echo ready; read line")
		cmd.Dir = t.TempDir()
		c := startCommand(t, cmd)
		c.want(t, "ready")
		proc := fmt.Sprintf("/proc/%d/", c.pid())
		await(t, "at its work", func() bool { return statusOf(t, c.pid(), "State") == "S (sleeping)" })
		fds, err := os.ReadDir(proc + "fd")
		if err != nil || len(fds) != 0 {
			t.Errorf("open files %v, %v", fds, err)
		}
		if cwd, err := os.Readlink(proc + "cwd"); err != nil || cwd != "/" {
			t.Errorf("working directory %q, %v", cwd, err)
		}
		for name, want := range map[string]string{"Name": "reaper", "Threads": "1", "SigCgt": "0000000000000000"} {
			if got := statusOf(t, c.pid(), name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		rollup, err := os.ReadFile(proc + "smaps_rollup")
		if err != nil {
			t.Fatal(err)
		}
		private := 0
		for _, name := range []string{"Private_Clean", "Private_Dirty"} {
			n, err := strconv.Atoi(strings.TrimSuffix(field(rollup, name), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			private += n
		}
		t.Logf("private memory %d KB", private)
		if private > 16 {
			t.Errorf("private memory %d KB, want at most 16\n%s", private, rollup)
		}
		// The program's standard input is its own: it ends.
		c.in.Close()
		c.wantExit(t, 1)
	})
}

// TestClosedOutput sees to it that a pipe ends when the program closes it.
func TestClosedOutput(t *testing.T) {
	eachBuild(t, func(t *testing.T, p program) { // an emulator has files of its own
		c := start(t, p, shell("exec >&-; read line")...)
		if got := c.next(); got != "" {
			t.Errorf("output %q", got)
		}
		c.in.Close()
		c.wantExit(t, 1)
	})
}

func statusOf(t *testing.T, pid int, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
		t.Fatal(err)
	}
	return field(b, name)
}

// field returns the value of one line of a file such as /proc/PID/status.
func field(status []byte, name string) string {
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestPoor runs without root's rights, capabilities, /proc and /dev, with
// no_new_privs and under the default seccomp profile.
func TestPoor(t *testing.T) {
	testenv.NeedRoot(t)
	eachBuild(t, func(t *testing.T, p program) {
		launch := func(args ...string) *container {
			t.Helper()
			argv := helper(t, "launch", "-user", "65534", "-confined")
			cmd := exec.Command(argv[0], append(argv[1:], args...)...)
			cmd.Env = []string{}
			return startCommand(t, cmd)
		}
		t.Run("empty root", func(t *testing.T) {
			c := launch("-root", filepath.Dir(p.path), p.path, "--", "reaper", "-v")
			c.want(t, "podbox-reaper 1")
			c.wantExit(t, 0)
			c = launch("-root", filepath.Dir(p.path), p.path, "--", "nix")
			c.wantExit(t, 127)
			if got := c.stderr.String(); got != "podbox: exec nix: no such file or directory\n" {
				t.Errorf("says %q", got)
			}
		})
		t.Run("at work", func(t *testing.T) {
			c := launch(p.path, "--", "sh", "-c", "(true &); trap 'echo TERM' TERM; echo ready; while read line; do :; done; exit 9")
			c.want(t, "ready")
			await(t, "alone with its program", func() bool { return len(c.children(t)) == 1 })
			for name, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "Uid": "65534\t65534\t65534\t65534"} {
				if got := statusOf(t, c.pid(), name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			// Who may look through /proc/PID owns what is there.
			var st unix.Stat_t
			if err := unix.Stat(fmt.Sprintf("/proc/%d/environ", c.pid()), &st); err != nil || st.Uid != 0 {
				t.Errorf("the reaper is dumpable: %d, %v", st.Uid, err)
			}
			for pid := range c.children(t) {
				if err := unix.Stat(fmt.Sprintf("/proc/%d/environ", pid), &st); err != nil || st.Uid != 65534 {
					t.Errorf("the program is not dumpable: %d, %v", st.Uid, err)
				}
			}
			c.signal(t, unix.SIGTERM)
			c.want(t, "TERM")
			c.in.Close()
			c.wantExit(t, 9)
		})
	})
}

// TestSubreaper starts the reaper in a PID namespace that has another PID 1.
func TestSubreaper(t *testing.T) {
	eachBuild(t, func(t *testing.T, p program) {
		argv := append(shell(`"$0" -- "$@"; exit $?`), p.path)
		argv = append(argv, shell("(sleep 1000 &); echo ready; read line; exit 3")...)
		c := startCommand(t, exec.Command(argv[0], argv[1:]...))
		c.want(t, "ready")
		for child := range c.children(t) {
			r := &container{cmd: &exec.Cmd{Process: &os.Process{Pid: child}}}
			await(t, "parent of the orphan", func() bool { return len(r.children(t)) == 2 })
			await(t, "alone with its program", func() bool {
				for pid := range r.children(t) {
					// It may not have executed it yet.
					if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && strings.HasSuffix(exe, "sleep") {
						_ = unix.Kill(pid, unix.SIGKILL)
					}
				}
				return len(r.children(t)) == 1
			})
		}
		c.in.Close()
		c.wantExit(t, 3)
	})
}
