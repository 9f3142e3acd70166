package launcher

import (
	"fmt"
	"os"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A device is a special file to make below /dev.
type device struct {
	path     string // relative to /dev
	mode     uint32 // type and permissions
	number   uint64
	uid, gid int
}

// defaultDevices are in every container's /dev: OCI runtime specification,
// config-linux, default devices.
var defaultDevices = []device{
	{"null", unix.S_IFCHR | 0o666, unix.Mkdev(1, 3), 0, 0},
	{"zero", unix.S_IFCHR | 0o666, unix.Mkdev(1, 5), 0, 0},
	{"full", unix.S_IFCHR | 0o666, unix.Mkdev(1, 7), 0, 0},
	{"random", unix.S_IFCHR | 0o666, unix.Mkdev(1, 8), 0, 0},
	{"urandom", unix.S_IFCHR | 0o666, unix.Mkdev(1, 9), 0, 0},
	{"tty", unix.S_IFCHR | 0o666, unix.Mkdev(5, 0), 0, 0},
}

var deviceLinks = [][2]string{
	{"ptmx", "pts/ptmx"},
	{"fd", "/proc/self/fd"},
	{"stdin", "/proc/self/fd/0"},
	{"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"},
	{"core", "/proc/kcore"},
}

func parseDevice(d *specs.LinuxDevice) (*device, error) {
	rel, ok := below(path.Clean(d.Path), "/dev")
	if !ok || rel == "." {
		return nil, fmt.Errorf("path: %w outside of /dev", ErrNotSupported)
	}
	out := &device{path: rel, mode: 0o666, number: unix.Mkdev(uint32(d.Major), uint32(d.Minor))}
	switch d.Type {
	case "c", "u":
		out.mode |= unix.S_IFCHR
	case "b":
		out.mode |= unix.S_IFBLK
	case "p":
		out.mode, out.number = out.mode|unix.S_IFIFO, 0
	default:
		return nil, fmt.Errorf("type %q: %w: want c, b, u or p", d.Type, ErrInvalid)
	}
	if d.FileMode != nil {
		out.mode = out.mode&unix.S_IFMT | uint32(d.FileMode.Perm())
	}
	if d.UID != nil {
		out.uid = int(*d.UID)
	}
	if d.GID != nil {
		out.gid = int(*d.GID)
	}
	return out, nil
}

// fillDev makes the devices and links of a container in dev, a new filesystem that
// nobody else has. The calling thread's umask is 0.
func fillDev(dev *os.File, l *specs.Linux) error {
	devices := defaultDevices
	if l != nil {
		for i := range l.Devices {
			d, err := parseDevice(&l.Devices[i])
			if err != nil {
				return err
			}
			devices = append(devices[:len(devices):len(devices)], *d)
		}
	}
	fd := int(dev.Fd())
	for _, d := range devices {
		for i, r := range d.path {
			if r != '/' {
				continue
			}
			if err := unix.Mkdirat(fd, d.path[:i], 0o755); err != nil && err != unix.EEXIST {
				return &os.PathError{Op: "mkdirat", Path: "/dev/" + d.path[:i], Err: err}
			}
		}
		err := unix.Mknodat(fd, d.path, d.mode, int(d.number))
		if err == unix.EEXIST { // given as well as default
			if err = unix.Unlinkat(fd, d.path, 0); err == nil {
				err = unix.Mknodat(fd, d.path, d.mode, int(d.number))
			}
		}
		if err == nil && (d.uid != 0 || d.gid != 0) {
			err = unix.Fchownat(fd, d.path, d.uid, d.gid, unix.AT_SYMLINK_NOFOLLOW)
		}
		if err != nil {
			return &os.PathError{Op: "mknodat", Path: "/dev/" + d.path, Err: err}
		}
	}
	for _, l := range deviceLinks {
		if err := unix.Symlinkat(l[1], fd, l[0]); err != nil && err != unix.EEXIST {
			return &os.PathError{Op: "symlinkat", Path: "/dev/" + l[0], Err: err}
		}
	}
	return nil
}

// openConsole makes a terminal in the container's own devpts(5), so that it has the
// name there that it says it has, and mounts it on /dev/console.
func openConsole(root, dev *os.File) (master, slave *os.File, err error) {
	ptmx, err := openIn(root, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, nil, err
	}
	master, slave, err = openPTY(ptmx)
	if err != nil || dev == nil {
		return master, slave, err
	}
	if err = coverConsole(dev, slave); err != nil {
		master.Close()
		slave.Close()
		return nil, nil, err
	}
	return master, slave, nil
}

func coverConsole(dev, slave *os.File) error {
	fd, err := unix.Openat(int(dev.Fd()), "console", unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: "/dev/console", Err: err}
	}
	place := os.NewFile(uintptr(fd), "/dev/console")
	defer place.Close()
	return coverWith(place, slave)
}

// isDev reports whether a mount is the new filesystem that /dev is made in.
func (m *mount) isDev() bool { return m.dest == "/dev" && m.fstype == "tmpfs" && !m.bind }

// hasPTS reports whether a container has a devpts(5) of its own.
func hasPTS(mounts []*mount) bool {
	for _, m := range mounts {
		if m.fstype == "devpts" && strings.TrimSuffix(m.dest, "/") == "/dev/pts" {
			return true
		}
	}
	return false
}
