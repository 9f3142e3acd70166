package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/internal/nsfs"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/netns"
)

// A member is a process in a pod, other than its pause, however it got there:
// whatever is in one of the pod's own namespaces. A descendant that has left them
// all (unshare(2) as root) is none.
type member struct {
	pid   int
	pidfd *os.File
}

type members []member

func (ms members) close() {
	for _, m := range ms {
		m.pidfd.Close()
	}
}

// signal sends sig to all; those that have ended meanwhile do not count.
func (ms members) signal(sig unix.Signal) error {
	var errs []error
	for _, m := range ms {
		if err := proc.Signal(m.pidfd, sig); err != nil && !errors.Is(err, proc.ErrGone) {
			errs = append(errs, fmt.Errorf("process %d: %w", m.pid, err))
		}
	}
	return errors.Join(errs...)
}

// A look is one look at the processes of the machine, shared by those who ask
// about many pods at once.
type look struct {
	of *looks

	mu     sync.Mutex
	pids   []int
	inodes map[Namespace]map[uint64][]int // PIDs by the namespace that they are in
}

// looks hands out looks. To look takes a readlink for each process and kind of namespace:
// some 10 µs for each pod of the machine, and who removes a thousand pods would look
// a thousand times at a thousand. So there is one look at a time, and whoever wants one
// meanwhile shares the next with all others who do.
type looks struct {
	turn sync.Mutex // of the look that goes on

	mu   sync.Mutex
	next *look
}

// fresh returns a look that has not begun: it will see all that is there by now.
func (ls *looks) fresh() *look {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.next == nil {
		ls.next = &look{of: ls}
	}
	return ls.next
}

// begin makes sure that nobody gets this look any more.
func (ls *looks) begin(l *look) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.next == l {
		ls.next = nil
	}
}

// at returns which processes are in which namespaces of kind n.
func (l *look) at(n Namespace) (map[uint64][]int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in, done := l.inodes[n]; done {
		return in, nil
	}
	l.of.turn.Lock()
	defer l.of.turn.Unlock()
	if l.pids == nil {
		l.of.begin(l)
		pids, err := proc.PIDs()
		if err != nil {
			return nil, err
		}
		l.pids, l.inodes = pids, make(map[Namespace]map[uint64][]int)
	}
	in := make(map[uint64][]int)
	self := os.Getpid()
	for _, pid := range l.pids {
		// A process may end at any moment, and a zombie has no namespaces.
		if inode, err := nsfs.Inode(pid, string(n)); err == nil && pid != self {
			in[inode] = append(in[inode], pid)
		}
	}
	l.inodes[n] = in
	return in, nil
}

// members returns the members of a pod. While the pause lives, it keeps the
// pod's namespaces from being confused with others. Without it their inode
// numbers may be somebody else's by now, and a process counts only if the kernel
// says more: an ID that is never reused, or that the pod's own link leads there.
func (l *look) members(rec *record, pauseAlive bool) (members, error) {
	if boot, err := proc.BootID(); err != nil || rec.Pause.Boot != boot && !pauseAlive {
		return nil, err // nothing outlives a reboot
	}
	var ms members
	seen := map[int]bool{rec.Pause.PID: pauseAlive}
	for _, n := range allNamespaces {
		id, has := rec.Namespaces[n]
		if !has || !rec.Spec.owns(n) {
			continue
		}
		in, err := l.at(n)
		if err != nil {
			ms.close()
			return nil, err
		}
		for _, pid := range in[id.Inode] {
			if seen[pid] {
				continue
			}
			seen[pid] = true
			pidfd, err := proc.OpenPID(pid)
			if errors.Is(err, proc.ErrGone) {
				continue
			}
			if err != nil {
				ms.close()
				return nil, err
			}
			// Only now the PID stands for one process; look again.
			if !isMember(rec, n, id, pid, pauseAlive) || proc.Exited(pidfd) {
				pidfd.Close()
				continue
			}
			ms = append(ms, member{pid, pidfd})
		}
	}
	return ms, nil
}

func isMember(rec *record, n Namespace, want nsfs.ID, pid int, pauseAlive bool) bool {
	got, err := nsfs.OfProcess(pid, string(n))
	switch {
	case err != nil || got.Inode != want.Inode:
		return false
	case pauseAlive:
		return true
	case want.Unique != 0:
		return got.Unique == want.Unique
	}
	if n == Net && rec.wired() && netns.Leads(rec.link(), pid) {
		return true
	}
	// Or that it has the pod's memory mounted, whose name holds the pod's ID.
	_, err = mountPoint(pid, shmSource(rec))
	return err == nil
}

// settle is how long the kernel may take to end what was killed.
const settle = 10 * time.Second

// endMembers ends all members: first asks them to, by sig, unless grace is 0,
// then kills. Members that appear meanwhile are not spared.
func (ls *looks) endMembers(ctx context.Context, rec *record, pauseAlive bool, sig unix.Signal, grace time.Duration) error {
	asked := map[int]bool{}
	for deadline := time.Now().Add(grace); grace > 0 && time.Now().Before(deadline); {
		ms, err := ls.fresh().members(rec, pauseAlive)
		if err != nil || len(ms) == 0 {
			return err
		}
		var fresh members
		for _, m := range ms {
			if !asked[m.pid] {
				asked[m.pid] = true
				fresh = append(fresh, m)
			}
		}
		err = fresh.signal(sig)
		// Wait for one of them, or a little, then look again: others may have
		// gone with it, or come.
		wctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		_ = proc.Wait(wctx, ms[0].pidfd)
		cancel()
		ms.close()
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	return ls.killMembers(ctx, rec, pauseAlive)
}

func (ls *looks) killMembers(ctx context.Context, rec *record, pauseAlive bool) error {
	deadline := time.Now().Add(settle)
	for {
		ms, err := ls.fresh().members(rec, pauseAlive)
		if err != nil || len(ms) == 0 {
			return err
		}
		err = ms.signal(unix.SIGKILL)
		for _, m := range ms {
			wctx, cancel := context.WithDeadline(ctx, deadline)
			werr := proc.Wait(wctx, m.pidfd)
			cancel()
			if werr != nil {
				err = errors.Join(err, fmt.Errorf("process %d does not end: %w", m.pid, werr))
				break
			}
		}
		ms.close()
		if err != nil {
			return err
		}
	}
}

// endPause ends a pod's pause if it is there.
func endPause(rec *record) error {
	pidfd, err := openPause(rec)
	if errors.Is(err, proc.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer pidfd.Close()
	if err := proc.Signal(pidfd, unix.SIGKILL); err != nil && !errors.Is(err, proc.ErrGone) {
		return err
	}
	return awaitExit(pidfd)
}

func awaitExit(pidfd *os.File) error {
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	err := proc.Wait(ctx, pidfd)
	proc.Reap(pidfd)
	if err != nil {
		return fmt.Errorf("pause does not end: %w", err)
	}
	return nil
}

// eachPause calls f for each pause of this installation that runs, with the
// ID of its pod, on record or not. What a process says of itself is believed only
// from root's processes that run our program.
func (rt *Runtime) eachPause(f func(p foundPause) error) error {
	pids, err := proc.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if !runsPause(pid) {
			continue
		}
		pidfd, err := proc.OpenPID(pid)
		if err != nil {
			continue
		}
		// Only now the PID stands for one process; look again.
		if found, ok := rt.pauseLabel(pid); ok && runsPause(pid) && !proc.Exited(pidfd) {
			found.pid, found.pidfd = pid, pidfd
			err = f(found)
		}
		pidfd.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func runsPause(pid int) bool {
	dir := fmt.Sprintf("/proc/%d", pid)
	exe, err := os.Readlink(dir + "/exe")
	if err != nil || !strings.HasPrefix(exe, "/memfd:"+pauseMemfd) {
		return false
	}
	st, err := os.Stat(dir)
	return err == nil && st.Sys().(*syscall.Stat_t).Uid == 0
}

// A foundPause is a pause as it is found by its command line.
type foundPause struct {
	id    string      // of its pod
	owned []Namespace // what was made for the pod
	pid   int
	pidfd *os.File
}

// pauseLabel reads from a pause's command line whose it is: "pause: NAME [-p]
// OWNED ID ROOT".
func (rt *Runtime) pauseLabel(pid int) (p foundPause, ours bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return p, false
	}
	words := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	n := len(words)
	if n < 4 || !strings.HasPrefix(words[0], pauseTitle) || words[n-1] != rt.root || !names.IsID(words[n-2]) {
		return p, false
	}
	for _, n := range allNamespaces {
		if slices.Contains(strings.Split(words[len(words)-3], ","), string(n)) {
			p.owned = append(p.owned, n)
		}
	}
	p.id = words[n-2]
	return p, true
}
