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
	uid, gid uint32
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
	const maxMajor, maxMinor = 1<<12 - 1, 1<<20 - 1
	if d.Major < 0 || d.Minor < 0 || d.Major > maxMajor || d.Minor > maxMinor || strings.ContainsRune(d.Path, 0) {
		return nil, fmt.Errorf("major %d, minor %d: %w", d.Major, d.Minor, ErrInvalid)
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
		out.uid = *d.UID
	}
	if d.GID != nil {
		out.gid = *d.GID
	}
	return out, nil
}

// fillDev makes the devices and links of a container in dev, a new filesystem that
// nobody else has. The calling thread's umask is 0.
func fillDev(dev *os.File, l *specs.Linux, ids idMapping) error {
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
		if err == nil {
			err = d.chown(fd, ids)
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

func (d *device) chown(dev int, ids idMapping) error {
	uid, err := ids.uid(d.uid)
	if err != nil {
		return err
	}
	gid, err := ids.gid(d.gid)
	if err != nil || uid == 0 && gid == 0 {
		return err
	}
	return unix.Fchownat(dev, d.path, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

// isDev reports whether a mount is the new filesystem that /dev is made in.
func (m *mount) isDev() bool { return m.dest == "/dev" && m.fstype == "tmpfs" && !m.bind }
