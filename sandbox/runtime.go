package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/internal/steps"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/netns/cni"
)

// DefaultRoot is where pods are recorded: a tmpfs on every system with systemd.
const DefaultRoot = "/run/podbox"

// DefaultStateDir is where pods keep what needs a disk.
const DefaultStateDir = "/var/lib/podbox"

// Options are those of Open. The zero value is the default.
type Options struct {
	// Root is the directory of the records. It must be on a filesystem that
	// has symbolic links, and should be on a tmpfs. Two runtimes with
	// different roots do not know of each other. Empty: DefaultRoot.
	Root string
	// StateDir is where pods have what is not to be in memory: volumes on the
	// disk, and logs. Empty: DefaultStateDir. It is made when it is needed.
	StateDir string
	// CNI says where networks of mode cni and their plugins are. The zero value is the
	// default. A pod keeps to what it was created with.
	CNI cni.Driver
	// Logger is told, at level debug, of each step that is done. Nil: nobody.
	Logger *slog.Logger

	// hook is called before each step; for tests.
	hook steps.Hook
}

// A Runtime is one installation of podbox: the pods recorded below one
// directory.
//
//	ROOT/pods/ID/       a pod: record.json, hosts, resolv.conf, hostname
//	ROOT/names/NAME     symbolic link to ID: the name is taken
//	ROOT/leases/ADDR    symbolic link to ID: the address is taken
//	ROOT/ports/PORT/    symbolic links to IDs: the port of the host is taken
//	ROOT/rules/         the lock of the host's nftables; which links forward for us, and which ranges are pods'
//	STATEDIR/pods/ID/   what a pod has on the disk, if anything: volumes, logs, what CNI plugins have done
type Runtime struct {
	root     string
	stateDir string
	cni      cni.Driver

	log      *slog.Logger
	hook     steps.Hook
	leases   *netns.Leases
	claims   *netns.Claims
	rules    netns.Rules
	loopback netns.Loopback6
	birth    birthplace
	looks    looks
	// background are the removals that the kernel has not finished.
	background sync.WaitGroup
}

// Open returns the runtime whose records are below opts.Root. It changes nothing:
// the directory is made with the first pod.
func Open(opts Options) (*Runtime, error) {
	if opts.Root == "" {
		opts.Root = DefaultRoot
	}
	if opts.StateDir == "" {
		opts.StateDir = DefaultStateDir
	}
	root, err := realPath(opts.Root)
	if err != nil {
		return nil, err
	}
	stateDir, err := realPath(opts.StateDir)
	if err != nil {
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if err := opts.CNI.Validate(); err != nil {
		return nil, err
	}
	rt := &Runtime{root: root, stateDir: stateDir, cni: opts.CNI, log: opts.Logger}
	rt.leases = &netns.Leases{Dir: filepath.Join(root, "leases"), Alive: rt.recorded}
	rt.claims = &netns.Claims{Dir: filepath.Join(root, "ports")}
	rt.rules = netns.Rules{Table: tableName(root), Key: rt.rulesKey, Later: rt.background.Go}
	rt.loopback = netns.Loopback6{Name: netns.LoopbackName(rt.rules.Table)}
	rt.hook = func(step string) error {
		rt.log.Debug("step", "name", step)
		if opts.hook != nil {
			return opts.hook(step)
		}
		return nil
	}
	if err := checkRoot(root); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return rt, nil
}

// realPath returns the absolute path of a directory, which need not be there yet, with
// links in its parents resolved: however it is spelled, it is one and the same.
func realPath(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	parent, rest := filepath.Dir(dir), filepath.Base(dir)
	for {
		real, err := filepath.EvalSymlinks(parent)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || parent == "/" {
			return "", err
		}
		parent, rest = filepath.Dir(parent), filepath.Join(filepath.Base(parent), rest)
	}
}

// Close ends the use of a Runtime, not its pods. It waits until the kernel has
// freed what Remove and Stop have removed, which takes milliseconds.
func (rt *Runtime) Close() error {
	rt.background.Wait()
	return rt.birth.close()
}

// Root returns the directory of the records.
func (rt *Runtime) Root() string { return rt.root }

// StateDir returns the directory for what is kept on a disk.
func (rt *Runtime) StateDir() string { return rt.stateDir }

// checkRoot refuses a directory in which others could forge records.
func checkRoot(root string) error {
	st, err := os.Lstat(root)
	if err != nil {
		return err
	}
	sys := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.IsDir():
		return fmt.Errorf("%s: %w: not a directory", root, ErrUnsafeRoot)
	case int(sys.Uid) != os.Geteuid() && os.Geteuid() == 0:
		return fmt.Errorf("%s: %w: belongs to user %d", root, ErrUnsafeRoot, sys.Uid)
	case st.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s: %w: others may write to it (mode %04o)", root, ErrUnsafeRoot, st.Mode().Perm())
	}
	return nil
}

// makeRoot makes the directories that a pod's creation relies on.
func (rt *Runtime) makeRoot() error {
	err := os.Mkdir(rt.root, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(rt.root), 0o755); err == nil {
			err = os.Mkdir(rt.root, 0o700)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := checkRoot(rt.root); err != nil {
		return err
	}
	for _, name := range []string{"pods", "names"} {
		if err := os.Mkdir(filepath.Join(rt.root, name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func (rt *Runtime) podDir(id string) string  { return filepath.Join(rt.root, "pods", id) }
func (rt *Runtime) namePath(n string) string { return filepath.Join(rt.root, "names", n) }
func (rt *Runtime) recorded(id string) bool  { return exists(rt.podDir(id)) }
func exists(path string) bool                { _, err := os.Lstat(path); return err == nil }
func (rt *Runtime) podIDs() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(rt.root, "pods"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if names.IsID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// others reports whether there is a pod besides that with the given ID. It reads no more
// of the directory than it takes to find one.
func (rt *Runtime) others(id string) (bool, error) {
	d, err := os.Open(filepath.Join(rt.root, "pods"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer d.Close()
	for {
		some, err := d.Readdirnames(16)
		if slices.ContainsFunc(some, func(name string) bool { return names.IsID(name) && name != id }) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// Open returns the pod that ref names: a name, an ID or the unique beginning of
// an ID. A name wins over a beginning of an ID. It does not read the pod's record,
// which may turn out to be bad.
func (rt *Runtime) Open(ref string) (*Sandbox, error) {
	id, err := rt.resolve(ref)
	if err != nil {
		return nil, fmt.Errorf("pod %q: %w", ref, err)
	}
	return &Sandbox{rt: rt, id: id, ref: ref}, nil
}

func (rt *Runtime) resolve(ref string) (string, error) {
	if names.IsLabel(ref) {
		if id, err := os.Readlink(rt.namePath(ref)); err == nil && names.IsID(id) && rt.recorded(id) {
			return id, nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EINVAL) {
			return "", err
		}
	}
	if names.IsID(ref) {
		if !rt.recorded(ref) {
			return "", ErrNotFound
		}
		return ref, nil
	}
	if !names.MayBeginID(ref) {
		return "", ErrNotFound
	}
	ids, err := rt.podIDs()
	if err != nil {
		return "", err
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, ref) })
	switch len(ids) {
	case 0:
		return "", ErrNotFound
	case 1:
		return ids[0], nil
	}
	return "", fmt.Errorf("%w: %d pods begin with it", ErrAmbiguous, len(ids))
}

// List returns what is known of all pods, in the order of their creation. Pods
// whose records cannot be read are told of in the error; the others are returned
// nevertheless.
func (rt *Runtime) List(ctx context.Context) ([]*Info, error) {
	ids, err := rt.podIDs()
	if err != nil {
		return nil, err
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		infos []*Info
		errs  []error
	)
	// A share for each CPU; a small one is not worth a goroutine.
	share := max(64, len(ids)/runtime.GOMAXPROCS(0)+1)
	for some := range slices.Chunk(ids, share) {
		wg.Go(func() {
			i, err := rt.listSome(ctx, some)
			mu.Lock()
			defer mu.Unlock()
			infos, errs = append(infos, i...), append(errs, err)
		})
	}
	wg.Wait()
	slices.SortFunc(infos, func(a, b *Info) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return infos, errors.Join(errs...)
}

func (rt *Runtime) listSome(ctx context.Context, ids []string) ([]*Info, error) {
	look := rt.looks.fresh()
	var infos []*Info
	var errs []error
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return infos, err
		}
		rec, err := readRecord(rt.podDir(id))
		if errors.Is(err, fs.ErrNotExist) {
			continue // on its way in or out
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		infos = append(infos, rt.info(rec, look))
	}
	return infos, errors.Join(errs...)
}

// claimName takes a name for a pod, or returns ErrExists. A name whose pod is
// gone, or was never finished by a creator that is gone, is taken over.
func (rt *Runtime) claimName(ctx context.Context, name, id string) error {
	path := rt.namePath(name)
	for {
		err := os.Symlink(id, path)
		if err == nil || !errors.Is(err, fs.ErrExist) {
			return err
		}
		holder, err := os.Readlink(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // given back just now
		}
		if err != nil {
			return err
		}
		if holder == id {
			return nil
		}
		if err := rt.dropName(ctx, name, holder); err != nil {
			return err
		}
	}
}

// dropName frees a name whose holder is dead, or returns ErrExists.
func (rt *Runtime) dropName(ctx context.Context, name, holder string) error {
	if names.IsID(holder) && rt.recorded(holder) {
		err := rt.sweepPod(ctx, holder)
		if errors.Is(err, errAlive) {
			return fmt.Errorf("%w: %q is %.12s", ErrExists, name, holder)
		}
		return err
	}
	return rt.releaseName(ctx, name, holder)
}

// releaseName gives a name back if it is the pod's. The pod may be gone, and
// another creator about to take the name over: the lock keeps either from removing
// what the other has just taken.
func (rt *Runtime) releaseName(ctx context.Context, name, id string) error {
	lock, err := flock.Wait(ctx, filepath.Join(rt.root, "names"), flock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Close()
	holder, err := os.Readlink(rt.namePath(name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && holder != id {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(rt.namePath(name))
}

// cleanupTime bounds a clean-up, which does not end with the context of the
// request that made it necessary.
const cleanupTime = 30 * time.Second
