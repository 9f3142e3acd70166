package volumes

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maxLinked is how many files with several names Usage remembers.
const maxLinked = 1 << 18

// Usage returns how many bytes of the disk are taken by the directory that is at
// path, with all below it, as du(1) counts: blocks rather than lengths, a file with
// several names once, nothing of what is mounted there. The path is the caller's,
// what is below may change under its hands: no link is followed.
//
// Strangers decide how much there is to look at, so ctx should have an end. With an
// error what has been counted so far is returned too: ErrTooDeep if there are more
// than 500 directories in one another, which are not counted to the end, though
// everything else is. Of files with several names it remembers a quarter of a
// million; each name of those beyond counts.
func Usage(ctx context.Context, path string) (bytes int64, err error) {
	d, err := openDir(path)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	c := counter{dev: st.Dev, linked: make(map[uint64]struct{}), bytes: blocks(&st)}
	err = walk(ctx, d, c.entry, nil)
	if err != nil {
		err = fmt.Errorf("usage of %s: %w", path, err)
	}
	return c.bytes, err
}

// blocks returns what a file takes of its disk, in bytes; stat(2) has a fixed unit.
func blocks(st *unix.Stat_t) int64 { return st.Blocks * 512 }

// A counter adds up files.
type counter struct {
	dev    uint64
	linked map[uint64]struct{} // inodes with several names that have been counted
	bytes  int64
}

func (c *counter) entry(d dir, name string) (enter bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "fstatat", Path: d.Name() + "/" + name, Err: err}
	}
	if st.Dev != c.dev {
		return false, nil
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !isDir && st.Nlink > 1 {
		if _, counted := c.linked[st.Ino]; counted {
			return false, nil
		}
		if len(c.linked) < maxLinked {
			c.linked[st.Ino] = struct{}{}
		}
	}
	c.bytes += blocks(&st)
	return isDir, nil
}
