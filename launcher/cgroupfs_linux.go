package launcher

import (
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/cgroup"
	"github.com/podbox/podbox/internal/mnt"
)

// A container sees its own cgroup, and nothing of others, at /sys/fs/cgroup: by
// mounts of the group's directories, since a new cgroup filesystem would show the
// group of who mounts it.

// A cgroupView is a container's group in one hierarchy, as a detached mount.
type cgroupView struct {
	name string // its directory below the mount point; "" if it is that
	tree *os.File
}

// openViews clones the directories of a container's group. The calling thread is in
// the host's mount namespace.
func (m *mount) openViews(group string) ([]cgroupView, error) {
	g, err := cgroup.Open(group)
	if err != nil {
		return nil, err
	}
	var views []cgroupView
	for _, v := range g.Views() {
		tree, err := m.clone(v.Dir)
		if err != nil {
			closeViews(views)
			return nil, err
		}
		views = append(views, cgroupView{v.Name, tree})
	}
	return views, nil
}

func closeViews(views []cgroupView) {
	for _, v := range views {
		v.tree.Close()
	}
}

// mountViews mounts the views of a container's group at m.
func (r *rootfs) mountViews(m *mount) error {
	if len(m.views) == 1 && m.views[0].name == "" {
		m.tree, m.views = m.views[0].tree, nil
		return r.coverStrictly(m)
	}
	var err error
	m.tree, err = mnt.New("tmpfs", int(m.attrs.Set&^unix.MOUNT_ATTR_RDONLY), mnt.Option{Key: "source", Value: "cgroup"},
		mnt.Option{Key: "mode", Value: "0755"}, mnt.Option{Key: "size", Value: "4096"})
	if err != nil {
		return err
	}
	if err := r.coverStrictly(m); err != nil {
		return err
	}
	for _, v := range m.views {
		if err := unix.Mkdirat(int(m.tree.Fd()), v.name, 0o755); err != nil {
			return &os.PathError{Op: "mkdirat", Path: path.Join(m.dest, v.name), Err: err}
		}
		t, err := openIn(m.tree, v.name, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
		if err != nil {
			return err
		}
		err = mnt.Cover(v.tree, t)
		t.Close()
		if err != nil {
			return err
		}
	}
	return mnt.Set(m.tree, false, m.attrs, 0)
}
