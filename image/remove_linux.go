package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/names"
)

// Use keeps an image from being removed as long as there is something at the path
// owner. user, an ID, tells it from other uses of the image. The image of a container is
// in use from before its files are mounted until its directory is removed: that ends
// with everything else of the container, whatever ends it. The owner must be there already.
// ErrNotFound.
//
// Nobody tells the store that a use has ended. So that what is noted of them does not grow
// for ever, one use of some sixteen forgets those of the image that have, and ForgetUses all.
func (s *Store) Use(ctx context.Context, img *Image, user, owner string) error {
	if !names.IsID(user) || !filepath.IsAbs(owner) {
		return fmt.Errorf("use of image by %q at %q: %w: want an ID and an absolute path", user, owner, ErrInvalid)
	}
	lock, err := s.lock(ctx, flock.Shared)
	if err != nil {
		return missing(img.ID, err)
	}
	defer lock.Close()
	id := strings.TrimPrefix(img.ID, "sha256:")
	if _, err := os.Lstat(s.path(imagesDir, id)); err != nil {
		return missing(img.ID, err)
	}
	if err := os.Mkdir(s.path(usesDir, id), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	link := s.path(usesDir, id, user)
	err = os.Symlink(owner, link)
	if err == nil && user[0] == '0' {
		_, err = s.users(id)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if old, err := os.Readlink(link); err == nil && old == owner {
		return nil // it was started before
	}
	return fmt.Errorf("use of image by %s: %w", user, err)
}

// ForgetUses forgets the uses of images that have ended.
func (s *Store) ForgetUses(ctx context.Context) error {
	lock, err := s.lock(ctx, flock.Exclusive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there is no store
	}
	if err != nil {
		return err
	}
	return errors.Join(s.forgetUses(), lock.Close())
}

// forgetUses is ForgetUses in a locked store.
func (s *Store) forgetUses() error {
	var errs []error
	for _, path := range s.list(usesDir) {
		owners, err := s.users(filepath.Base(path))
		if err == nil && len(owners) == 0 {
			err = os.Remove(path)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// users returns the paths whose presence says that an image is in use, and forgets those
// that are gone. The store is locked, but others may do the same at the same time.
func (s *Store) users(id string) ([]string, error) {
	dir := s.path(usesDir, id)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var owners []string
	for _, e := range entries {
		link := filepath.Join(dir, e.Name())
		owner, err := os.Readlink(link)
		if err == nil {
			_, err = os.Lstat(owner)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
				err = os.Remove(link)
			} else if err == nil {
				owners = append(owners, owner)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return owners, nil
}

// RemoveOptions are those of Remove. The zero value is the default.
type RemoveOptions struct {
	// Force removes an image with all its names, though it was asked for by one of
	// several, or by its ID. One that is in use it does not remove.
	Force bool
}

// A Removed tells what was removed.
type Removed struct {
	Untagged []string `json:"untagged,omitempty"` // names that were taken
	Images   []string `json:"images,omitempty"`   // IDs of images that are gone
	Layers   int      `json:"layers"`             // how many that no other image has
	Size     int64    `json:"size"`               // bytes of their files
	Left     int      `json:"left,omitempty"`     // how much that killed processes had left
}

// Remove takes a name from its image, and removes the image if that was its last one,
// with the layers that no other image has. By its ID an image is removed that has one
// name at most. ErrInUse, ErrNotFound, ErrAmbiguous.
func (s *Store) Remove(ctx context.Context, ref string, opts RemoveOptions) (Removed, error) {
	var done Removed
	lock, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return done, missing(ref, err)
	}
	defer lock.Close()
	img, err := s.Find(ref)
	if err != nil {
		return done, err
	}
	asked := ""
	if n, err := ParseName(ref); err == nil && slices.Contains(img.Names, n.String()) {
		asked = n.String()
	}
	switch {
	case opts.Force || len(img.Names) < 2:
	case asked != "":
		done.Untagged = []string{asked}
		return done, s.changeNames(func(names map[string]string) { delete(names, asked) })
	default:
		return done, fmt.Errorf("remove image %.12s: %w: it has several names (%s)", img.ID[len("sha256:"):], ErrInUse, strings.Join(img.Names, ", "))
	}
	remove, err := s.forget(&done, img)
	if err == nil {
		var more []func() error
		more, err = s.forgetLayers(&done, img.Layers)
		remove = append(remove, more...)
	}
	lock.Close()
	return done, errors.Join(err, all(remove))
}

// forget takes an image out of sight. The store is locked.
func (s *Store) forget(done *Removed, img *Image) (remove []func() error, err error) {
	id := strings.TrimPrefix(img.ID, "sha256:")
	users, err := s.users(id)
	if err != nil {
		return nil, err
	}
	if len(users) > 0 {
		return nil, fmt.Errorf("remove image %.12s: %w by %s", id, ErrInUse, strings.Join(users, ", "))
	}
	if err := os.Remove(s.path(usesDir, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := s.changeNames(func(names map[string]string) {
		for _, n := range img.Names {
			delete(names, n)
		}
	}); err != nil {
		return nil, err
	}
	f, err := s.discard(s.path(imagesDir, id))
	if err != nil {
		return nil, err
	}
	done.Untagged = append(done.Untagged, img.Names...)
	done.Images = append(done.Images, img.ID)
	return []func() error{f}, nil
}

// forgetLayers takes layers out of sight that no image has, and that nobody is about to
// give to one. The store is locked.
func (s *Store) forgetLayers(done *Removed, chains []string) (remove []func() error, err error) {
	list, err := s.List()
	if err != nil {
		return nil, err // or layers of an image that cannot be read would go
	}
	kept := map[string]bool{}
	for _, img := range list {
		for _, l := range img.Layers {
			kept[l] = true
		}
	}
	for _, chain := range chains {
		path := s.path(layersDir, strings.TrimPrefix(chain, "sha256:"))
		if kept[chain] {
			continue
		}
		lock, err := flock.Try(path, flock.Exclusive)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return remove, err
		}
		var r layerRecord
		_ = readJSON(filepath.Join(path, layerFile), maxLayerFile, &r)
		f, err := s.discard(path)
		lock.Close()
		if err != nil {
			return remove, err
		}
		done.Layers, done.Size = done.Layers+1, done.Size+r.Size
		remove = append(remove, f)
	}
	return remove, nil
}

// Prune removes the images that have no name and are not in use, or all that are not in
// use; layers that no image has; and what killed processes have left.
func (s *Store) Prune(ctx context.Context, unused bool) (Removed, error) {
	var done Removed
	lock, err := s.lock(ctx, flock.Exclusive)
	if errors.Is(err, fs.ErrNotExist) {
		return done, nil
	}
	if err != nil {
		return done, err
	}
	defer lock.Close()
	list, err := s.List()
	if err != nil {
		return done, err
	}
	var remove []func() error
	var errs []error
	for _, img := range list {
		if len(img.Names) > 0 && !unused {
			continue
		}
		f, err := s.forget(&done, img)
		remove = append(remove, f...)
		if !errors.Is(err, ErrInUse) {
			errs = append(errs, err)
		}
	}
	for _, path := range s.list(imagesDir) {
		if _, err := s.read(filepath.Base(path)); errors.Is(err, ErrNotFound) {
			f, err := s.discard(path) // it was not there
			if err == nil {
				remove = append(remove, f)
			}
			errs = append(errs, err)
		}
	}
	var chains []string
	for _, path := range s.list(layersDir) {
		chains = append(chains, "sha256:"+filepath.Base(path))
	}
	f, err := s.forgetLayers(&done, chains)
	remove, errs = append(remove, f...), append(errs, err)
	errs = append(errs, s.forgetUses())
	lock.Close()
	errs = append(errs, all(remove))
	done.Left, err = s.Sweep()
	return done, errors.Join(append(errs, err)...)
}

func all(fs []func() error) error {
	var errs []error
	for _, f := range fs {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}
