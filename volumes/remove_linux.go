package volumes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Remove removes name from parent, with all that strangers may have put there:
// links are not followed, nesting may have any depth, files may be immutable. What
// is mounted somewhere in it is left, and where it is mounted: the error is then
// ErrBusy, and everything else is gone. It is no error if there is nothing to
// remove. A volume of any kind may be removed: only what Make made is there.
//
// It goes on as long as somebody keeps putting things there; ctx ends it.
func Remove(ctx context.Context, parent, name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return invalid("volume name", name, "want a name in "+parent)
	}
	p, err := openDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	// The second is what an interrupted Make leaves.
	if err := errors.Join(removeAll(ctx, p, name), removeAll(ctx, p, "."+name)); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

// maxDepth is how many directories of a tree are open at once.
const maxDepth = 64

// A remover removes one tree. It opens each directory by its name in an open one
// and never goes back by "..", which a rename could turn elsewhere. What lies
// deeper than maxDepth is moved up to the top, and so comes nearer.
type remover struct {
	ctx      context.Context
	top      dir
	progress int // how much was removed or moved up
}

func removeAll(ctx context.Context, parent dir, name string) error {
	r := remover{ctx: ctx}
	return r.remove(parent, name, 0)
}

func (r *remover) remove(d dir, name string, depth int) error {
	err := r.insist(d, name, d.unlink)
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	if depth > maxDepth {
		return r.insist(d, name, func(name string) error { return d.move(name, r.top, rand.Text()) })
	}
	sub, err := d.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	if depth == 0 {
		r.top = sub
	}
	if err := r.empty(sub, depth); err != nil {
		return err
	}
	return r.insist(d, name, d.rmdir)
}

// empty removes what is in d. A directory that is read while it changes may not
// show all, so it is read until there was nothing to do.
func (r *remover) empty(d dir, depth int) error {
	for {
		before := r.progress
		first := r.pass(d, depth)
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if r.progress == before {
			return first
		}
	}
}

// pass reads d once and removes what it can. It returns the first error.
func (r *remover) pass(d dir, depth int) (first error) {
	if _, err := d.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for {
		// Not all at once: there may be millions.
		names, err := d.Readdirnames(1000)
		for _, name := range names {
			if r.ctx.Err() != nil {
				return first
			}
			if err := r.remove(d, name, depth+1); first == nil {
				first = err
			}
		}
		if err == io.EOF {
			return first
		}
		if err != nil {
			return err
		}
	}
}

// insist does something to an entry of d, if need be twice: what is immutable is
// made mutable. It is content if the entry is gone.
func (r *remover) insist(d dir, name string, do func(name string) error) error {
	err := do(name)
	if errors.Is(err, unix.EPERM) && thaw(d, name) {
		err = do(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		r.progress++
	}
	return err
}

// thaw clears the attributes that keep an entry from being removed, its own and
// those of the directory, and reports whether there were any. See chattr(1).
func thaw(d dir, name string) bool {
	thawed := clearAttributes(d.File)
	var st unix.Stat_t
	if unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return thawed
	}
	// To open anything else, a device for one, may do things.
	if t := st.Mode & unix.S_IFMT; t != unix.S_IFREG && t != unix.S_IFDIR {
		return thawed
	}
	f, err := openAt(d.File, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0, within)
	if err != nil {
		return thawed
	}
	defer f.Close()
	return clearAttributes(f) || thawed
}

func clearAttributes(f *os.File) bool {
	const frozen = 0x10 | 0x20 // FS_IMMUTABLE_FL, FS_APPEND_FL of linux/fs.h
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&frozen == 0 {
		return false
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^frozen)) == nil
}
