package docs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a command may take.
const patience = 20 * time.Second

// A shell is root's on a host of its own: a machine as far as podbox can tell, for its
// processes, links, mounts, names and IPC objects are others than those of the machine.
// Only cgroups are the same.
type shell struct {
	dir    string
	script *os.File // bash reads it, a command at a time

	mu  sync.Mutex
	out bytes.Buffer
}

// setup makes the host. The programs are where they are installed; /run and /var/lib are
// where podbox keeps what it has.
const setup = `
mount --make-rprivate / && mount -t proc proc /proc &&
mount -t tmpfs -o mode=755 tmpfs /run && mount -t tmpfs -o mode=755 tmpfs /var/lib &&
mount --bind "$BIN" /usr/local/bin && unset BIN && hostname host && ip link set lo up || exit
exec 3<&-
trap 'podbox rm -fa >/dev/null 2>&1' EXIT
`

// programs builds podbox and podbox-kube and returns the directory that they are in.
func programs(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	for _, pkg := range []string{"./cmd/podbox", "./cmd/podbox-kube"} {
		build := exec.Command("go", "build", "-o", filepath.Join(bin, filepath.Base(pkg)), pkg)
		build.Dir, build.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return bin
}

// newShell starts a shell in an empty directory, where the programs in bin are installed.
func newShell(t *testing.T, bin string) *shell {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{dir: t.TempDir(), script: w}
	cmd := exec.Command("bash", "/proc/self/fd/3")
	cmd.Dir, cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = s.dir, []*os.File{r}, s, s
	cmd.Env = []string{"BIN=" + bin, "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "TERM=dumb"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() {
		w.Close()
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			t.Errorf("the shell did not end: %v", <-ended)
		}
	})
	if out, status, err := s.run(setup); err != nil || status != 0 || len(out) > 0 {
		t.Fatalf("a host of its own: status %d, %v: %s", status, err, out)
	}
	return s
}

// Write takes what the shell's programs write.
func (s *shell) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

// written returns the lines so far.
func (s *shell) written() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return lines(s.out.String())
}

func lines(s string) []string {
	if s = strings.TrimRight(s, "\n"); s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// run has a command done. It returns the lines that were written meanwhile, and its exit
// status.
func (s *shell) run(command string) ([]string, int, error) {
	const mark = "\x01"
	if _, err := fmt.Fprintf(s.script, "%s\nprintf '\\1%%d\\1' $?\n", command); err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		s.mu.Lock()
		out, rest, done := strings.Cut(s.out.String(), mark)
		number, after, whole := strings.Cut(rest, mark)
		if done && whole {
			s.out.Reset()
			s.out.WriteString(after)
			s.mu.Unlock()
			status, err := strconv.Atoi(number)
			return lines(out), status, err
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return lines(out), 0, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// left returns what is on the host that a document should have removed. What was killed
// may be on its way out.
func (s *shell) left(t *testing.T) []string {
	t.Helper()
	const look = `podbox ls -q 2>&1; ls /run/podbox/pods /var/lib/podbox/pods 2>/dev/null | grep '^[0-9a-f]\{64\}'; ip -o link | grep pbx; pgrep -a . | grep -v '^1 \|pgrep\|grep\|bash /proc/self/fd/3'`
	for n := 0; ; n++ {
		out, _, err := s.run(look)
		if err != nil {
			t.Fatal(err)
		}
		if len(out) == 0 || n == 50 {
			return out
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// file makes a file of a block that says its name.
func (s *shell) file(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, filepath.Base(name)), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
