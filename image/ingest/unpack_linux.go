package ingest

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// A budget is what is left of an image's Limits, for all its layers.
type budget struct {
	limits        Limits
	size, entries atomic.Int64
}

func (b *budget) take(size int64) error {
	if n := b.entries.Add(1); n > b.limits.Entries {
		return fmt.Errorf("%w: more than %d entries", ErrRefused, b.limits.Entries)
	}
	if size < 0 || b.size.Add(size) > b.limits.Size {
		return fmt.Errorf("%w: files of more than %d bytes", ErrRefused, b.limits.Size)
	}
	return nil
}

// An unpacker unpacks one layer into a directory that is its own. The library does it;
// what it would do with entries that no good layer has is not left to it.
type unpacker struct {
	root   *os.File
	budget *budget
	size   int64       // bytes of files
	own    *tar.Header // what the layer says of its root
	// Which directories have been seen, and whether the layer has them listed.
	// What it has not takes its attributes from the layer below.
	listed map[string]bool
	parent string // the last one that was found to be in the root
}

// unpack unpacks an uncompressed layer and returns how many bytes its files have, and
// the directories that it does not list but has something in.
func unpack(ctx context.Context, dir string, r io.Reader, b *budget) (size int64, implied []string, err error) {
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return 0, nil, err
	}
	defer root.Close()
	u := &unpacker{root: root, budget: b, listed: map[string]bool{".": true}, parent: "."}
	_, err = archive.Apply(quiet(ctx), dir, r, archive.WithFilter(u.accept), archive.WithConvertWhiteout(u.whiteout))
	if err != nil {
		return 0, nil, explain(err)
	}
	for name, is := range u.listed {
		if !is {
			implied = append(implied, name)
		}
	}
	if u.own == nil {
		implied = append(implied, ".")
		return u.size, implied, nil
	}
	return u.size, implied, u.setRoot()
}

// quiet keeps the library from writing to the program's standard error.
func quiet(ctx context.Context) context.Context {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.PanicLevel)
	return log.WithLogger(ctx, logrus.NewEntry(l))
}

// explain says of the library's errors what they mean.
func explain(err error) error {
	switch {
	case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// accept checks an entry before it is unpacked. Its name has been cleaned.
func (u *unpacker) accept(h *tar.Header) (bool, error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return false, nil
	}
	size := h.Size
	if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse {
		size = 0
	}
	if err := u.budget.take(size); err != nil {
		return false, err
	}
	u.size += size
	h.Name = strings.TrimLeft(h.Name, "/")
	if h.Name == "" {
		h.Name = "."
	}
	if err := u.check(h); err != nil {
		if !errors.Is(err, ErrRefused) {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return false, fmt.Errorf("entry %.200q: %w", h.Name, err)
	}
	for key := range h.PAXRecords {
		if attr, is := strings.CutPrefix(key, "SCHILY.xattr."); is && foreign(attr) {
			delete(h.PAXRecords, key)
		}
	}
	if h.Name == "." {
		own := *h
		u.own = &own
		return false, nil
	}
	if h.Typeflag == tar.TypeDir {
		u.listed[h.Name] = true
	}
	base := path.Base(h.Name)
	// What AUFS kept its own books in.
	return !strings.HasPrefix(base, ".wh..wh.") || base == opaque, nil
}

// foreign reports whether an extended attribute means something to the host only that it
// was set on.
func foreign(attr string) bool {
	return strings.HasPrefix(attr, "trusted.") || strings.HasPrefix(attr, "user.overlay.") ||
		attr == "security.selinux" || attr == "security.ima" || attr == "security.evm"
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

func (u *unpacker) check(h *tar.Header) error {
	if err := checkName(h.Name); err != nil {
		return err
	}
	if h.Uid < 0 || h.Uid >= math.MaxUint32 || h.Gid < 0 || h.Gid >= math.MaxUint32 {
		return fmt.Errorf("its owner %d:%d is no ID", h.Uid, h.Gid)
	}
	if h.Name == "." && h.Typeflag != tar.TypeDir {
		return errors.New("the root is not a directory")
	}
	if base := path.Base(h.Name); strings.HasPrefix(base, whiteout) {
		switch base[len(whiteout):] {
		case "", ".", "..":
			return errors.New("a whiteout of no file")
		}
	}
	switch h.Typeflag {
	case tar.TypeChar:
		if h.Devmajor == 0 && h.Devminor == 0 {
			return errors.New("a device that stands for a whiteout")
		}
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) >= unix.PathMax || strings.ContainsRune(h.Linkname, 0) {
			return errors.New("a symbolic link to no path")
		}
	case tar.TypeLink:
		target := strings.TrimLeft(path.Clean(h.Linkname), "/")
		if err := checkName(target); err != nil {
			return fmt.Errorf("hard link to %.200q: %w", h.Linkname, err)
		}
		if err := u.inRoot(path.Dir(target)); err != nil {
			return fmt.Errorf("hard link to %.200q: %w", h.Linkname, err)
		}
		h.Linkname = target
		if err := u.copyTarget(h); err != nil {
			return fmt.Errorf("hard link to %.200q: %w", h.Linkname, err)
		}
	}
	return u.inRoot(path.Dir(h.Name))
}

// copyTarget has the entry of a hard link say what its target is like: the library sets it
// all again, and to set an owner takes capabilities and set-user-ID bits away.
func (u *unpacker) copyTarget(h *tar.Header) error {
	fd, err := unix.Openat2(int(u.root.Fd()), h.Linkname, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err == unix.ENOENT {
		return errors.New("the layer has no such file")
	}
	if err != nil {
		return os.NewSyscallError("openat2", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	h.Uid, h.Gid, h.Mode = int(st.Uid), int(st.Gid), int64(st.Mode&0o7777)
	h.ModTime, h.AccessTime = time.Unix(st.Mtim.Unix()), time.Unix(st.Atim.Unix())
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return errors.New("it is a directory")
	case unix.S_IFREG:
	default:
		return nil
	}
	const capability = "security.capability"
	buf := make([]byte, 64)
	if n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), capability, buf); err == nil {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords["SCHILY.xattr."+capability] = string(buf[:n])
	}
	return nil
}

// checkName checks a name, which is clean.
func checkName(name string) error {
	switch {
	case name == ".." || strings.HasPrefix(name, "../"):
		return errors.New("it leads out of the root")
	case len(name) >= unix.PathMax:
		return fmt.Errorf("a name of %d bytes", len(name))
	case strings.ContainsRune(name, 0):
		return errors.New("a name with a NUL byte")
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > 255 {
			return errors.New("a name with a part longer than 255 bytes")
		}
	}
	return nil
}

// inRoot checks that the directories of an entry, as far as they are there, are in the
// root, though they may be symbolic links.
func (u *unpacker) inRoot(dir string) error {
	if dir == u.parent {
		return nil
	}
	for d := dir; d != "."; d = path.Dir(d) {
		if _, seen := u.listed[d]; seen {
			break
		}
		u.listed[d] = false
		if err := u.budget.take(0); err != nil {
			return err
		}
	}
	fd, err := unix.Openat2(int(u.root.Fd()), dir, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_DIRECTORY,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch err {
	case nil:
		unix.Close(fd)
		u.parent = dir
		return nil
	case unix.ENOENT:
		return nil // it will be made
	case unix.EXDEV:
		return errors.New("below a symbolic link that leads out of the root")
	case unix.ENOTDIR:
		return errors.New("below a file that is no directory")
	case unix.ELOOP:
		return errors.New("below a symbolic link that leads to itself")
	}
	return os.NewSyscallError("openat2", err)
}

// whiteout makes of a whiteout of a layer one of overlayfs; see overlayfs.rst of the
// kernel. What the layer itself has is not hidden, whichever of the two comes first.
func (u *unpacker) whiteout(h *tar.Header, file string) (bool, error) {
	dir, base := path.Split(file)
	switch {
	case base == opaque:
		return false, unix.Lsetxattr(path.Clean(dir), overlayOpaque, []byte{'y'}, 0)
	case h.Typeflag == tar.TypeDir:
		return true, replaceWhiteout(file)
	case !strings.HasPrefix(base, whiteout):
		if h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink {
			u.parent = "" // a directory of it may be a link from now on
		}
		return true, nil
	}
	hidden := dir + base[len(whiteout):]
	err := unix.Mknod(hidden, unix.S_IFCHR, 0)
	if err != unix.EEXIST {
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(hidden, &st); err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false, unix.Lsetxattr(hidden, overlayOpaque, []byte{'y'}, 0)
	}
	return false, nil
}

// replaceWhiteout makes a directory where the layer has had a whiteout of its name: what
// layers below have in theirs stays hidden.
func replaceWhiteout(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		return nil // mostly nothing is there
	}
	if err := os.Remove(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return unix.Lsetxattr(dir, overlayOpaque, []byte{'y'}, 0)
}

const overlayOpaque = "trusted.overlay.opaque"

// setRoot gives the root the attributes that the layer has for it.
func (u *unpacker) setRoot() error {
	p := fmt.Sprintf("/proc/self/fd/%d", u.root.Fd())
	h := u.own
	if err := os.Chown(p, h.Uid, h.Gid); err != nil {
		return err
	}
	if err := unix.Chmod(p, uint32(h.Mode)&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: u.root.Name(), Err: err}
	}
	for key, value := range h.PAXRecords {
		attr, is := strings.CutPrefix(key, "SCHILY.xattr.")
		if !is {
			continue
		}
		if err := unix.Setxattr(p, attr, []byte(value), 0); err != nil && err != unix.ENOTSUP {
			return &os.PathError{Op: "setxattr " + attr, Path: u.root.Name(), Err: err}
		}
	}
	return os.Chtimes(p, h.ModTime, h.ModTime)
}
