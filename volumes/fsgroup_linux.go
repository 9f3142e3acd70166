package volumes

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ApplyFSGroup gives FSGroup all that is in a volume, of which root is a handle: what
// somebody else left in a claim may belong to anybody. As with the kubelet, files
// get the group and may be read and written by it, directories may be entered by it
// too and pass it on, and whatever else the modes allow stays. The root comes last:
// with GroupOnRootMismatch an interrupted call is so repeated. Without FSGroup
// nothing happens.
//
// Programs may be at work in the volume meanwhile; ctx ends it. Errors: ErrTooDeep as
// with Usage, when everything that is not as deep has been done.
func (v Volume) ApplyFSGroup(ctx context.Context, root *os.File) error {
	if v.FSGroup == nil {
		return nil
	}
	f, err := openAt(root, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0, within)
	if err != nil {
		return err
	}
	defer f.Close()
	g := grouper{gid: *v.FSGroup}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	if v.FSGroupPolicy == GroupOnRootMismatch && g.has(&st) {
		return nil
	}
	g.dev = st.Dev
	if err := walk(ctx, dir{File: f}, g.entry, g.own); err != nil {
		return fmt.Errorf("fsGroup %d: %w", g.gid, err)
	}
	return g.own(dir{File: f})
}

// A grouper gives files to a group.
type grouper struct {
	gid uint32
	dev uint64
}

// mode returns what a file's becomes.
func (*grouper) mode(st *unix.Stat_t) uint32 {
	mode := st.Mode&0o7777 | 0o660
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		mode |= 0o2110
	}
	return mode
}

// has reports whether a file is as it should be. Nobody looks at the mode of a link.
func (g *grouper) has(st *unix.Stat_t) bool {
	return st.Gid == g.gid && (st.Mode&unix.S_IFMT == unix.S_IFLNK || st.Mode&0o7777 == g.mode(st))
}

func (g *grouper) entry(d dir, name string) (enter bool, err error) {
	// A handle: to open a device may do things, and a FIFO may take for ever.
	f, err := openAt(d.File, name, unix.O_PATH|unix.O_NOFOLLOW, 0, within)
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	switch {
	case st.Dev != g.dev:
		return false, nil
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return true, nil
	}
	return false, g.change(f, &st)
}

// own gives the group a directory.
func (g *grouper) own(d dir) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: d.Name(), Err: err}
	}
	return g.change(d.File, &st)
}

func (g *grouper) change(f *os.File, st *unix.Stat_t) error {
	if g.has(st) {
		return nil
	}
	if err := unix.Fchownat(int(f.Fd()), "", -1, int(g.gid), unix.AT_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "chown", Path: f.Name(), Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	// fchmod(2) takes no O_PATH handle, and fchmodat2(2) is of Linux 6.6.
	if err := unix.Chmod(fmt.Sprintf("/proc/thread-self/fd/%d", f.Fd()), g.mode(st)); err != nil {
		return &os.PathError{Op: "chmod", Path: f.Name(), Err: err}
	}
	return nil
}
