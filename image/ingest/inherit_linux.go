package ingest

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// inherit gives the directories of a layer that it does not list the attributes that
// they have in the layers below, the highest first: in a container it is the upper
// directory's that count. Where none has them they stay as they are: root's, 0755.
func inherit(layer string, implied []string, below []string) error {
	if len(implied) == 0 || len(below) == 0 {
		return nil
	}
	slices.Sort(implied)
	to, err := os.OpenFile(layer, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	var from []*os.File
	for _, dir := range below {
		f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		from = append(from, f)
	}
	for _, name := range implied {
		if err := inheritDir(to, name, from); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func inheritDir(layer *os.File, name string, below []*os.File) error {
	to, err := openStrictly(layer, name)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil // it was replaced later in the layer, or its parent was
	}
	if err != nil {
		return err
	}
	defer unix.Close(to)
	for _, dir := range below {
		from, err := openStrictly(dir, name)
		switch err {
		case nil:
			defer unix.Close(from)
			return copyAttributes(to, from)
		case unix.ENOENT:
			continue
		case unix.ENOTDIR, unix.ELOOP:
			return nil // something else is there, or it was taken away
		}
		return err
	}
	return nil
}

// openStrictly opens a directory without following links.
func openStrictly(root *os.File, name string) (int, error) {
	return unix.Openat2(int(root.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_DIRECTORY | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

func copyAttributes(to, from int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	dst, src := fmt.Sprintf("/proc/self/fd/%d", to), fmt.Sprintf("/proc/self/fd/%d", from)
	if err := os.Chown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(dst, st.Mode&0o7777); err != nil {
		return os.NewSyscallError("chmod", err)
	}
	buf := make([]byte, 64<<10)
	n, err := unix.Listxattr(src, buf)
	if err != nil && err != unix.ENOTSUP {
		return os.NewSyscallError("listxattr", err)
	}
	for attr := range strings.SplitSeq(string(buf[:max(n, 0)]), "\x00") {
		if attr == "" || strings.HasPrefix(attr, "trusted.") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Getxattr(src, attr, value)
		if err == nil {
			err = unix.Setxattr(dst, attr, value[:n], 0)
		}
		if err != nil && err != unix.ENOTSUP && err != unix.ENODATA {
			return os.NewSyscallError("setxattr "+attr, err)
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, dst, times, 0))
}
