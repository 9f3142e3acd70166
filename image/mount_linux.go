package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image/overlay"
	"github.com/podbox/podbox/internal/mnt"
)

// Mount returns the files of an image as a mount that is attached nowhere. What is
// changed in it is kept in dir, an empty directory, and gone with that; a crash of the
// kernel may lose it. With an empty dir the mount is read-only. Devices in it are dead.
//
// Where idMap, a user namespace, is not nil, owners are those of it: what is user 0's in
// the image is that of user 0 there. It needs Linux 5.19, or ErrNotSupported.
//
// The image must be in use (see Use), or its layers may go. ErrCorrupt if they are not
// there.
func (s *Store) Mount(img *Image, dir string, idMap *os.File) (*os.File, error) {
	o := overlay.Options{Lower: s.Dirs(img), IDMap: idMap, Attrs: unix.MOUNT_ATTR_NODEV, Source: "podbox-image"}
	m, err := mount(o, dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: a layer is missing: %w", ErrCorrupt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("mount image %.12s: %w", strings.TrimPrefix(img.ID, "sha256:"), err)
	}
	return m, nil
}

func mount(o overlay.Options, dir string) (*os.File, error) {
	if len(o.Lower) == 0 && dir == "" {
		return mnt.New("tmpfs", o.Attrs|unix.MOUNT_ATTR_RDONLY, mnt.Option{Key: "mode", Value: "0755"})
	}
	if dir == "" {
		return overlay.New(o)
	}
	if len(o.Lower) == 0 { // an image of nothing
		empty := filepath.Join(dir, "empty")
		if err := os.Mkdir(empty, 0o755); err != nil {
			return nil, err
		}
		o.Lower = []string{empty}
	}
	o.Upper, o.Work, o.Volatile = filepath.Join(dir, "upper"), filepath.Join(dir, "work"), true
	if err := os.Mkdir(o.Work, 0o700); err != nil {
		return nil, err
	}
	if err := makeUpper(o.Upper, o.Lower[len(o.Lower)-1], o.IDMap); err != nil {
		return nil, err
	}
	return overlay.New(o)
}

// makeUpper makes the directory that is the root of an overlay to be like the highest one
// below: the root has its attributes.
func makeUpper(upper, top string, idMap *os.File) error {
	m, err := mnt.Clone(top, false)
	if err != nil {
		return err
	}
	defer m.Close()
	if idMap != nil {
		if err := mnt.MapIDs(m, idMap, false); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(m.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: top, Err: err}
	}
	if err := os.Mkdir(upper, 0o700); err != nil {
		return err
	}
	if err := os.Chown(upper, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(upper, st.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: upper, Err: err}
	}
	return nil
}
