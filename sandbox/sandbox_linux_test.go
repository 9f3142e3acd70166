package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/volumes"
)

var bg = context.Background()

func TestLife(t *testing.T) {
	rt, before := newRuntime(t, nil)
	s := create(t, rt, Spec{Name: "web", Labels: map[string]string{"app": "x"}, Sysctls: map[string]string{
		"net.core.somaxconn": "77", "kernel.shmmax": "4096", "fs.mqueue.msg_max": "20",
	}})
	was := info(t, s)
	if was.State != Running || was.IP != "10.88.0.2" || was.Hostname != "web" {
		t.Errorf("created: %+v", was)
	}
	for key, want := range map[string]string{
		"net/core/somaxconn": "77", "kernel/shmmax": "4096", "fs/mqueue/msg_max": "20", "kernel/hostname": "web",
	} {
		if got := readIn(t, s, "/proc/sys/"+key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	for _, ref := range []string{"web", s.ID(), s.ID()[:5]} {
		if got, err := rt.Open(ref); err != nil || got.ID() != s.ID() {
			t.Errorf("Open(%q): %v", ref, err)
		}
	}
	if _, err := rt.Create(bg, Spec{Name: "web"}); !errors.Is(err, ErrExists) {
		t.Errorf("second create: %v", err)
	}
	if err := s.Start(bg); err != nil {
		t.Errorf("start of a running pod: %v", err)
	}
	for range 2 {
		if err := s.Stop(bg, StopOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if i := info(t, s); i.State != Stopped || i.IP != was.IP || i.PausePID != 0 {
		t.Errorf("stopped: %+v", i)
	}
	if _, err := s.Enter(bg); !errors.Is(err, ErrNotRunning) {
		t.Errorf("enter a stopped pod: %v", err)
	}
	if err := s.Start(bg); err != nil {
		t.Fatal(err)
	}
	if i := info(t, s); i.State != Running || i.IP != was.IP || i.IP6 != was.IP6 || i.MAC != was.MAC {
		t.Errorf("started: %+v", i)
	}
	for range 2 {
		if err := s.Remove(bg); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Info(); !errors.Is(err, ErrNotFound) {
		t.Errorf("info of a removed pod: %v", err)
	}
	next := create(t, rt, Spec{Name: "web"})
	if i := info(t, next); i.IP == was.IP {
		t.Errorf("the next pod has the same address, %s", i.IP)
	}
	next.Remove(bg)
	rt.background.Wait()
	before.Same(t, rt.root, "after a life")
}

// readIn reads a file from inside a pod's namespaces.
func readIn(t *testing.T, s *Sandbox, path string) string {
	t.Helper()
	e, err := s.Enter(bg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var b []byte
	err = nsthread.Do(func() error {
		if err := nsthread.Join(e.Pause, e.Flags&^unix.CLONE_NEWPID); err != nil {
			return err
		}
		b, err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// A pause dies, by kill -9 from outside. The pod's programs notice nothing; a new
// pause takes their namespaces and memory over.
func TestHeal(t *testing.T) {
	for _, share := range [][]Namespace{nil, {Net, IPC, UTS, PID}, {IPC, UTS}} {
		t.Run(join(share), func(t *testing.T) {
			rt, before := newRuntime(t, nil)
			s := create(t, rt, Spec{Name: "web", Share: share})
			was := info(t, s)
			member := joinPod(t, s, "sh", "-c", "echo kept >/dev/shm/x; sleep 1000")
			eventually(t, "member is seen", func() bool { pids, err := s.Members(); return err == nil && len(pids) > 0 })
			eventually(t, "memory is written", func() bool {
				e, err := s.Enter(bg)
				if err != nil {
					t.Fatal(err)
				}
				defer e.Close()
				b, err := readAt(e.Shm, "x")
				return err == nil && b == "kept\n"
			})
			killPause(t, s)
			shared := info(t, s)
			if slicesContains(share, PID) {
				// The kernel has killed everything in the PID namespace.
				if shared.State != Stopped {
					t.Errorf("state %s", shared.State)
				}
			} else {
				if shared.State != Degraded || shared.Error == "" {
					t.Errorf("state %s %q", shared.State, shared.Error)
				}
				if !alive(t, member.Process.Pid) {
					t.Error("member died with the pause")
				}
			}
			if err := s.Start(bg); err != nil {
				t.Fatal(err)
			}
			i := info(t, s)
			if i.State != Running || i.IP != was.IP || i.MAC != was.MAC || i.PausePID == was.PausePID {
				t.Errorf("healed: %+v", i)
			}
			if !slicesContains(share, PID) {
				for _, n := range i.Share {
					if a, b := inode(t, i.PausePID, n), inode(t, member.Process.Pid, n); a != b {
						t.Errorf("new pause has another %s namespace than the member", n)
					}
				}
				e, err := s.Enter(bg)
				if err != nil {
					t.Fatal(err)
				}
				if b, err := readAt(e.Shm, "x"); err != nil || b != "kept\n" {
					t.Errorf("memory: %q, %v", b, err)
				}
				e.Close()
			}
			if err := s.RemoveIdle(bg); !slicesContains(share, PID) && !errors.Is(err, ErrBusy) {
				t.Errorf("RemoveIdle: %v", err)
			}
			if err := s.Remove(bg); err != nil {
				t.Fatal(err)
			}
			rt.background.Wait()
			eventually(t, "member is gone", func() bool { return unix.Kill(member.Process.Pid, 0) != nil })
			before.Same(t, rt.root, "after healing")
		})
	}
}

func slicesContains(s []Namespace, n Namespace) bool { return strings.Contains(join(s), string(n)) }

func inode(t *testing.T, pid int, n Namespace) string {
	t.Helper()
	s, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, n))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func alive(t *testing.T, pid int) bool {
	t.Helper()
	f, err := proc.OpenPID(pid)
	if errors.Is(err, proc.ErrGone) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return !proc.Exited(f)
}

func readAt(dir *os.File, name string) (string, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b := make([]byte, 100)
	n, err := f.Read(b)
	return string(b[:n]), err
}

// A link that somebody removed comes back with the same address.
func TestRewire(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	s := create(t, rt, Spec{})
	was := info(t, s)
	wait, err := netns.Disconnect(was.Link)
	if err != nil {
		t.Fatal(err)
	}
	wait()
	if i := info(t, s); i.State != Degraded || !strings.Contains(i.Error, was.Link) {
		t.Errorf("without its link: %s %q", i.State, i.Error)
	}
	if err := s.Start(bg); err != nil {
		t.Fatal(err)
	}
	if i := info(t, s); i.State != Running || i.IP != was.IP || i.PausePID != was.PausePID {
		t.Errorf("rewired: %+v", i)
	}
}

// Programs that ignore SIGTERM are killed when the grace is over; those that do
// not are not waited for any longer than they need.
func TestStopGrace(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	s := create(t, rt, Spec{})
	joinPod(t, s, "sleep", "1000")
	begin := time.Now()
	if err := s.Stop(bg, StopOptions{Grace: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("polite program: %v", d)
	}
	if err := s.Start(bg); err != nil {
		t.Fatal(err)
	}
	joinPod(t, s, "sh", "-c", "trap '' TERM; echo >/dev/shm/ready; while :; do sleep 1; done")
	eventually(t, "trap is set", func() bool {
		e, err := s.Enter(bg)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		_, err = readAt(e.Shm, "ready")
		return err == nil
	})
	begin = time.Now()
	if err := s.Stop(bg, StopOptions{Grace: 300 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 300*time.Millisecond || d > 5*time.Second {
		t.Errorf("stubborn program: %v", d)
	}
	if pids, err := s.Members(); err != nil || len(pids) != 0 {
		t.Errorf("members %v, %v", pids, err)
	}
}

// What a program in the pod starts, and leaves to itself, is the pod's too.
func TestOrphansAreMembers(t *testing.T) {
	rt, before := newRuntime(t, nil)
	s := create(t, rt, Spec{})
	joinPod(t, s, "sh", "-c", "for i in 1 2 3 4 5; do setsid sleep 1000 & done")
	eventually(t, "orphans", func() bool { pids, _ := s.Members(); return len(pids) == 5 })
	if err := s.Kill(bg, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no orphans", func() bool { pids, _ := s.Members(); return len(pids) == 0 })
	if i := info(t, s); i.State != Running {
		t.Errorf("state %s", i.State)
	}
	s.Remove(bg)
	rt.background.Wait()
	before.Same(t, rt.root, "after orphans")
}

func TestModes(t *testing.T) {
	rt, before := newRuntime(t, nil)
	ns, err := netns.Create()
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.File().Fd())
	for _, n := range []netns.Network{netns.None(), netns.Host(), netns.Path(path)} {
		s := create(t, rt, Spec{Network: n})
		i := info(t, s)
		if i.State != Running || i.IP != "" || i.Link != "" {
			t.Errorf("%s: %+v", n, i)
		}
		joinPod(t, s, "sleep", "1000")
		if pids, err := s.Members(); err != nil || len(pids) != 1 {
			t.Errorf("%s: members %v, %v", n, pids, err)
		}
		if err := s.Stop(bg, StopOptions{}); err != nil {
			t.Error(err)
		}
		if err := s.Start(bg); err != nil {
			t.Error(err)
		}
		s.Remove(bg)
	}
	for _, p := range []string{"/nonexistent", "/proc/self/ns/ipc"} {
		if _, err := rt.Create(bg, Spec{Network: netns.Path(p)}); err == nil {
			t.Errorf("network ns:%s", p)
		}
	}
	ns.Close()
	before.Same(t, rt.root, "after all modes")
}

func TestFixedAddresses(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	n := netns.Network{IP: netip.MustParseAddr("10.1.2.3"), IP6: netip.MustParseAddr("fd00::3"), MAC: "02:00:00:00:01:02"}
	i := info(t, create(t, rt, Spec{Network: n}))
	if i.IP != "10.1.2.3" || i.IP6 != "fd00::3" || i.MAC != n.MAC {
		t.Errorf("%+v", i)
	}
	if _, err := rt.Create(bg, Spec{Network: n}); !errors.Is(err, netns.ErrInUse) {
		t.Errorf("same address again: %v", err)
	}
	// Another installation does not know of the lease, but sees the route.
	other, _ := newRuntime(t, nil)
	if _, err := other.Create(bg, Spec{Network: n}); !errors.Is(err, netns.ErrInUse) {
		t.Errorf("same address elsewhere: %v", err)
	}
}

// Two installations share a host and a range, and stay apart.
func TestTwoRoots(t *testing.T) {
	a, _ := newRuntime(t, nil)
	b, _ := newRuntime(t, nil)
	seen := map[string]bool{}
	for i := range 6 {
		rt := []*Runtime{a, b}[i%2]
		ip := info(t, create(t, rt, Spec{Name: fmt.Sprint("p", i/2)})).IP
		if seen[ip] {
			t.Errorf("%s given twice", ip)
		}
		seen[ip] = true
	}
	if la, _ := a.List(bg); len(la) != 3 {
		t.Errorf("%d pods in a", len(la))
	}
	if swept, err := b.Sweep(bg); err != nil || len(swept) > 0 {
		t.Errorf("sweep of b: %v, %v", swept, err)
	}
	if la, _ := a.List(bg); len(la) != 3 {
		t.Errorf("%d pods in a after a sweep of b", len(la))
	}
}

// Many processes at once, on one name and on many.
func TestProcessesAtOnce(t *testing.T) {
	rt, before := newRuntime(t, nil)
	n := 64 / int(min(testenv.Patience(1), 4)) // each removal has a time of its own, however slow the machine
	run := func(verb string, name func(int) string) (won int) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				out, err := child(rt.root, verb, name(i), 0).CombinedOutput()
				var ee *exec.ExitError
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.As(err, &ee) || ee.ExitCode() != 3 {
					t.Errorf("%s %s: %v: %s", verb, name(i), err, out)
				}
			})
		}
		wg.Wait()
		return won
	}
	own := func(i int) string { return fmt.Sprint("p", i) }
	one := func(int) string { return "same" }
	if won := run("create", own); won != n {
		t.Errorf("%d of %d made", won, n)
	}
	infos, err := rt.List(bg)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, i := range infos {
		if i.State != Running || seen[i.IP] || seen[i.IP6] || seen[i.MAC] {
			t.Errorf("%s: %s, %s twice?", i.Name, i.State, i.IP)
		}
		seen[i.IP], seen[i.IP6], seen[i.MAC] = true, true, true
	}
	if won := run("create", one); won != 1 {
		t.Errorf("%d winners of one name", won)
	}
	if won := run("remove", own); won != n {
		t.Errorf("%d of %d removed", won, n)
	}
	same, err := rt.Open("same")
	if err != nil {
		t.Fatal(err)
	}
	if err := same.Remove(bg); err != nil {
		t.Fatal(err)
	}
	rt.background.Wait()
	before.Same(t, rt.root, "after many processes")
}

// Many goroutines at once, on a few names, doing everything.
func TestGoroutinesAtOnce(t *testing.T) {
	rt, before := newRuntime(t, nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 12 {
				name := fmt.Sprint("p", (g+i)%3)
				if _, err := rt.Create(bg, Spec{Name: name}); err != nil && !errors.Is(err, ErrExists) {
					t.Errorf("create: %v", err)
				}
				s, err := rt.Open(name)
				if err != nil {
					continue
				}
				ignore := func(what string, err error) {
					if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotRunning) && !errors.Is(err, ErrBusy) {
						t.Errorf("%s: %v", what, err)
					}
				}
				switch i % 4 {
				case 0:
					e, err := s.Enter(bg)
					ignore("enter", err)
					if err == nil {
						e.Close()
					}
				case 1:
					ignore("stop", s.Stop(bg, StopOptions{}))
				case 2:
					ignore("start", s.Start(bg))
				case 3:
					ignore("remove", s.Remove(bg))
				}
			}
		})
	}
	wg.Wait()
	infos, err := rt.List(bg)
	if err != nil {
		t.Error(err)
	}
	for _, i := range infos {
		s, err := rt.Open(i.ID)
		if err != nil {
			t.Fatal(err)
		}
		s.Remove(bg)
	}
	rt.background.Wait()
	before.Same(t, rt.root, "after 8 goroutines")
}

// A thousand lives leave memory, descriptors and threads where they were.
func TestThousandLives(t *testing.T) {
	rt, before := newRuntime(t, nil)
	n := 1000
	if testing.Short() {
		n = 50
	}
	cycle := func() {
		s, err := rt.Create(bg, Spec{Name: "p"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(bg); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		cycle()
	}
	rt.background.Wait()
	threads, goroutines, heap := testenv.Threads(t), runtime.NumGoroutine(), heapInUse()
	for range n {
		cycle()
	}
	rt.background.Wait()
	before.Same(t, rt.root, fmt.Sprintf("after %d lives", n))
	eventually(t, "threads", func() bool { return testenv.Threads(t) <= threads+4 })
	eventually(t, "goroutines", func() bool { return runtime.NumGoroutine() <= goroutines })
	if now := heapInUse(); now > heap+1<<20 {
		t.Errorf("heap grew from %d to %d bytes", heap, now)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// Records that lie, or cannot be read, touch nobody else's processes, and can be
// removed.
func TestHostileRecords(t *testing.T) {
	testenv.NeedRoot(t)
	victim := exec.Command("sleep", "1000")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { victim.Process.Kill(); victim.Wait() }()
	rt, before := newRuntime(t, nil)
	pidfd, err := proc.OpenPID(victim.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	self, err := proc.Identify(victim.Process.Pid, pidfd)
	pidfd.Close()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func(*record)) func(path string) error {
		return func(path string) error {
			r, err := readRecord(filepath.Dir(path))
			if err != nil {
				return err
			}
			f(r)
			return r.write(filepath.Dir(path))
		}
	}
	raw := func(s string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(s), 0o600) }
	}
	for _, tt := range []struct {
		name   string
		change func(path string) error
		bad    bool // the record cannot be used at all
	}{
		{"another boot", edit(func(r *record) { r.Pause.Boot = "other" }), false},
		{"reused PID", edit(func(r *record) { r.Pause = proc.Identity{PID: self.PID, Start: self.Start + 1, Boot: self.Boot} }), false},
		{"a stranger's process", edit(func(r *record) { r.Pause = self }), false},
		{"init", edit(func(r *record) { r.Pause.PID = 1 }), false},
		{"negative PID", edit(func(r *record) { r.Pause.PID = -1 }), false},
		{"truncated", func(path string) error { return os.Truncate(path, 100) }, true},
		{"empty", raw(""), true},
		{"not JSON", raw("\x00\xff"), true},
		{"wrong types", raw(`{"version":"x","pause":[1]}`), true},
		{"deep", raw(strings.Repeat("[", 100000)), true},
		{"huge", raw(`{"id":"` + strings.Repeat("a", 2<<20) + `"}`), true},
		{"another ID", edit(func(r *record) { r.ID = strings.Repeat("a", 64) }), true},
		{"path in the name", raw(`{"version":1,"state":"running","spec":{"name":"../../etc","network":{"mode":"pod"}}}`), true},
		{"another version", edit(func(r *record) { r.Version = 99 }), true},
		{"unknown state", edit(func(r *record) { r.State = "odd" }), true},
		{"a directory", func(path string) error { os.Remove(path); return os.Mkdir(path, 0o700) }, true},
		{"none", os.Remove, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := create(t, rt, Spec{Name: "p"})
			if err := tt.change(filepath.Join(rt.podDir(s.ID()), recordFile)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Info(); (err != nil) != tt.bad {
				t.Errorf("info: %v", err)
			}
			if _, err := s.Enter(bg); err == nil {
				t.Error("entered")
			}
			if err := s.Kill(bg, unix.SIGKILL); err != nil && !tt.bad && !errors.Is(err, ErrNotRunning) {
				t.Errorf("kill: %v", err)
			}
			if _, err := rt.List(bg); err != nil && !errors.Is(err, ErrBadRecord) && !errors.Is(err, unix.EISDIR) {
				t.Errorf("list: %v", err)
			}
			if err := s.Remove(bg); err != nil {
				t.Errorf("remove: %v", err)
			}
			if exists(rt.podDir(s.ID())) || exists(rt.namePath("p")) {
				t.Error("it is still there")
			}
			if !alive(t, victim.Process.Pid) {
				t.Fatal("a stranger's process was killed")
			}
			// A pause whose identity was lost is found by what it is called.
			if _, err := rt.Sweep(bg); err != nil {
				t.Errorf("sweep: %v", err)
			}
		})
	}
	rt.background.Wait()
	before.Same(t, rt.root, "after hostile records")
}

func TestHostileRoot(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	os.Mkdir(open, 0o777)
	os.Chmod(open, 0o777)
	others := filepath.Join(dir, "others")
	os.Mkdir(others, 0o700)
	os.Chown(others, 65534, 65534)
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	link := filepath.Join(dir, "link")
	os.Symlink(others, link)
	for _, root := range []string{open, others, file, link} {
		if _, err := Open(Options{Root: root}); !errors.Is(err, ErrUnsafeRoot) {
			t.Errorf("%s: %v", root, err)
		}
	}
}

func TestFullFilesystem(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	if err := unix.Mount("tmpfs", rt.root, "tmpfs", 0, "size=64k,mode=700"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(rt.root, unix.MNT_DETACH)
	s := create(t, rt, Spec{Name: "p"})
	filler := filepath.Join(rt.root, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	before := testenv.Look(t, rt.root)
	if _, err := rt.Create(bg, Spec{Name: "q"}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("create: %v", err)
	}
	before.Same(t, rt.root, "after a create on a full filesystem")
	if err := s.Remove(bg); err != nil {
		t.Errorf("remove: %v", err)
	}
	if left, err := rt.podIDs(); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// A label that lies cannot make a sweep take the host's namespaces for a pod's.
func TestSweepSparesTheHost(t *testing.T) {
	rt, before := newRuntime(t, nil)
	s := create(t, rt, Spec{Name: "p", Share: []Namespace{Net}})
	pid := info(t, s).PausePID
	pidfd, err := proc.OpenPID(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	err = rt.removePause(bg, foundPause{id: s.ID(), owned: []Namespace{Net, IPC}, pid: pid, pidfd: pidfd})
	if !errors.Is(err, ErrBadRecord) {
		t.Errorf("error %v", err)
	}
	if found, ok := rt.pauseLabel(pid); !ok || join(found.owned) != "net" || found.id != s.ID() {
		t.Errorf("label %+v, %v", found, ok)
	}
	pidfd.Close()
	s.Remove(bg)
	rt.background.Wait()
	before.Same(t, rt.root, "after a sweep that was refused")
}

// A route into the range makes one address unusable, not the range.
func TestRouteIntoRange(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := netlink.ParseAddr("10.6.0.3/32")
	if err := netlink.AddrAdd(lo, addr); err != nil {
		t.Fatal(err)
	}
	defer netlink.AddrDel(lo, addr)
	n := netns.Network{Range: netip.MustParsePrefix("10.6.0.0/24")}
	for _, want := range []string{"10.6.0.2", "10.6.0.4"} {
		if i := info(t, create(t, rt, Spec{Network: n})); i.IP != want {
			t.Errorf("got %s, want %s", i.IP, want)
		}
	}
	addr2, _ := netlink.ParseAddr("10.7.0.1/16")
	if err := netlink.AddrAdd(lo, addr2); err != nil {
		t.Fatal(err)
	}
	defer netlink.AddrDel(lo, addr2)
	n.Range = netip.MustParsePrefix("10.7.9.0/24")
	if _, err := rt.Create(bg, Spec{Network: n}); !errors.Is(err, netns.ErrConflict) {
		t.Errorf("range within a route: %v", err)
	}
}

// Who enters a pod all the time does not keep it from being stopped.
func TestStopIsNotStarved(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	s := create(t, rt, Spec{})
	ctx, cancel := context.WithCancel(bg)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if e, err := s.Enter(ctx); err == nil {
					time.Sleep(2 * time.Millisecond)
					e.Close()
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	if err := s.Stop(bg, StopOptions{}); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("stop took %v", d)
	}
	cancel()
	wg.Wait()
}

func TestExhausted(t *testing.T) {
	rt, before := newRuntime(t, nil)
	n := netns.Network{Range: netip.MustParsePrefix("10.5.0.0/30")} // one address for a pod
	create(t, rt, Spec{Name: "p", Network: n})
	if _, err := rt.Create(bg, Spec{Name: "q", Network: n}); !errors.Is(err, netns.ErrExhausted) {
		t.Errorf("create: %v", err)
	}
	s, _ := rt.Open("p")
	s.Remove(bg)
	rt.background.Wait()
	before.Same(t, rt.root, "after an exhausted range")
}

func TestWithoutIPv6(t *testing.T) {
	rt, _ := newRuntime(t, nil)
	const conf = "/proc/sys/net/ipv6/conf/default/disable_ipv6"
	if err := os.WriteFile(conf, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(conf, []byte("0"), 0)
	if i := info(t, create(t, rt, Spec{})); i.IP == "" || i.IP6 != "" || i.State != Running {
		t.Errorf("%+v", i)
	}
	n := netns.Network{IP6: netip.MustParseAddr("fd00::9")}
	if _, err := rt.Create(bg, Spec{Network: n}); !errors.Is(err, unix.EAFNOSUPPORT) {
		t.Errorf("with an IPv6 address: %v", err)
	}
}

func TestReadOnlySysctls(t *testing.T) {
	rt, before := newRuntime(t, nil)
	if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	undo := sync.OnceFunc(func() { unix.Unmount("/proc/sys", unix.MNT_DETACH) })
	defer undo()
	if err := unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := rt.Create(bg, Spec{Name: "p", Sysctls: map[string]string{"net.core.somaxconn": "9"}})
	if !errors.Is(err, unix.EROFS) || strings.Contains(err.Error(), "\n") {
		t.Errorf("create: %v", err)
	}
	if _, err := rt.Open("p"); !errors.Is(err, ErrNotFound) {
		t.Errorf("open: %v", err)
	}
	undo()
	rt.background.Wait()
	before.Same(t, rt.root, "after read-only sysctls")
}

// Without a capability that it takes, a create fails with one line and leaves
// nothing.
func TestMissingCapability(t *testing.T) {
	rt, before := newRuntime(t, nil)
	for name, c := range map[string]uintptr{
		"CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN,
	} {
		cmd := child(rt.root, "create", "p", 0)
		var out bytes.Buffer
		cmd.Stderr = &out
		// What root executes gets what its bounding set has; capabilities(7).
		err := nsthread.Do(func() error {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
				return err
			}
			return cmd.Run()
		})
		var ee *exec.ExitError
		if !errors.As(err, &ee) || ee.ExitCode() != 1 || strings.Count(out.String(), "\n") != 1 ||
			!strings.Contains(out.String(), "operation not permitted") {
			t.Errorf("without %s: %v: %s", name, err, out.String())
		}
		before.Same(t, rt.root, "without "+name)
	}
}

// A removal whose request was cancelled goes on; a create that was, is undone.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(bg)
	rt, before := newRuntime(t, func(step string) error {
		if step == "wire" {
			cancel()
		}
		return nil
	})
	if _, err := rt.Create(ctx, Spec{Name: "p"}); !errors.Is(err, context.Canceled) {
		t.Errorf("create: %v", err)
	}
	rt.background.Wait()
	before.Same(t, rt.root, "after a cancelled create")
}

func TestSweep(t *testing.T) {
	rt, before := newRuntime(t, nil)
	s := create(t, rt, Spec{Name: "p"})
	joinPod(t, s, "sleep", "1000")
	// All that a person can do to the records by hand.
	os.Symlink(strings.Repeat("a", 64), rt.namePath("gone"))
	os.Symlink(strings.Repeat("a", 64), filepath.Join(rt.root, "leases", "10.88.9.9"))
	os.Mkdir(rt.podDir(strings.Repeat("b", 64)), 0o700)
	if err := os.RemoveAll(rt.podDir(s.ID())); err != nil {
		t.Fatal(err)
	}
	done, err := rt.Sweep(bg)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(done, "\n")
	for _, want := range []string{"pod " + strings.Repeat("b", 64), "pause ", "name gone", "name p", "address 10.88.9.9"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	rt.background.Wait()
	before.Same(t, rt.root, "after a sweep")
	if done, err := rt.Sweep(bg); err != nil || len(done) > 0 {
		t.Errorf("second sweep: %v, %v", done, err)
	}
}

func TestPlan(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	rt, err := Open(Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := rt.Plan(Spec{Name: "web"})
	if err != nil || len(plan) < 5 {
		t.Errorf("%v, %v", plan, err)
	}
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a question made %s: %v", root, err)
	}
}

// TestLargeSpec sees to it that a pod is either made and found again, or not made.
func TestLargeSpec(t *testing.T) {
	rt, world := newRuntime(t, nil)
	spec := func(size int) Spec {
		return Spec{
			Name: "large", Network: netns.Network{Mode: netns.ModeNone},
			Annotations: map[string]string{"a/b": strings.Repeat("\x00", 200<<10)}, // six bytes each, in JSON
			Volumes:     []volumes.Volume{{Name: "v", Files: &volumes.Files{Memory: true, Entries: []volumes.File{{Path: "f", Content: make([]byte, size)}}}}},
		}
	}
	if _, err := rt.Create(bg, spec(6<<20)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "at most") {
		t.Errorf("8 MiB: %v", err)
	}
	world.Same(t, rt.root, "after a create that was refused")
	s := create(t, rt, spec(3<<20))
	if got := info(t, s).Annotations["a/b"]; len(got) != 200<<10 {
		t.Errorf("%d bytes of annotation", len(got))
	}
	if err := s.Remove(bg); err != nil {
		t.Error(err)
	}
	world.Same(t, rt.root, "after rm")
}

func TestRecordRoundTrip(t *testing.T) {
	id := names.NewID()
	r := &record{Version: 1, ID: id, State: Running, Spec: Spec{Name: "x", Network: netns.Network{IP: netip.MustParseAddr("10.0.0.1")}}.withDefaults(id)}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	got := new(record)
	if err := json.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	if err := got.check(id); err != nil {
		t.Error(err)
	}
	b2, _ := json.Marshal(got)
	if string(b) != string(b2) {
		t.Errorf("%s\n%s", b, b2)
	}
}
