package launcher

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/internal/spawn"
)

// A procfs is a proc(5) that the child mounts, since it shows the PID namespace of
// the process that mounts it. The zero value is none.
type procfs struct {
	host     *os.File // the host's, which tells what there is
	target   *os.File // where it is mounted
	attrs    uint64
	options  []mnt.Option
	readonly []string // paths in it, relative
	masks    []procMask
}

// A procMask hides a path in a proc(5).
type procMask struct {
	rel  string
	with *os.File // a detached mount of nothing
}

func (f *procfs) close() {
	for _, file := range []*os.File{f.host, f.target} {
		if file != nil {
			file.Close()
		}
	}
	for _, m := range f.masks {
		m.with.Close()
	}
}

// open opens the host's.
func (f *procfs) open() (err error) {
	f.host, err = os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	return err
}

// onHost leaves the mount of /proc to the child, of a program on the host's
// filesystem.
func (f *procfs) onHost() (err error) {
	f.attrs = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	f.target, err = os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	return err
}

// deferProc leaves the mount of /proc to the child.
func (r *rootfs) deferProc(m *mount) error {
	if m.dest != "/proc" {
		return fmt.Errorf("%w elsewhere than on /proc", ErrNotSupported)
	}
	t, err := r.strictTarget(m.dest)
	if err != nil {
		return err
	}
	r.proc.target, r.proc.attrs, r.proc.options = t, m.attrs.Set, m.options
	return nil
}

// has reports whether there is such a path in it, and whether it is a directory.
func (f *procfs) has(rel string) (is, dir bool, err error) {
	if slices.Contains(f.options, mnt.Option{Key: "subset", Value: "pid"}) && !ofProcesses(rel) {
		return false, false, nil
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(f.host.Fd()), rel, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return false, false, nil
	}
	return err == nil, st.Mode&unix.S_IFMT == unix.S_IFDIR, os.NewSyscallError("fstatat", err)
}

// ofProcesses reports whether a path is in a proc(5) of processes only.
func ofProcesses(rel string) bool {
	first, _, _ := strings.Cut(rel, "/")
	return first == "." || first == "self" || first == "thread-self" || strings.Trim(first, "0123456789") == ""
}

// setReadonly prepares to make a path in it read-only.
func (f *procfs) setReadonly(rel string) {
	if rel == "." {
		// Another mount on top would hide what is masked below.
		f.attrs |= unix.MOUNT_ATTR_RDONLY
		return
	}
	f.readonly = append(f.readonly, rel)
}

// mask prepares to hide a path in it.
func (f *procfs) mask(rel string) error {
	for _, m := range f.masks {
		if _, hidden := below(rel, m.rel); hidden || m.rel == "." {
			return nil
		}
	}
	is, dir, err := f.has(rel)
	if err != nil || !is {
		return err
	}
	m, err := newMask(dir)
	if err != nil {
		return err
	}
	f.masks = append(f.masks, procMask{rel, m})
	return nil
}

// Descriptors that the child is given by the kernel, which are the lowest that are
// free. It has closed all of its own between its standard streams and MinFD.
const (
	contextFD = 3
	procFD    = 4
	treeFD    = 5
)

// calls adds the system calls by which the child mounts it. All files that they use
// are duplicated to MinFD and above by high.
func (f *procfs) calls(p *spawn.Program, high func(*os.File) (uintptr, error)) error {
	if f.target == nil {
		return nil
	}
	empty, err := p.String("")
	if err != nil {
		return err
	}
	fstype, err := p.String("proc")
	if err != nil {
		return err
	}
	p.Expect("mount /proc: fsopen", contextFD, unix.SYS_FSOPEN, fstype, unix.FSOPEN_CLOEXEC)
	for _, o := range append([]mnt.Option{{Key: "source", Value: "proc"}}, f.options...) {
		key, err := p.String(o.Key)
		if err != nil {
			return err
		}
		value, err := p.String(o.Value)
		if err != nil {
			return err
		}
		p.Call("mount /proc: option "+o.Key, unix.SYS_FSCONFIG, contextFD, unix.FSCONFIG_SET_STRING, key, value, 0)
	}
	p.Call("mount /proc: fsconfig", unix.SYS_FSCONFIG, contextFD, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	p.Expect("mount /proc: fsmount", procFD, unix.SYS_FSMOUNT, contextFD, unix.FSMOUNT_CLOEXEC, uintptr(f.attrs))
	to, err := high(f.target)
	if err != nil {
		return err
	}
	p.Call("mount /proc", unix.SYS_MOVE_MOUNT, procFD, empty, to, empty, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err := f.readonlyCalls(p, empty); err != nil {
		return err
	}
	return f.maskCalls(p, empty, high)
}

func (f *procfs) readonlyCalls(p *spawn.Program, empty uintptr) error {
	const clone = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE
	attr := spawn.Pointer(p, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	const attrSize = 32
	for _, rel := range f.readonly {
		if is, _, err := f.has(rel); err != nil {
			return err
		} else if !is {
			continue
		}
		path, err := p.String(rel)
		if err != nil {
			return err
		}
		what := "make /proc/" + rel + " read-only"
		p.Expect(what, treeFD, unix.SYS_OPEN_TREE, procFD, path, clone)
		p.Call(what, unix.SYS_MOUNT_SETATTR, treeFD, empty, unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr, attrSize)
		p.Call(what, unix.SYS_MOVE_MOUNT, treeFD, empty, procFD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
		p.Call(what, unix.SYS_CLOSE, treeFD)
	}
	return nil
}

func (f *procfs) maskCalls(p *spawn.Program, empty uintptr, high func(*os.File) (uintptr, error)) error {
	for _, m := range f.masks {
		path, err := p.String(m.rel)
		if err != nil {
			return err
		}
		fd, err := high(m.with)
		if err != nil {
			return err
		}
		p.Call("mask /proc/"+m.rel, unix.SYS_MOVE_MOUNT, fd, empty, procFD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	return nil
}
