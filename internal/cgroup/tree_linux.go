package cgroup

import (
	"bytes"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Trees are walked by handle: a container that may write to its own control group
// can nest groups until their path is longer than the kernel takes (PATH_MAX).

// walk visits a directory and then all below it. What is not there, or goes
// meanwhile, is passed over.
func walk(parent int, name string, visit func(dir int) error) error {
	err := walkDir(parent, name, visit)
	if isGone(err) {
		return nil
	}
	return err
}

func walkDir(parent int, name string, visit func(dir int) error) error {
	fd, err := open(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := visit(fd); err != nil {
		return err
	}
	below, err := subdirs(f)
	if err != nil {
		return err
	}
	for _, name := range below {
		if err := walk(fd, name, visit); err != nil {
			return err
		}
	}
	return nil
}

// removeTree removes a directory with all below it.
func removeTree(parent int, name string) error {
	err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err == unix.EBUSY {
		if err := removeBelow(parent, name); err != nil {
			return err
		}
		if err = unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err == nil || err == unix.ENOENT {
			return nil
		}
	}
	return &os.PathError{Op: "rmdir", Path: name, Err: err}
}

func removeBelow(parent int, name string) error {
	fd, err := open(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	below, err := subdirs(f)
	if err != nil {
		return err
	}
	for _, name := range below {
		if err := removeTree(fd, name); err != nil {
			return err
		}
	}
	return nil
}

// subdirs returns the names of the directories in a directory of a cgroup
// filesystem, whose link count is two and their number: the usual answer, none,
// costs no reading.
func subdirs(f *os.File) ([]string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	if st.Nlink == 2 {
		return nil, nil
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// members returns the processes of one directory.
func members(dir int) ([]int, error) {
	b, err := readAt(dir, "cgroup.procs")
	if errors.Is(err, unix.EOPNOTSUPP) {
		// A threaded group of v2: its processes are those of the group that
		// it belongs to.
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for line := range bytes.Lines(b) {
		if pid := int(number(line)); pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
