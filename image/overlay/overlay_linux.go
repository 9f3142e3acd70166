package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/fault"
	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/internal/nsthread"
)

// New makes an overlay.
func New(o Options) (*os.File, error) {
	if len(o.Lower) == 0 || len(o.Lower) > MaxLower {
		return nil, fmt.Errorf("overlay of %d directories: %w: want 1 to %d", len(o.Lower), fault.ErrInvalid, MaxLower)
	}
	m, err := newMount(o)
	if err != nil {
		return nil, fmt.Errorf("overlay of %d directories: %w", len(o.Lower), err)
	}
	return m, nil
}

func newMount(o Options) (*os.File, error) {
	if o.Upper == "" && len(o.Lower) == 1 {
		// An overlay has two parts at least.
		return single(o)
	}
	m, err := detached(o)
	if o.IDMap == nil || !errors.Is(err, unix.EINVAL) || errors.Is(err, fault.ErrNotSupported) {
		return m, err
	}
	if err := clearWork(o.Work); err != nil {
		return nil, err
	}
	m, err = attached(o)
	if errors.Is(err, unix.EINVAL) && !errors.Is(err, fault.ErrNotSupported) {
		err = fmt.Errorf("of ID-mapped mounts: %w by this kernel: %w", fault.ErrNotSupported, err)
	}
	return m, err
}

// clearWork makes a directory for the kernel's work what it was before an attempt that failed: a
// mark of a volatile overlay in it keeps everybody from mounting another.
func clearWork(dir string) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// detached makes an overlay of what is attached in the caller's mount namespace, or, if it is
// ID-mapped, nowhere: that needs Linux 6.15.
func detached(o Options) (*os.File, error) {
	var b builder
	defer b.close()
	var lower []string
	for _, dir := range slices.Backward(o.Lower) { // the highest first, as the kernel has it
		path, err := b.lower(dir, o.IDMap)
		if err != nil {
			return nil, err
		}
		lower = append(lower, path)
	}
	m, err := b.mount(o, func(fs int) error { return b.each(fs, lower) })
	if errors.Is(err, errNoOption) {
		m, err = short(o, lower)
	}
	return m, err
}

// attached makes an ID-mapped overlay of mounts that are attached in a mount namespace of which
// nobody knows, and which ends with the thread that makes the overlay there: Linux before 6.15 makes
// one of no others (clone_private_mount of fs/namespace.c), and from 5.19 on of these.
func attached(o Options) (m *os.File, err error) {
	err = nsthread.Do(func() error {
		if err := nsthread.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := mnt.Propagate(unix.MS_PRIVATE); err != nil {
			return err
		}
		dir, err := newNames()
		if err != nil {
			return err
		}
		defer dir.Close()
		// Paths of the host go on from the root below it, and find what they should.
		if err := mnt.Attach(dir, "/"); err != nil {
			return err
		}
		if err := unix.Fchdir(int(dir.Fd())); err != nil {
			return os.NewSyscallError("fchdir", err)
		}
		var b builder
		defer b.close()
		names := namesFor(len(o.Lower))
		for i, path := range slices.Backward(o.Lower) {
			m, err := b.mapped(path, o.IDMap)
			if err != nil {
				return err
			}
			name := names[len(o.Lower)-1-i]
			if err := unix.Mkdir(name, 0o700); err != nil {
				return &os.PathError{Op: "mkdir", Path: name, Err: err}
			}
			if err := mnt.Attach(m, name); err != nil {
				return err
			}
		}
		m, err = b.mount(o, func(fs int) error { return b.each(fs, names) })
		if errors.Is(err, errNoOption) {
			m, err = b.joined(o, names)
		}
		return err
	})
	return m, err
}

// single makes a read-only mount of one directory.
func single(o Options) (*os.File, error) {
	m, err := mnt.Clone(o.Lower[0], false)
	if err != nil {
		return nil, err
	}
	err = mnt.Set(m, false, mnt.Attrs{Set: uint64(o.Attrs) | unix.MOUNT_ATTR_RDONLY}, unix.MS_PRIVATE)
	if err == nil && o.IDMap != nil {
		err = mnt.MapIDs(m, o.IDMap, false)
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// errNoOption says that the kernel does not take layers one by one.
var errNoOption = errors.New("no such option of overlayfs")

// A builder keeps open what an overlay is made of.
type builder struct{ files []*os.File }

func (b *builder) close() {
	for _, f := range b.files {
		f.Close()
	}
}

// maxString is how long the kernel takes a string to be, with a zero byte at its end:
// fsconfig(2).
const maxString = 256

// path returns a path of what is at path that is short enough.
func (b *builder) path(path string) (string, error) {
	if len(path) < maxString {
		return path, nil
	}
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", err
	}
	b.files = append(b.files, f)
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), nil
}

// lower returns a path of a directory, or of an ID-mapped mount of it.
func (b *builder) lower(path string, idMap *os.File) (string, error) {
	if idMap == nil {
		return b.path(path)
	}
	m, err := b.mapped(path, idMap)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/self/fd/%d", m.Fd()), nil
}

// mapped returns an ID-mapped mount of a directory.
func (b *builder) mapped(path string, idMap *os.File) (*os.File, error) {
	m, err := mnt.Clone(path, false)
	if err != nil {
		return nil, err
	}
	b.files = append(b.files, m)
	if err := mnt.Set(m, false, mnt.Attrs{}, unix.MS_PRIVATE); err != nil {
		return nil, err
	}
	return m, mnt.MapIDs(m, idMap, false)
}

// takesAnything reports whether overlayfs is mounted in the old way, by one string of
// options, as before Linux 6.5: then fsconfig(2) takes any option, and what is wrong with
// it is found too late.
func takesAnything() bool {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fs)
	return unix.FsconfigSetString(fs, "no-such-option", "x") == nil
}

// each gives an overlay its lower directories one by one, since Linux 6.7.
func (b *builder) each(fs int, lower []string) error {
	if takesAnything() {
		return errNoOption
	}
	for i, path := range lower {
		err := unix.FsconfigSetString(fs, "lowerdir+", path)
		if i == 0 && err == unix.EINVAL {
			return errNoOption
		}
		if err != nil {
			return &os.PathError{Op: "fsconfig lowerdir+", Path: path, Err: err}
		}
	}
	return nil
}

// mount makes the overlay; lower gives it its lower directories.
func (b *builder) mount(o Options, lower func(fs int) error) (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "fsopen", Path: "overlay", Err: err}
	}
	defer unix.Close(fs)
	source := o.Source
	if source == "" {
		source = "overlay"
	}
	options := []mnt.Option{{Key: "source", Value: source}}
	if o.Upper != "" {
		upper, err := b.path(o.Upper)
		if err != nil {
			return nil, err
		}
		work, err := b.path(o.Work)
		if err != nil {
			return nil, err
		}
		options = append(options, mnt.Option{Key: "upperdir", Value: upper}, mnt.Option{Key: "workdir", Value: work})
		if o.Volatile {
			options = append(options, mnt.Option{Key: "volatile"})
		}
	}
	if err := lower(fs); err != nil {
		return nil, err
	}
	for _, opt := range options {
		if opt.Value == "" {
			err = unix.FsconfigSetFlag(fs, opt.Key)
		} else {
			err = unix.FsconfigSetString(fs, opt.Key, opt.Value)
		}
		if err != nil {
			return nil, &os.PathError{Op: "fsconfig " + opt.Key, Path: opt.Value, Err: err}
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, explain(fs, os.NewSyscallError("fsconfig create", err))
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, o.Attrs)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

// explain adds to an error what the kernel says of it.
func explain(fs int, err error) error {
	buf := make([]byte, 1024)
	n, rerr := unix.Read(fs, buf)
	if rerr != nil || n < 3 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(buf[2:n]))) // after "e "
}

// shortNames returns what short calls directories: each byte that neither a path nor the
// list of lower directories has a meaning for.
func shortNames() (list []string) {
	for c := byte(1); c < 0xff; c++ {
		if !strings.ContainsRune("/.:,\\", rune(c)) {
			list = append(list, string([]byte{c}))
		}
	}
	return list
}

// maxShort is how many names of one byte, with colons between them, are short enough.
const maxShort = maxString / 2

// namesFor returns short names for directories, or, if those are too many for that, others.
func namesFor(n int) []string {
	if n <= maxShort {
		return shortNames()[:n]
	}
	list := make([]string, n)
	for i := range list {
		list[i] = strconv.Itoa(i)
	}
	return list
}

// newNames makes a filesystem for names, which nobody sees.
func newNames() (*os.File, error) {
	return mnt.New("tmpfs", unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID, mnt.Option{Key: "size", Value: "1m"})
}

// fewEnough refuses more directories than can be told in one string.
func fewEnough(lower []string) error {
	if len(lower) > maxShort {
		return fmt.Errorf("%w by this kernel: want at most %d", fault.ErrNotSupported, maxShort)
	}
	return nil
}

// joined makes an overlay where all lower directories have to be told in one string, by names of
// one byte in the working directory.
func (b *builder) joined(o Options, names []string) (*os.File, error) {
	if err := fewEnough(names); err != nil {
		return nil, err
	}
	return b.mount(o, func(fs int) error {
		return os.NewSyscallError("fsconfig lowerdir", unix.FsconfigSetString(fs, "lowerdir", strings.Join(names, ":")))
	})
}

// short makes an overlay as joined does, by links to the lower directories in a filesystem
// that is the working directory of a thread meanwhile.
func short(o Options, lower []string) (m *os.File, err error) {
	if err := fewEnough(lower); err != nil {
		return nil, err
	}
	links, err := newNames()
	if err != nil {
		return nil, err
	}
	defer links.Close()
	names := namesFor(len(lower))
	for i, path := range lower {
		// A descriptor has another thread's name in /proc/self, but not another number.
		if err := unix.Symlinkat(path, int(links.Fd()), names[i]); err != nil {
			return nil, os.NewSyscallError("symlinkat", err)
		}
	}
	err = nsthread.Do(func() error {
		if err := nsthread.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if err := unix.Fchdir(int(links.Fd())); err != nil {
			return os.NewSyscallError("fchdir", err)
		}
		var b builder
		defer b.close()
		m, err = b.joined(o, names)
		return err
	})
	return m, err
}
