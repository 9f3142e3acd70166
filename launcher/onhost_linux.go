package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/sandbox"
)

// copyMounts gives the calling thread a mount namespace of its own, in which the
// host's later mounts appear and whose own do not appear on the host.
func copyMounts() error {
	if err := nsthread.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	return mnt.Propagate(unix.MS_SLAVE)
}

// buildOnHost puts the pod's mounts into the calling thread's mount namespace, and
// moves the thread into the program's namespaces.
func (l *launch) buildOnHost(ctx context.Context, entry *sandbox.Entry) error {
	mounts := &rootfs{spec: l.spec}
	defer mounts.close()
	if err := mounts.open(); err != nil {
		return err
	}
	if err := mounts.borrow(ctx, entry); err != nil {
		return err
	}
	if err := l.enter(entry); err != nil {
		return err
	}
	if entry.Sys != nil && l.ns.joins(unix.CLONE_NEWNET) {
		if err := replaceSys(entry.Sys); err != nil {
			return fmt.Errorf("mount /sys: %w", err)
		}
	}
	if l.ns.joins(unix.CLONE_NEWIPC) {
		for path, m := range map[string]*os.File{"/dev/mqueue": entry.Mqueue, "/dev/shm": entry.Shm} {
			if err := attach(m, path); err != nil {
				return err
			}
		}
	}
	if err := mounts.onHost(); err != nil {
		return err
	}
	if l.ns.joins(unix.CLONE_NEWPID) {
		return attach(entry.Proc, "/proc")
	}
	if l.ns.listed&unix.CLONE_NEWPID == 0 {
		return nil
	}
	return l.proc.onHost()
}

// onHost places the mounts of a program on the host's filesystem: its own where there
// is a place for them, or it fails; those that every member has as far as there is.
func (r *rootfs) onHost() error {
	for i, m := range r.mounts {
		if m.tree == nil {
			var err error
			if m.tree, err = mnt.New(m.fstype, int(m.attrs.Set), m.fsOptions()...); err != nil {
				return fmt.Errorf("mount %s: %w", m.dest, err)
			}
		}
		place := mnt.Attach
		if i >= len(r.spec.Mounts) {
			place = attach
		}
		if err := place(m.tree, m.dest); err != nil {
			return fmt.Errorf("mount %s: %w", m.dest, err)
		}
	}
	return nil
}

// attach places a mount, if the host has the place: on the host's filesystem the
// launcher makes nothing.
func attach(m *os.File, path string) error {
	if m == nil {
		return nil
	}
	if err := mnt.Attach(m, path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sysMounts are the places below /sys where other filesystems use to be mounted.
var sysMounts = []string{
	"/sys/fs/cgroup", "/sys/fs/bpf", "/sys/fs/pstore", "/sys/fs/fuse/connections", "/sys/fs/selinux", "/sys/fs/smackfs",
	"/sys/fs/resctrl", "/sys/firmware/efi/efivars",
	"/sys/kernel/config", "/sys/kernel/debug", "/sys/kernel/security", "/sys/kernel/tracing",
}

// replaceSys mounts the pod's sysfs, which shows its links, and puts back what was
// mounted below the old one.
func replaceSys(sys *os.File) error {
	var kept []*os.File
	defer func() {
		for _, m := range kept {
			m.Close()
		}
	}()
	for _, path := range sysMounts {
		if is, err := mnt.IsRoot(path); err != nil || !is {
			continue
		}
		m, err := mnt.Clone(path, true)
		if err != nil {
			return err
		}
		kept = append(kept, m)
	}
	var st unix.Statfs_t
	if err := unix.Statfs("/sys", &st); err == nil && st.Flags&unix.ST_RDONLY != 0 {
		if err := mnt.SetReadOnly(sys); err != nil {
			return err
		}
	}
	if err := attach(sys, "/sys"); err != nil {
		return err
	}
	for _, m := range kept {
		if err := attach(m, m.Name()); err != nil {
			return err
		}
	}
	return nil
}
