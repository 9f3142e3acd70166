package volumes

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// maxNested is how deep a walk goes: each level costs an open file.
const maxNested = 500

// walk calls entry for each entry of d, and of the directories below that entry says
// to enter; after, unless it is nil, is called for each of those when that is done.
// What is gone meanwhile, or something else, or a mount, is passed over. It goes on
// after ErrTooDeep, which it returns in the end.
func walk(ctx context.Context, d dir, entry func(d dir, name string) (enter bool, err error), after func(d dir) error) error {
	return walkDir(ctx, d, 1, entry, after)
}

func walkDir(ctx context.Context, d dir, depth int, entry func(d dir, name string) (bool, error), after func(d dir) error) (deep error) {
	for {
		// Not all at once: there may be millions.
		names, err := d.Readdirnames(1000)
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			enter, err := entry(d, name)
			if err != nil {
				return err
			}
			if !enter {
				continue
			}
			err = enterDir(ctx, d, name, depth, entry, after)
			if errors.Is(err, ErrTooDeep) {
				deep = err
			} else if err != nil {
				return err
			}
		}
		if err == io.EOF || errors.Is(err, fs.ErrNotExist) {
			return deep
		}
		if err != nil {
			return err
		}
	}
}

func enterDir(ctx context.Context, d dir, name string, depth int, entry func(d dir, name string) (bool, error), after func(d dir) error) error {
	if depth == maxNested {
		return ErrTooDeep
	}
	sub, err := d.open(name)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := walkDir(ctx, sub, depth+1, entry, after); err != nil {
		return err
	}
	if after != nil {
		return after(sub)
	}
	return nil
}

// gone reports whether an error of opening an entry says that it is none of the
// volume's any more: removed, replaced, or covered by a mount.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) ||
		errors.Is(err, unix.EXDEV) || errors.Is(err, ErrBusy)
}
