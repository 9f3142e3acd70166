package launcher

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/sandbox"
)

// raceTime is for how long tests race with one who changes a root.
func raceTime() time.Duration {
	if testing.Short() {
		return 300 * time.Millisecond
	}
	return 800 * time.Millisecond
}

// exchange swaps files of a root with others, over and over, as another container with
// the same root can, until the function returned is called, which tells how often. Of
// each pair the first is where it was in the end.
func exchange(t testing.TB, root string, pairs ...[2]string) (stop func() int) {
	t.Helper()
	var ended atomic.Bool
	var n int
	var wg sync.WaitGroup
	wg.Go(func() {
		for !ended.Load() || n%2 == 1 {
			for _, p := range pairs {
				if err := unix.Renameat2(unix.AT_FDCWD, root+p[0], unix.AT_FDCWD, root+p[1], unix.RENAME_EXCHANGE); err != nil {
					t.Errorf("exchange %v: %v", p, err)
					return
				}
			}
			n++
		}
	})
	return func() int {
		ended.Store(true)
		wg.Wait()
		return n
	}
}

// Whoever swaps the elements of a path, the place that is found, or made, is in the
// root.
func TestTargetRace(t *testing.T) {
	root, marker := t.TempDir(), t.TempDir()
	for _, dir := range []string{"/a/b", "/dirs"} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, marker+"/b/file", "", 0o644)
	addLinks(t, root, map[string]string{"evil": "../../../../../../../.." + marker, "dirs/evil": marker + "/b", "a/b/x": ""})
	addLinks(t, root, map[string]string{"dirs/good/x": ""})
	before := listing(t, marker)
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	stop := exchange(t, root, [2]string{"/a", "/evil"}, [2]string{"/dirs/good", "/dirs/evil"})
	r := &rootfs{root: dir, proc: new(procfs)}
	found, i := 0, 0
	for deadline := time.Now().Add(raceTime()); time.Now().Before(deadline) || found < 10; i++ {
		for _, f := range []func() (*os.File, error){
			func() (*os.File, error) { return target(dir, fmt.Sprintf("/a/b/new/dir%d", i%50), true) },
			func() (*os.File, error) { return target(dir, fmt.Sprintf("/a/b/new/file%d", i%50), false) },
			func() (*os.File, error) { return target(dir, fmt.Sprintf("/dirs/good/file%d", i%50), false) },
			func() (*os.File, error) { return target(dir, "/a/b/file", false) },
			func() (*os.File, error) { return r.strictTarget(fmt.Sprintf("/a/b/strict%d", i%50)) },
			func() (*os.File, error) { return r.workingDirectory(fmt.Sprintf("/dirs/good/cwd%d", i%50)) },
		} {
			place, err := f()
			if err != nil {
				continue
			}
			found++
			at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", place.Fd()))
			if err != nil || !strings.HasPrefix(at, root+"/") {
				t.Errorf("found %s, %v", at, err)
			}
			place.Close()
		}
		if i%50 == 0 {
			_ = os.RemoveAll(root + "/evil/b/new")
		}
	}
	if n := stop(); n < 100 {
		t.Errorf("%d exchanges only", n)
	}
	t.Logf("%d rounds, %d places", i, found)
	if after := listing(t, marker); after != before {
		t.Errorf("outside of the root: before\n%s\nafter\n%s", before, after)
	}
}

// A container whose root is changed while it starts has no mount elsewhere, and sees
// nothing that is hidden.
func TestStartRace(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root, marker := newRootfs(t), t.TempDir()
	write(t, marker+"/b/file", "secret\n", 0o644)
	src := t.TempDir()
	write(t, src+"/file", "", 0o644)
	for _, dir := range []string{"/a/b", "/sys", "/evilsys/firmware", "/proc", "/evilproc", "/dev", "/evildev"} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	addLinks(t, root, map[string]string{"evil": "../../../../../../../.." + marker})
	// What is mounted at the moment on any of these must be hidden at its place.
	s := container(t, root, `read x; for d in /sys /evilsys; do [ "$(stat -f -c %T $d)" = sysfs ] && { ls -A $d/firmware; ls -A $d/devices/virtual/powercap 2>/dev/null; }; done
for d in /proc /evilproc; do [ "$(stat -f -c %T $d)" = proc ] && cat $d/timer_list $d/interrupts && { (cat $d/sys/kernel/panic >$d/sys/kernel/panic) 2>&1 | grep -q Read-only || echo writable; }; done; cat /a/b/file /a/b/f 2>/dev/null; true`)
	s.Mounts = append(s.Mounts,
		specs.Mount{Type: "bind", Source: src, Destination: "/a/b"}, specs.Mount{Type: "bind", Source: src + "/file", Destination: "/a/f"},
		specs.Mount{Type: "tmpfs", Destination: "/a/b/tmpfs"})
	before, mounts := listing(t, marker), hostMounts(t)
	var exchanges, started, failed int
	for deadline := time.Now().Add(raceTime()); time.Now().Before(deadline) || started < 3; {
		stop := exchange(t, root, [2]string{"/a", "/evil"}, [2]string{"/sys", "/evilsys"}, [2]string{"/proc", "/evilproc"}, [2]string{"/dev", "/evildev"})
		var out bytes.Buffer
		in, enter, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p, err := Start(bg, pod, s, IO{Stdin: in, Stdout: &out})
		exchanges += stop()
		in.Close()
		enter.Close() // let it look
		if err != nil {
			if failed++; failed > 5000 {
				t.Fatal("none could be started: ", err)
			}
			continue
		}
		started++
		if _, err := p.Wait(bg); err != nil {
			t.Error(err)
		}
		if out.Len() > 0 {
			t.Fatalf("a container sees %.300q", out.String())
		}
	}
	t.Logf("%d exchanges, %d containers, %d failures", exchanges, started, failed)
	if after := listing(t, marker); after != before {
		t.Errorf("outside of the root: before\n%s\nafter\n%s", before, after)
	}
	if after := hostMounts(t); after != mounts {
		t.Errorf("mounts on the host: before\n%s\nafter\n%s", mounts, after)
	}
	left, err := filepath.Glob(src + "/*")
	if err != nil || len(left) > 2 {
		t.Errorf("%v, %v", left, err)
	}
}
