package launcher

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/sandbox"
)

// mount does one mount.
func (r *rootfs) mount(m *mount, entry *sandbox.Entry, ns *namespaces) error {
	if _, is := below(m.dest, "/proc"); is && r.proc.target != nil {
		return fmt.Errorf("%w: /proc is mounted last", ErrNotSupported)
	}
	if m.bind || m.fstype == overlayType {
		dir, err := isDir(m.tree)
		if err != nil {
			return err
		}
		return r.cover(m, dir)
	}
	if m.tree != nil { // the host's
		return r.coverStrictly(m)
	}
	if m.tree = m.lent(entry, ns); m.tree != nil {
		if len(m.options) > 0 && m.fstype != "tmpfs" {
			return fmt.Errorf("option %s: %w: the %s is the pod's", m.options[0].Key, ErrNotSupported, m.fstype)
		}
		if err := mnt.Set(m.tree, false, m.attrs, m.propagation); err != nil {
			return err
		}
		return r.coverStrictly(m)
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
	options, err := r.ids.own(m.fstype, m.fsOptions())
	if err != nil {
		return err
	}
	attrs := m.attrs.Set
	if m.isDev() {
		attrs &^= unix.MOUNT_ATTR_RDONLY
	}
	if m.tree, err = mnt.New(m.fstype, int(attrs), options...); err != nil {
		return err
	}
	if attrs != m.attrs.Set {
		r.late = append(r.late, lateReadonly{m.tree, false})
	}
	if m.propagation != 0 {
		if err := mnt.Set(m.tree, false, mnt.Attrs{}, m.propagation); err != nil {
			return err
		}
	}
	if m.isDev() {
		r.dev = m
		if err := fillDev(m.tree, r.spec.Linux, r.ids); err != nil {
			return err
		}
	}
	if m.fstype == "tmpfs" && !strings.HasPrefix(m.dest+"/", "/dev/") {
		return r.cover(m, true)
	}
	if err := r.coverStrictly(m); err != nil || m.fstype != "devpts" || m.dest != "/dev/pts" {
		return err
	}
	r.pts, err = openPTS(m.tree)
	return err
}

// fsOptions are what a new filesystem is told.
func (m *mount) fsOptions() []mnt.Option {
	if m.source == "" {
		return m.options
	}
	return append(m.options[:len(m.options):len(m.options)], mnt.Option{Key: "source", Value: m.source})
}

// isShm reports whether a mount is that of POSIX shared memory; see shm_overview(7).
func (m *mount) isShm() bool { return m.fstype == "tmpfs" && m.dest == "/dev/shm" }

// lent returns the pod's own filesystem for a mount of its kind.
func (m *mount) lent(entry *sandbox.Entry, ns *namespaces) *os.File {
	switch {
	case m.fstype == "sysfs" && ns.joins(unix.CLONE_NEWNET):
		return entry.Sys
	case m.fstype == "mqueue" && ns.joins(unix.CLONE_NEWIPC):
		return entry.Mqueue
	case m.isShm() && ns.joins(unix.CLONE_NEWIPC):
		return entry.Shm
	case m.fstype == "proc" && ns.joins(unix.CLONE_NEWPID):
		return entry.Proc
	}
	return nil
}

// cover covers a path with a mount.
func (r *rootfs) cover(m *mount, dir bool) error {
	t, err := target(r.root, m.dest, dir)
	if err != nil {
		return err
	}
	defer t.Close()
	return m.place(t)
}

// coverStrictly is cover for what programs, and we, rely on to be where it says: a
// link in its place is refused (CVE-2019-19921).
func (r *rootfs) coverStrictly(m *mount) error {
	t, err := r.strictTarget(m.dest)
	if err != nil {
		return err
	}
	defer t.Close()
	return m.place(t)
}

func (m *mount) place(target *os.File) error {
	err := mnt.Cover(m.tree, target)
	m.placed = err == nil
	return err
}

func (r *rootfs) strictTarget(dest string) (*os.File, error) {
	base, rel := r.base(dest)
	open := func() (*os.File, error) {
		return openIn(base, rel, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	}
	t, err := open()
	if errors.Is(err, unix.ENOENT) {
		var made *os.File
		if made, err = makeDir(base, rel); err == nil {
			made.Close()
			t, err = open()
		}
	}
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: a symbolic link of the root is in its way", ErrInvalid)
	}
	return t, err
}

// hasDevices sees to it that a container has the devices that are listed for it if its
// /dev is none that they are made in.
func (r *rootfs) hasDevices() error {
	if r.dev != nil || r.spec.Linux == nil {
		return nil
	}
	for i := range r.spec.Linux.Devices {
		d, err := parseDevice(&r.spec.Linux.Devices[i])
		if err != nil {
			return err
		}
		dest := path.Join("/dev", d.path)
		f, err := openIn(r.root, dest, unix.O_PATH, 0)
		if err == nil {
			var st unix.Stat_t
			err = unix.Fstat(int(f.Fd()), &st)
			if st.Mode&unix.S_IFMT != d.mode&unix.S_IFMT || st.Rdev != d.number {
				err = errors.New("another file is there")
			}
			f.Close()
		}
		if err != nil {
			return fmt.Errorf("linux.devices[%d] %s: %w without a tmpfs on /dev: %w", i, dest, ErrNotSupported, err)
		}
	}
	return nil
}
