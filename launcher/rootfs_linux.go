package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	ids    idMapping
	root   *os.File // the container's root directory
	dev    *mount   // its /dev, if that is made here
	pts    *os.File // the root of its devpts(5), if it has one
	mounts []*mount
	late   []lateReadonly
	cwd    *os.File
	proc   *procfs
}

// A lateReadonly becomes read-only when nothing is to be made in it any more.
type lateReadonly struct {
	mount     *os.File
	recursive bool
}

func (r *rootfs) close() {
	for _, f := range []*os.File{r.root, r.pts, r.cwd} {
		if f != nil {
			f.Close()
		}
	}
	for _, m := range r.mounts {
		if m.tree != nil {
			m.tree.Close()
		}
		closeViews(m.views)
	}
}

// openRootfs clones what a container has of the host.
func openRootfs(l *launch) (_ *rootfs, err error) {
	r := &rootfs{spec: l.spec, ids: l.ids, proc: &l.proc}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if l.opts.Root != nil {
		r.root, err = l.opts.Root(l.userns)
	} else if r.root, err = cloneRoot(l.spec.Root.Path); err != nil {
		err = fmt.Errorf("root.path %q: %w", l.spec.Root.Path, err)
	}
	if err != nil {
		return nil, err
	}
	if err = r.ownRoot(); err != nil {
		return nil, err
	}
	return r, r.open()
}

// open clones what is bound from the host.
func (r *rootfs) open() error {
	for i := range r.spec.Mounts {
		m, err := parseMount(&r.spec.Mounts[i])
		if err == nil {
			err = m.inherit(r.spec.Linux)
		}
		if err != nil {
			return err
		}
		r.mounts = append(r.mounts, m)
		if m.fstype == overlayType {
			if m.tree, err = m.newOverlay(); err != nil {
				return fmt.Errorf("mount %s: %w", m.dest, err)
			}
			continue
		}
		if !m.bind || m.fstype == VolumeType {
			continue
		}
		if m.tree, err = m.clone(m.source); err != nil {
			return fmt.Errorf("mount %s: %w", m.dest, err)
		}
	}
	return nil
}

// cloneRoot returns the root directory as a mount of its own.
func cloneRoot(path string) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	return mnt.CloneFile(f, true)
}

// ownRoot makes the root, with all that is mounted in it, the container's own. Devices in
// it are dead: those that a container has are made for it in /dev.
func (r *rootfs) ownRoot() error {
	root, spec := r.root, r.spec
	// What is mounted in it from now on is nobody else's.
	how := uint64(unix.MS_PRIVATE)
	if rootPropagation(spec) == unix.MS_SLAVE {
		how = unix.MS_SLAVE
	}
	attrs := mnt.Attrs{Set: unix.MOUNT_ATTR_NODEV}
	if spec.Root.Readonly {
		attrs.Add(unix.MOUNT_ATTR_RDONLY, 0)
	}
	var st unix.Statfs_t
	err := os.NewSyscallError("fstatfs", unix.Fstatfs(int(root.Fd()), &st))
	if err == nil {
		err = mnt.Set(root, true, attrs, how)
	}
	if err == nil && spec.Root.Readonly && st.Flags&unix.ST_RDONLY == 0 {
		// The root itself is made so last, when all that is mounted in it has its
		// place; unless it is so on the host.
		err = mnt.Set(root, false, mnt.Attrs{Clear: unix.MOUNT_ATTR_RDONLY}, 0)
	}
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	return nil
}

func rootPropagation(spec *specs.Spec) uint64 {
	if spec.Linux == nil {
		return 0
	}
	return propagations[spec.Linux.RootfsPropagation]
}

// borrow takes what the pod has for its members: its volumes, and its own versions
// of files in /etc, unless the spec puts something there.
func (r *rootfs) borrow(ctx context.Context, entry *sandbox.Entry) error {
	if err := r.borrowVolumes(ctx, entry); err != nil {
		return err
	}
	if entry.Flags&unix.CLONE_NEWIPC == 0 && r.spec.Root != nil {
		if err := r.borrowShm(); err != nil {
			return err
		}
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
		if r.spec.Root != nil {
			// They are the other members' as well, and on the host's tmpfs.
			m.attrs.Add(unix.MOUNT_ATTR_RDONLY, 0)
		}
		var err error
		if m.tree, err = m.clone(source); err != nil {
			return err
		}
		r.mounts = append(r.mounts, m)
	}
	return nil
}

// borrowShm takes the host's /dev/shm for a container that is in the host's IPC
// namespace: what is shared by POSIX's names goes together with what is by System V's.
// The host's size stays.
func (r *rootfs) borrowShm() error {
	if l := r.spec.Linux; l != nil && slices.ContainsFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.IPCNamespace }) {
		return nil
	}
	for _, m := range r.mounts {
		if !m.isShm() {
			continue
		}
		var err error
		if m.tree, err = m.clone(m.dest); err != nil {
			return fmt.Errorf("mount %s: %w", m.dest, err)
		}
	}
	return nil
}

// borrowVolumes takes those of the pod's volumes that are mounted.
func (r *rootfs) borrowVolumes(ctx context.Context, entry *sandbox.Entry) error {
	for _, m := range r.mounts {
		if m.fstype != VolumeType {
			continue
		}
		var err error
		if m.tree, err = entry.Volume(ctx, m.source, m.subPath); err == nil {
			err = m.apply(m.tree)
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
	for _, m := range r.mounts {
		if err := r.mount(m, entry, ns); err != nil {
			return fmt.Errorf("mount %s: %w", m.dest, err)
		}
	}
	if err := r.hasDevices(); err != nil {
		return err
	}
	if err := r.protect(); err != nil {
		return err
	}
	var err error
	r.cwd, err = r.workingDirectory(r.spec.Process.Cwd)
	return err
}

// finish makes read-only what could not be from the beginning, and makes the
// container's root that of the calling thread. It lets go of the pause's.
func (r *rootfs) finish() error {
	if r.spec.Root.Readonly {
		r.late = append(r.late, lateReadonly{r.root, false})
	}
	for _, l := range r.late {
		if err := mnt.Set(l.mount, l.recursive, mnt.Attrs{Set: unix.MOUNT_ATTR_RDONLY}, 0); err != nil {
			return fmt.Errorf("make read-only: %w", err)
		}
	}
	if err := r.pivot(); err != nil {
		return err
	}
	how := rootPropagation(r.spec)
	if how != unix.MS_SHARED && how != unix.MS_UNBINDABLE {
		return nil
	}
	// Not before: pivot_root(2) refuses a root that is shared.
	if err := mnt.Set(r.root, false, mnt.Attrs{}, how); err != nil {
		return fmt.Errorf("linux.rootfsPropagation: %w", err)
	}
	return nil
}

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

// workingDirectory opens a program's, and makes it if need be.
func (r *rootfs) workingDirectory(dir string) (*os.File, error) {
	if _, is := below(dir, "/proc"); is && r.proc.target != nil {
		return nil, fmt.Errorf("process.cwd %q: %w: /proc is mounted last", dir, ErrNotSupported)
	}
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
