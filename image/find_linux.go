package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/podbox/podbox/internal/names"
)

// Image returns the image with an ID, without its names. ErrNotFound.
func (s *Store) Image(id string) (*Image, error) {
	hex, err := Hex(id)
	if err != nil {
		return nil, err
	}
	return s.readRecord(hex)
}

// Find returns the image with a name, with a digest (of its configuration or of its
// manifest: sha256:…, NAME@sha256:…), or with an ID that begins so. ErrNotFound,
// ErrAmbiguous.
func (s *Store) Find(ref string) (*Image, error) {
	called, err := s.readNames()
	if err != nil {
		return nil, err
	}
	if n, err := ParseName(ref); err == nil {
		if img, err := s.findNamed(n, called); img != nil || err != nil {
			return img, err
		}
	}
	digits, digest := strings.CutPrefix(ref, "sha256:")
	if !names.MayBeginID(digits) {
		if _, err := ParseName(ref); err != nil && !digest {
			return nil, err
		}
		return nil, missing(ref, fs.ErrNotExist)
	}
	var found []string
	entries, err := os.ReadDir(s.path(imagesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), digits) {
			found = append(found, e.Name())
		}
	}
	switch {
	case len(found) == 1:
		return s.readNamed(found[0], called)
	case len(found) > 1:
		return nil, fmt.Errorf("image %q: %w: %d IDs begin with it", ref, ErrAmbiguous, len(found))
	case names.IsID(digits):
		return s.findManifest(ref, "sha256:"+digits, "", called)
	}
	return nil, missing(ref, fs.ErrNotExist)
}

// findNamed returns the image with a name; nil if there is none.
func (s *Store) findNamed(n Name, called map[string]string) (*Image, error) {
	if id, ok := called[n.String()]; ok {
		img, err := s.readNamed(strings.TrimPrefix(id, "sha256:"), called)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return img, err
		}
	}
	if n.Digest == "" {
		return nil, nil
	}
	img, err := s.findManifest(n.String(), n.Digest, n.Repository(), called)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return img, err
}

// findManifest returns the image that came with a manifest, and is called something of
// repository, unless that is empty.
func (s *Store) findManifest(ref, digest, repository string, called map[string]string) (*Image, error) {
	list, err := s.List()
	for _, img := range list {
		if img.Digest != digest {
			continue
		}
		if repository == "" || slices.ContainsFunc(img.Names, func(name string) bool {
			n, err := ParseName(name)
			return err == nil && n.Repository() == repository
		}) {
			return img, nil
		}
	}
	return nil, errors.Join(missing(ref, fs.ErrNotExist), err)
}

// missing says of an image that is not there, because a file is not, what it is called.
func missing(ref string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("image %q: %w", ref, ErrNotFound)
	}
	return err
}

// List returns all images, the newest in the store first. Those that can be read are
// there if there is an error too.
func (s *Store) List() ([]*Image, error) {
	called, err := s.readNames()
	errs := []error{err}
	entries, err := os.ReadDir(s.path(imagesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	var list []*Image
	for _, e := range entries {
		img, err := s.readNamed(e.Name(), called)
		if err == nil {
			list = append(list, img)
		} else if !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	slices.SortStableFunc(list, func(a, b *Image) int { return b.Added.Compare(a.Added) })
	return list, errors.Join(errs...)
}

func (s *Store) read(id string) (*Image, error) {
	called, err := s.readNames()
	if err != nil {
		return nil, err
	}
	return s.readNamed(id, called)
}

// readNamed reads the image with an ID, given in digits.
func (s *Store) readNamed(id string, called map[string]string) (*Image, error) {
	img, err := s.readRecord(id)
	if err != nil {
		return nil, err
	}
	for name, of := range called {
		if of == img.ID {
			img.Names = append(img.Names, name)
		}
	}
	slices.Sort(img.Names)
	if len(img.Names) > 0 {
		return img, nil
	}
	if _, err := os.Lstat(s.path(imagesDir, id, bornFile)); err == nil {
		return nil, missing(id, fs.ErrNotExist)
	}
	return img, nil
}

// readRecord reads what is on record of an image, without its names.
func (s *Store) readRecord(id string) (*Image, error) {
	if !names.IsID(id) {
		return nil, missing(id, fs.ErrNotExist)
	}
	img := new(Image)
	if err := readJSON(s.path(imagesDir, id, imageFile), maxImageFile, img); err != nil {
		return nil, missing(id, err)
	}
	if img.ID != "sha256:"+id || len(img.Layers) > MaxLayers {
		return nil, fmt.Errorf("image %s: %w: its record is not its own", id, ErrCorrupt)
	}
	for _, l := range img.Layers {
		if _, err := Hex(l); err != nil {
			return nil, fmt.Errorf("image %s: %w: %w", id, ErrCorrupt, err)
		}
	}
	img.Names = nil
	return img, nil
}

// RawConfig returns the configuration of an image as it came.
func (s *Store) RawConfig(img *Image) ([]byte, error) {
	return os.ReadFile(s.path(imagesDir, strings.TrimPrefix(img.ID, "sha256:"), configFile))
}

// RawManifest returns the manifest that an image came with. fs.ErrNotExist if it came
// without.
func (s *Store) RawManifest(img *Image) ([]byte, error) {
	return os.ReadFile(s.path(imagesDir, strings.TrimPrefix(img.ID, "sha256:"), manifestFile))
}

// Dirs returns the directories of an image's layers, the lowest first. They stay as
// long as the image is in use: see Use.
func (s *Store) Dirs(img *Image) []string {
	dirs := make([]string, len(img.Layers))
	for i, l := range img.Layers {
		dirs[i] = filepath.Join(s.path(layersDir, strings.TrimPrefix(l, "sha256:")), filesDir)
	}
	return dirs
}
