package launcher

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// What is in a container's root is not trusted: its links may lead anywhere, and
// programs that have the same files may change them meanwhile. So paths in it are
// resolved once, beneath the root, to a descriptor, and only that is used.

// openIn opens a path as a program with the given root would, except through the
// links of /proc, which lead out (CVE-2024-21626). flags are those of open(2).
func openIn(root *os.File, unsafePath string, flags uint64, resolve uint64) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolve,
	}
	for range 64 {
		fd, err := unix.Openat2(int(root.Fd()), unsafePath, &how)
		if err == unix.EAGAIN || err == unix.EINTR { // something was renamed meanwhile
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: unsafePath, Err: err}
		}
		return os.NewFile(uintptr(fd), unsafePath), nil
	}
	return nil, &os.PathError{Op: "open", Path: unsafePath, Err: unix.EAGAIN}
}

// target opens the place in root where a directory, or something else, is to be
// mounted, and makes it if there is none.
func target(root *os.File, unsafePath string, dir bool) (*os.File, error) {
	f, err := openIn(root, unsafePath, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) {
		if dir {
			f, err = makeDir(root, unsafePath)
		} else {
			f, err = makeFile(root, unsafePath, 8)
		}
	}
	if err != nil {
		return nil, err
	}
	is, err := isDir(f)
	if err == nil && is != dir {
		err = fmt.Errorf("%s: %w", unsafePath, unix.ENOTDIR)
		if is {
			err = fmt.Errorf("%s: %w", unsafePath, unix.EISDIR)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func isDir(f *os.File) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

func makeDir(root *os.File, unsafePath string) (*os.File, error) {
	// Mostly only the last one is missing, in a directory that is ours. Nothing is
	// cleaned: what is before a ".." may be a link.
	dir, name := path.Split(unsafePath)
	parent, err := openIn(root, dir+".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return pathrs.MkdirAllHandle(root, unsafePath, 0o755)
	}
	defer parent.Close()
	if err := unix.Mkdirat(int(parent.Fd()), name, 0o755); err != nil {
		return pathrs.MkdirAllHandle(root, unsafePath, 0o755) // which tells why not
	}
	return openIn(parent, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, unix.RESOLVE_NO_SYMLINKS)
}

// makeFile makes an empty file. Where a link is that leads to none yet, as
// /etc/resolv.conf often is, it makes that.
func makeFile(root *os.File, unsafePath string, links int) (*os.File, error) {
	dir, name := path.Split(unsafePath)
	parent, err := makeDir(root, dir+".")
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err == nil {
		unix.Close(fd)
	} else if err != unix.EEXIST {
		return nil, &os.PathError{Op: "create", Path: unsafePath, Err: err}
	} else if link, err := readlink(parent, name); err == nil && links > 0 {
		if !path.IsAbs(link) {
			link = dir + link
		}
		return makeFile(root, link, links-1)
	}
	return openIn(root, unsafePath, unix.O_PATH, 0)
}

func readlink(dir *os.File, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
	if err != nil || n == len(buf) {
		return "", unix.ENAMETOOLONG
	}
	return string(buf[:n]), nil
}

// below reports whether a clean path is that of dir, or of something in it, and
// where in it.
func below(p, dir string) (rel string, is bool) {
	if p == dir {
		return ".", true
	}
	return strings.CutPrefix(p, dir+"/")
}
