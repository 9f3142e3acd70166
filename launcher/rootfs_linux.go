package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/sandbox"
)

// A rootfs is a container's mount namespace on its way up. What comes from the
// host is cloned while the calling thread is there; everything else happens in a
// copy of the pause's mount namespace, in which the container's root is a mount
// like others until the last moment.
type rootfs struct {
	spec   *specs.Spec
	root   *os.File // the container's root directory
	dev    *os.File // its /dev, if that is made here
	mounts []*mount
	trees  []*os.File // by the index of mounts: what is bound there
	cwd    *os.File
	proc   *procfs
}

func (r *rootfs) close() {
	for _, f := range append(r.trees[:len(r.trees):len(r.trees)], r.root, r.dev, r.cwd) {
		if f != nil {
			f.Close()
		}
	}
	for _, m := range r.mounts {
		closeViews(m.views)
	}
}

// openRootfs clones what a container has of the host.
func openRootfs(spec *specs.Spec, proc *procfs) (_ *rootfs, err error) {
	r := &rootfs{spec: spec, proc: proc}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.root, err = cloneRoot(spec); err != nil {
		return nil, fmt.Errorf("root.path %q: %w", spec.Root.Path, err)
	}
	return r, r.open()
}

// open clones what is bound from the host.
func (r *rootfs) open() error {
	for i := range r.spec.Mounts {
		m, err := parseMount(&r.spec.Mounts[i])
		if err != nil {
			return err
		}
		r.mounts, r.trees = append(r.mounts, m), append(r.trees, nil)
		if !m.bind || m.fstype == VolumeType {
			continue
		}
		if r.trees[i], err = m.clone(m.source); err != nil {
			return fmt.Errorf("mount %s: %w", m.dest, err)
		}
	}
	return nil
}

// cloneRoot returns the root directory as a mount of its own. Devices in it are
// dead: those that a container has are made for it in /dev.
func cloneRoot(spec *specs.Spec) (*os.File, error) {
	f, err := os.OpenFile(spec.Root.Path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	root, err := mnt.CloneFile(f, true)
	if err != nil {
		return nil, err
	}
	how := uint64(unix.MS_PRIVATE)
	if spec.Linux != nil && spec.Linux.RootfsPropagation != "" {
		how = propagations[spec.Linux.RootfsPropagation]
	}
	if err := mnt.Set(root, true, mnt.Attrs{Set: unix.MOUNT_ATTR_NODEV}, how); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// clone returns what a bind mount shows, as a detached mount.
func (m *mount) clone(source string) (*os.File, error) {
	tree, err := mnt.Clone(source, m.rec)
	if err != nil {
		return nil, err
	}
	if err := m.apply(tree); err != nil {
		tree.Close()
		return nil, err
	}
	return tree, nil
}

// apply gives a detached mount the attributes and the propagation it shall have.
func (m *mount) apply(tree *os.File) error {
	how := m.propagation
	if how == 0 {
		how = unix.MS_PRIVATE
	}
	if err := mnt.Set(tree, m.recProp || m.propagation == 0, mnt.Attrs{}, how); err != nil {
		return err
	}
	if m.attrs != (mnt.Attrs{}) {
		if err := mnt.Set(tree, false, m.attrs, 0); err != nil {
			return err
		}
	}
	if m.recAttrs != (mnt.Attrs{}) {
		if err := mnt.Set(tree, true, m.recAttrs, 0); err != nil {
			return err
		}
	}
	if !m.idmap {
		return nil
	}
	userns, err := newUserNamespace(m.idmaps[0], m.idmaps[1])
	if err != nil {
		return err
	}
	defer userns.Close()
	return mnt.MapIDs(tree, userns, m.rec)
}

// borrow takes what the pod has for its members: its volumes, and its own versions
// of files in /etc, unless the spec puts something there.
func (r *rootfs) borrow(ctx context.Context, entry *sandbox.Entry) error {
	if err := r.borrowVolumes(ctx, entry); err != nil {
		return err
	}
	for _, m := range r.mounts {
		if !m.isCgroup() {
			continue
		}
		var err error
		if m.views, err = m.openViews(r.spec.Linux.CgroupsPath); err != nil {
			return fmt.Errorf("mount %s: %w", m.dest, err)
		}
	}
	for dest, source := range entry.Files {
		if slices.ContainsFunc(r.mounts, func(m *mount) bool { return m.dest == dest }) {
			continue
		}
		m := &mount{dest: dest, bind: true, attrs: mnt.Attrs{Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}}
		tree, err := m.clone(source)
		if err != nil {
			return err
		}
		r.mounts, r.trees = append(r.mounts, m), append(r.trees, tree)
	}
	return nil
}

// borrowVolumes takes those of the pod's volumes that are mounted.
func (r *rootfs) borrowVolumes(ctx context.Context, entry *sandbox.Entry) error {
	for i, m := range r.mounts {
		if m.fstype != VolumeType {
			continue
		}
		var err error
		if r.trees[i], err = entry.Volume(ctx, m.source, m.subPath); err == nil {
			err = m.apply(r.trees[i])
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.dest, err)
		}
	}
	return nil
}

// build makes the mount namespace. The calling thread is in the program's
// namespaces and in a copy of the pause's mount namespace, and has a umask of 0.
func (r *rootfs) build(entry *sandbox.Entry, ns *namespaces) error {
	if err := mnt.Attach(r.root, sandbox.PauseRoot); err != nil {
		return err
	}
	for i, m := range r.mounts {
		if err := r.mount(m, r.trees[i], entry, ns); err != nil {
			return fmt.Errorf("mount %s: %w", m.dest, err)
		}
	}
	if err := r.protect(); err != nil {
		return err
	}
	var err error
	if r.cwd, err = r.workingDirectory(r.spec.Process.Cwd); err != nil || !r.spec.Root.Readonly {
		return err
	}
	return mnt.Set(r.root, false, mnt.Attrs{Set: unix.MOUNT_ATTR_RDONLY}, 0)
}

// pivot makes the container's root that of the calling thread, and lets go of the
// pause's.
func (r *rootfs) pivot() error {
	if err := unix.Fchdir(int(r.root.Fd())); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	// The old root is stacked on the new one, and taken off; pivot_root(2),
	// "pivot_root(".", ".")".
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount2", err)
	}
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}

// mount does one mount; tree is what is bound there.
func (r *rootfs) mount(m *mount, tree *os.File, entry *sandbox.Entry, ns *namespaces) error {
	if rel, is := below(m.dest, "/proc"); is && rel != "." && r.proc.target != nil {
		return fmt.Errorf("%w: /proc is mounted last", ErrNotSupported)
	}
	if m.bind {
		dir, err := isDir(tree)
		if err != nil {
			return err
		}
		return r.cover(tree, m.dest, dir)
	}
	if lent := m.lent(entry, ns); lent != nil {
		if err := mnt.Set(lent, false, m.attrs, 0); err != nil {
			return err
		}
		return r.coverStrictly(lent, m.dest)
	}
	switch m.fstype {
	case "proc":
		// It shows the PID namespace of who mounts it: the child does.
		return r.deferProc(m)
	case "cgroup", "cgroup2":
		return r.mountViews(m)
	}
	return r.mountNew(m)
}

// mountNew mounts a new filesystem.
func (r *rootfs) mountNew(m *mount) error {
	tree, err := mnt.New(m.fstype, int(m.attrs.Set), m.fsOptions()...)
	if err != nil {
		return err
	}
	if !m.isDev() {
		defer tree.Close()
		return r.coverStrictly(tree, m.dest)
	}
	r.dev = tree
	if err := fillDev(tree, r.spec.Linux); err != nil {
		return err
	}
	return r.coverStrictly(tree, m.dest)
}

// fsOptions are what a new filesystem is told.
func (m *mount) fsOptions() []mnt.Option {
	if m.source == "" {
		return m.options
	}
	return append(m.options[:len(m.options):len(m.options)], mnt.Option{Key: "source", Value: m.source})
}

// lent returns the pod's own filesystem for a mount of its kind.
func (m *mount) lent(entry *sandbox.Entry, ns *namespaces) *os.File {
	switch {
	case m.fstype == "sysfs" && ns.joins(unix.CLONE_NEWNET):
		return entry.Sys
	case m.fstype == "mqueue" && ns.joins(unix.CLONE_NEWIPC):
		return entry.Mqueue
	case m.fstype == "tmpfs" && m.dest == "/dev/shm" && ns.joins(unix.CLONE_NEWIPC):
		return entry.Shm
	case m.fstype == "proc" && ns.joins(unix.CLONE_NEWPID):
		return entry.Proc
	}
	return nil
}

// cover covers a path with a detached mount.
func (r *rootfs) cover(tree *os.File, dest string, dir bool) error {
	t, err := target(r.root, dest, dir)
	if err != nil {
		return err
	}
	defer t.Close()
	return mnt.Cover(tree, t)
}

// coverStrictly is cover for what programs, and we, rely on to be where it says: a
// link in its place is refused (CVE-2019-19921).
func (r *rootfs) coverStrictly(tree *os.File, dest string) error {
	t, err := r.strictTarget(dest)
	if err != nil {
		return err
	}
	defer t.Close()
	return mnt.Cover(tree, t)
}

func (r *rootfs) strictTarget(dest string) (*os.File, error) {
	t, err := openIn(r.root, dest, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if errors.Is(err, unix.ENOENT) {
		var made *os.File
		if made, err = makeDir(r.root, dest); err == nil {
			made.Close()
			t, err = openIn(r.root, dest, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
		}
	}
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: a symbolic link of the root is in its way", ErrInvalid)
	}
	return t, err
}

// protect hides what shall be hidden and makes read-only what shall be.
func (r *rootfs) protect() error {
	l := r.spec.Linux
	if l == nil {
		return nil
	}
	for _, p := range l.ReadonlyPaths {
		if rel, is := below(path.Clean(p), "/proc"); is && r.proc.target != nil {
			r.proc.readonly = append(r.proc.readonly, rel)
		} else if err := r.setReadonly(p); err != nil {
			return fmt.Errorf("linux.readonlyPaths %s: %w", p, err)
		}
	}
	for _, p := range l.MaskedPaths {
		if rel, is := below(path.Clean(p), "/proc"); is && r.proc.target != nil {
			if err := r.proc.mask(rel); err != nil {
				return fmt.Errorf("linux.maskedPaths %s: %w", p, err)
			}
		} else if err := r.mask(p); err != nil {
			return fmt.Errorf("linux.maskedPaths %s: %w", p, err)
		}
	}
	return nil
}

func (r *rootfs) setReadonly(p string) error {
	t, err := openIn(r.root, p, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer t.Close()
	tree, err := mnt.CloneFile(t, true)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := mnt.Set(tree, true, mnt.Attrs{Set: unix.MOUNT_ATTR_RDONLY}, 0); err != nil {
		return err
	}
	return mnt.Cover(tree, t)
}

func (r *rootfs) mask(p string) error {
	t, err := openIn(r.root, p, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer t.Close()
	dir, err := isDir(t)
	if err != nil {
		return err
	}
	m, err := newMask(dir)
	if err != nil {
		return err
	}
	defer m.Close()
	return mnt.Cover(m, t)
}

// newMask returns a detached mount of nothing: of the pause's own null device, or
// its empty directory, which no container can reach and replace (CVE-2025-31133).
// It is read-only, so that nobody changes the modes of either.
func newMask(dir bool) (*os.File, error) {
	source, attrs := sandbox.PauseEmpty, mnt.Attrs{Set: unix.MOUNT_ATTR_RDONLY}
	if !dir {
		source, attrs.Clear = sandbox.PauseNull, unix.MOUNT_ATTR_NODEV
	}
	m, err := mnt.Clone(source, false)
	if err != nil {
		return nil, err
	}
	if err := mnt.Set(m, false, attrs, 0); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// coverWith mounts what source has open on place.
func coverWith(place, source *os.File) error {
	m, err := mnt.CloneFile(source, false)
	if err != nil {
		return err
	}
	defer m.Close()
	return mnt.Cover(m, place)
}

// workingDirectory opens a program's, and makes it if need be.
func (r *rootfs) workingDirectory(dir string) (*os.File, error) {
	f, err := openIn(r.root, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) && !strings.HasPrefix(dir, "/proc/") {
		f, err = makeDir(r.root, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("process.cwd: %w", err)
	}
	return f, nil
}

// newMountThread prepares the calling thread for a mount namespace of another
// process: it shall share its root and its umask with nobody.
func newMountThread() error {
	if err := nsthread.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	unix.Umask(0)
	return nil
}
