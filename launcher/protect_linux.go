package launcher

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/sandbox"
)

// protect hides what shall be hidden and makes read-only what shall be.
func (r *rootfs) protect() error {
	l := r.spec.Linux
	if l == nil {
		return nil
	}
	for _, p := range l.ReadonlyPaths {
		if rel, is := r.inProc(p); is {
			r.proc.setReadonly(rel)
		} else if err := r.setReadonly(p); err != nil {
			return fmt.Errorf("linux.readonlyPaths %s: %w", p, err)
		}
	}
	for _, p := range l.MaskedPaths {
		var err error
		if rel, is := r.inProc(p); is {
			err = r.proc.mask(rel)
		} else {
			err = r.mask(p)
		}
		if err != nil {
			return fmt.Errorf("linux.maskedPaths %s: %w", p, err)
		}
	}
	return nil
}

// inProc reports whether a path is in the proc(5) that the child mounts.
func (r *rootfs) inProc(p string) (rel string, is bool) {
	if r.proc.target == nil {
		return "", false
	}
	return below(path.Clean(p), "/proc")
}

// find opens what a container sees at a path; nil if there is nothing.
func (r *rootfs) find(p string) (*os.File, error) {
	base, rel := r.base(path.Clean(p))
	f, err := openIn(base, rel, unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
	if errors.Is(err, unix.ELOOP) {
		f, err = openIn(r.root, p, unix.O_PATH, 0)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	return f, err
}

// base returns where to begin to look for a clean path, and the path from there: in
// /sys, /dev and their like the root of what has been mounted there. Who has the
// container's root directory too may meanwhile have moved what it is mounted on.
func (r *rootfs) base(p string) (*os.File, string) {
	base, rest := r.root, p
	for _, m := range r.mounts {
		rel, is := below(p, m.dest)
		switch {
		case !is || !m.placed || path.Dir(m.dest) != "/":
		case m.bind: // it may have links that count from the container's root
			base, rest = r.root, p
		default:
			base, rest = m.tree, rel
		}
	}
	return base, rest
}

func (r *rootfs) setReadonly(p string) error {
	if base, rel := r.base(path.Clean(p)); rel == "." {
		// Another mount on top would hide this one from find.
		r.late = append(r.late, lateReadonly{base, true})
		return nil
	}
	t, err := r.find(p)
	if err != nil || t == nil {
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
	t, err := r.find(p)
	if err != nil || t == nil {
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
// It is read-only, so that nobody changes the modes of either. The calling thread is
// in the pause's mount namespace, or a copy.
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
