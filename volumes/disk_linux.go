package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
)

// Make makes the directory of a disk volume, a claim, or files on the disk, in parent,
// which must exist and where only the caller may write. It returns an O_PATH
// handle of it. A disk volume or a claim is for everybody (mode 0777), files are for
// everybody to read (0755); FSGroup adds what it adds with the kubelet. A
// directory that is there already has been made whole and stays as it is. What an
// interrupted call leaves is hidden, and is Remove's or the next call's.
func (v Volume) Make(parent string) (*os.File, error) {
	if err := v.Validate(); err != nil {
		return nil, err
	}
	if v.HostPath != nil || v.InMemory() {
		return nil, invalid("volume", v.String(), "has no directory of its own")
	}
	p, err := openDir(parent)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return v.makeIn(p)
}

func (v Volume) makeIn(parent dir) (*os.File, error) {
	if f, err := parent.handle(v.DirName()); !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	// No volume has a name that begins with a dot. The directory gets its own name when
	// it has its mode, so that who finds it finds it whole.
	hidden := "." + v.DirName()
	if err := parent.mkdir(hidden, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	d, err := parent.open(hidden)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	gid, mode := v.root()
	if err := d.own(uint32(os.Geteuid()), gid, mode); err != nil {
		return nil, err
	}
	if err := parent.move(hidden, parent, v.DirName()); err != nil {
		return nil, err
	}
	return parent.handle(v.DirName())
}

// root returns group and mode of the directory that a volume is.
func (v Volume) root() (gid, mode uint32) {
	mode = 0o777
	switch {
	case v.Memory != nil:
		mode = 0o1777 // what tmpfs has, unless it is told something else
	case v.Files != nil:
		mode = 0o755
	}
	if v.FSGroup == nil {
		return uint32(os.Getegid()), mode
	}
	if v.Files != nil {
		return *v.FSGroup, mode | 0o2550
	}
	return *v.FSGroup, mode | 0o2770
}

// NewTmpfs returns a detached mount of a new, empty tmpfs for a volume that is in
// memory. source is what mount tables show it as. No set-user-ID bit and no device
// in it counts.
func (v Volume) NewTmpfs(source string) (*os.File, error) {
	if err := v.Validate(); err != nil {
		return nil, err
	}
	if !v.InMemory() {
		return nil, invalid("volume", v.String(), "is not in memory")
	}
	gid, mode := v.root()
	options := []mnt.Option{
		{Key: "source", Value: source},
		{Key: "mode", Value: strconv.FormatUint(uint64(mode), 8)},
		{Key: "gid", Value: strconv.FormatUint(uint64(gid), 10)},
	}
	if v.Memory != nil && v.Memory.Size != 0 {
		options = append(options, mnt.Option{Key: "size", Value: strconv.FormatInt(v.Memory.Size, 10)})
	}
	f, err := mnt.New("tmpfs", tmpfsAttr, append(options, mnt.Option{Key: "noswap"})...)
	if errors.Is(err, unix.EINVAL) {
		// Linux before 6.4, or a user namespace.
		f, err = mnt.New("tmpfs", tmpfsAttr, options...)
	}
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", v.Name, err)
	}
	return f, nil
}

const tmpfsAttr = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
