package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/podbox/podbox/internal/flock"
)

// An Addition is an image that is to be put into a store.
type Addition struct {
	Config   []byte   // as it came; the image's ID is its digest
	Manifest []byte   // as it came; nil if it came without
	Layers   []*Layer // all of them, the lowest first; not missing
	Names    []string // what it shall be called, as ParseName reads it
}

const (
	imageFile    = "image.json"
	configFile   = "config.json"
	manifestFile = "manifest.json"
	// bornFile says of an image that it has not had the names yet that it came with.
	// Without a name it is not there: its maker was killed between the two.
	bornFile     = "born"
	maxImageFile = MaxConfig + 1<<20
)

// Put puts an image into the store, or adds names to one that is there. Another image
// that has one of the names loses it.
func (s *Store) Put(ctx context.Context, a Addition) (*Image, error) {
	img, err := newImage(a)
	if err != nil {
		return nil, err
	}
	var full []string
	for _, n := range a.Names {
		name, err := ParseName(n)
		if err != nil {
			return nil, err
		}
		full = append(full, name.String())
	}
	if err := s.make(); err != nil {
		return nil, err
	}
	tmp, err := s.Temporary()
	if err != nil {
		return nil, err
	}
	defer tmp.Close()
	b, err := json.Marshal(img)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{imageFile: b, configFile: a.Config, manifestFile: a.Manifest}
	if len(full) > 0 {
		files[bornFile] = []byte{}
	}
	for name, b := range files {
		if b == nil {
			continue
		}
		if err := writeFile(filepath.Join(tmp.dir, name), b); err != nil {
			return nil, err
		}
	}
	if err := syncDir(tmp.dir); err != nil {
		return nil, err
	}
	lock, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	path := s.path(imagesDir, img.ID[len("sha256:"):])
	if err := s.place(tmp, path, img); err != nil {
		return nil, err
	}
	if len(full) > 0 {
		if err := s.changeNames(func(names map[string]string) {
			for _, n := range full {
				names[n] = img.ID
			}
		}); err != nil {
			return nil, err
		}
	}
	if err := s.grown(img.ID); err != nil {
		return nil, err
	}
	return s.read(filepath.Base(path))
}

// place gives an image its place, unless it has it. One that was loaded from an archive
// and is pulled later gets its manifest then.
func (s *Store) place(tmp *Temporary, path string, img *Image) error {
	old, err := s.readRecord(filepath.Base(path))
	if err == nil && (old.Digest == img.Digest || img.Digest == "") {
		return nil
	}
	if err == nil || !errors.Is(err, ErrNotFound) { // it cannot be read, and is mended
		remove, err := s.discard(path)
		if err != nil {
			return err
		}
		defer remove() //nolint // what is left is swept
	}
	if err := os.Rename(tmp.dir, path); err != nil {
		return err
	}
	return syncDir(s.path(imagesDir))
}

// newImage checks an addition.
func newImage(a Addition) (*Image, error) {
	f, err := parse(a.Config)
	if err != nil {
		return nil, err
	}
	if len(a.Manifest) > MaxManifest {
		return nil, fmt.Errorf("manifest: %w: larger than %d bytes", ErrInvalid, MaxManifest)
	}
	img := &Image{
		ID: digestOf(a.Config), Platform: f.Platform, Config: f.Config,
		Layers: ChainIDs(f.RootFS.DiffIDs), Added: time.Now().UTC(),
	}
	if f.Created != nil {
		img.Created = f.Created.UTC()
	}
	if a.Manifest != nil {
		img.Digest = digestOf(a.Manifest)
	}
	if !slices.EqualFunc(a.Layers, img.Layers, func(l *Layer, chain string) bool { return l.chain == chain && !l.Missing() }) {
		return nil, fmt.Errorf("image %.19s: %w: its layers are not those of its configuration", img.ID, ErrInvalid)
	}
	for _, l := range a.Layers {
		img.Size += l.size
	}
	return img, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// namesRecord is what images are called.
type namesRecord struct {
	Names map[string]string `json:"names"` // full names, and the IDs of their images
}

const maxNames = 64 << 20 // bytes

func (s *Store) readNames() (map[string]string, error) {
	var r namesRecord
	err := readJSON(s.path(namesFile), maxNames, &r)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if r.Names == nil {
		r.Names = make(map[string]string)
	}
	return r.Names, err
}

// changeNames changes what images are called. The store is locked.
func (s *Store) changeNames(change func(map[string]string)) error {
	names, err := s.readNames()
	if err != nil {
		return err
	}
	for _, id := range names {
		if err := s.grown(id); err != nil { // or it would be gone without a name
			return err
		}
	}
	change(names)
	for name, id := range names {
		// Of an image whose removal was cut short.
		if _, err := os.Lstat(s.path(imagesDir, strings.TrimPrefix(id, "sha256:"))); errors.Is(err, fs.ErrNotExist) {
			delete(names, name)
		}
	}
	b, err := json.Marshal(namesRecord{names})
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(s.path(namesFile)); err == nil && bytes.Equal(old, b) {
		return nil
	}
	tmp, err := s.Temporary()
	if err != nil {
		return err
	}
	defer tmp.Close()
	file := filepath.Join(tmp.dir, namesFile)
	if err := writeFile(file, b); err != nil {
		return err
	}
	if err := os.Rename(file, s.path(namesFile)); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// grown notes that an image has had the names that it came with.
func (s *Store) grown(id string) error {
	err := os.Remove(s.path(imagesDir, strings.TrimPrefix(id, "sha256:"), bornFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Tag gives the image another name, which a different image loses that had it.
func (s *Store) Tag(ctx context.Context, ref, name string) error {
	n, err := ParseName(name)
	if err != nil {
		return err
	}
	lock, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return missing(ref, err)
	}
	defer lock.Close()
	img, err := s.Find(ref)
	if err != nil {
		return err
	}
	return s.changeNames(func(names map[string]string) { names[n.String()] = img.ID })
}

// Untag takes a name from its image, which stays.
func (s *Store) Untag(ctx context.Context, name string) error {
	n, err := ParseName(name)
	if err != nil {
		return err
	}
	lock, err := s.lock(ctx, flock.Exclusive)
	if err != nil {
		return missing(name, err)
	}
	defer lock.Close()
	found := false
	err = s.changeNames(func(names map[string]string) {
		_, found = names[n.String()]
		delete(names, n.String())
	})
	if err == nil && !found {
		err = missing(name, fs.ErrNotExist)
	}
	return err
}
