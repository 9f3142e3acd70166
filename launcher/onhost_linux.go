package launcher

import (
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

// buildMounts puts the pod's mounts into the calling thread's mount namespace, and
// moves the thread into the pod's namespaces.
func buildMounts(entry *sandbox.Entry) error {
	// Taken before anything is mounted, which could hide them.
	files := make(map[string]*os.File)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for path, source := range entry.Files {
		m, err := mnt.Clone(source, false)
		if err != nil {
			return err
		}
		files[path] = m
	}
	if err := nsthread.Join(entry.Pause, entry.Flags); err != nil {
		return err
	}
	if entry.Sys != nil {
		if err := replaceSys(entry.Sys); err != nil {
			return fmt.Errorf("mount /sys: %w", err)
		}
	}
	if entry.Mqueue != nil {
		if err := attach(entry.Mqueue, "/dev/mqueue"); err != nil {
			return err
		}
	}
	if entry.Shm != nil {
		if err := attach(entry.Shm, "/dev/shm"); err != nil {
			return err
		}
	}
	for path, m := range files {
		if err := attach(m, path); err != nil {
			return err
		}
	}
	if entry.Proc != nil {
		return attach(entry.Proc, "/proc")
	}
	return nil
}

// attach places a mount, if the host has the place: on the host's filesystem the
// launcher makes nothing.
func attach(m *os.File, path string) error {
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
