package ingest

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/podbox/podbox/image"
)

// Bounds of an archive that say when it is none of images.
const (
	maxMembers = 1 << 17
	maxIndex   = 4 << 20 // bytes of manifest.json, index.json and an index of images
	maxNesting = 4       // of indexes
)

// Load puts all images of an archive into the store that are for the platform, and
// returns them: one as docker save and podman save write it, or a tar of an OCI image
// layout, or of both, as newer docker writes it. The archive may be compressed. If r is
// a file that can be sought in, and is not compressed, it is read in place; anything
// else is first copied to the store's disk.
func Load(ctx context.Context, store *image.Store, r io.Reader, opts Options) ([]*image.Image, error) {
	opts = opts.withDefaults()
	f, size, done, err := seekable(ctx, store, r)
	if err != nil {
		return nil, fmt.Errorf("load archive: %w", err)
	}
	defer done()
	a, err := readArchive(ctx, io.NewSectionReader(f, 0, size))
	if err == nil {
		var imgs []*image.Image
		if imgs, err = addAll(ctx, store, a, opts); err == nil {
			return imgs, nil
		}
	}
	return nil, fmt.Errorf("load archive: %w", err)
}

// LoadDir is Load of a directory that has an OCI image layout in it.
func LoadDir(ctx context.Context, store *image.Store, dir string, opts Options) ([]*image.Image, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("load directory: %w", err)
	}
	defer root.Close()
	imgs, err := addAll(ctx, store, layoutDir{root}, opts.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("load directory %s: %w", dir, err)
	}
	return imgs, nil
}

// seekable returns r as a file with its size; a copy on the disk if need be.
func seekable(ctx context.Context, store *image.Store, r io.Reader) (io.ReaderAt, int64, func(), error) {
	if f, ok := r.(*os.File); ok {
		st, err := f.Stat()
		if err != nil {
			return nil, 0, nil, err
		}
		var magic [4]byte
		if at, err := f.Seek(0, io.SeekCurrent); err == nil && st.Mode().IsRegular() && at == 0 {
			n, _ := f.ReadAt(magic[:], 0)
			if !isCompressed(magic[:n]) {
				return f, st.Size(), func() {}, nil
			}
		}
	}
	if _, err := store.Sweep(); err != nil {
		return nil, 0, nil, err
	}
	plain, err := decompress(&meter{ctx: ctx, r: r, limit: -1, what: "archive"})
	if err != nil {
		return nil, 0, nil, err
	}
	defer plain.Close()
	tmp, err := store.Temporary()
	if err != nil {
		return nil, 0, nil, err
	}
	f, err := os.Create(filepath.Join(tmp.Dir(), "archive.tar"))
	if err != nil {
		return nil, 0, nil, errors.Join(err, tmp.Close())
	}
	done := func() {
		f.Close()
		tmp.Close()
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, plain, make([]byte, bufferSize))
	if err != nil {
		done()
		return nil, 0, nil, err
	}
	return f, n, done, nil
}

// A collection is where the parts of images are found by name.
type collection interface {
	// open returns a part with its size. fs.ErrNotExist.
	open(name string) (io.ReadCloser, int64, error)
}

// A layoutDir is a directory with an OCI image layout.
type layoutDir struct{ root *os.Root }

func (d layoutDir) open(name string) (io.ReadCloser, int64, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// A tarArchive is a tar in which each member can be read by itself.
type tarArchive struct {
	file    io.ReaderAt
	members map[string]member
}

type member struct {
	offset, size int64
	link         string // the member that it stands for
}

func readArchive(ctx context.Context, r *io.SectionReader) (*tarArchive, error) {
	a := &tarArchive{file: r, members: make(map[string]member)}
	t := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := t.Next()
		if err == io.EOF {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", image.ErrCorrupt, err)
		}
		if len(a.members) >= maxMembers {
			return nil, fmt.Errorf("%w: more than %d members: is it a root directory? import takes that", image.ErrInvalid, maxMembers)
		}
		name := path.Clean(strings.TrimLeft(h.Name, "/"))
		switch h.Typeflag {
		case tar.TypeReg:
			at, err := r.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			if at+h.Size > r.Size() {
				return nil, fmt.Errorf("%w: member %q: truncated", image.ErrCorrupt, name)
			}
			a.members[name] = member{offset: at, size: h.Size}
		case tar.TypeSymlink:
			// As docker used to write a layer that two images have.
			a.members[name] = member{link: path.Join(path.Dir(name), h.Linkname)}
		case tar.TypeLink:
			a.members[name] = member{link: path.Clean(h.Linkname)}
		}
	}
}

func (a *tarArchive) open(name string) (io.ReadCloser, int64, error) {
	m, ok := a.members[path.Clean(name)]
	for range 8 {
		if !ok || m.link == "" {
			break
		}
		m, ok = a.members[m.link]
	}
	if !ok || m.link != "" {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(a.file, m.offset, m.size)), m.size, nil
}

// readPart reads a small part whole.
func readPart(c collection, name string, limit int64) ([]byte, error) {
	r, size, err := c.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > limit {
		return nil, fmt.Errorf("%s: %w: larger than %d bytes", name, image.ErrInvalid, limit)
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) != size {
		err = fmt.Errorf("%s: %w: truncated", name, image.ErrCorrupt)
	}
	return b, err
}

// readBlob reads a small blob whole and compares it with its descriptor.
func readBlob(c collection, d v1.Descriptor, limit int64) ([]byte, error) {
	name, err := blobPath(d)
	if err != nil {
		return nil, err
	}
	b, err := readPart(c, name, limit)
	if err != nil {
		return nil, err
	}
	if got := digestOf(b); got != d.Digest.String() {
		return nil, fmt.Errorf("%s: %w: its digest is %s", name, image.ErrCorrupt, got)
	}
	return b, nil
}

func blobPath(d v1.Descriptor) (string, error) {
	hex, err := image.Hex(d.Digest.String())
	if err != nil {
		return "", err
	}
	return "blobs/sha256/" + hex, nil
}

// A found is an image of a collection, with the names that it has there.
type found struct {
	source
	names []string
}

// addAll adds the images of a collection.
func addAll(ctx context.Context, store *image.Store, c collection, opts Options) ([]*image.Image, error) {
	list, err := images(c, opts.Platform)
	if err != nil {
		return nil, err
	}
	var imgs []*image.Image
	for _, f := range list {
		o := opts
		o.Names = f.names
		if len(list) == 1 {
			o.Names = append(o.Names, opts.Names...)
		}
		img, err := f.add(ctx, store, o)
		if err != nil {
			return imgs, err
		}
		imgs = append(imgs, img)
	}
	if len(list) > 1 && len(opts.Names) > 0 {
		return imgs, fmt.Errorf("%d images: %w: a name is for one", len(list), image.ErrInvalid)
	}
	return imgs, nil
}

// images reads what images there are. Where there are manifests of both kinds, those of
// OCI say more.
func images(c collection, p image.Platform) ([]found, error) {
	index, err := readPart(c, "index.json", maxIndex)
	if err == nil {
		return layoutImages(c, index, p)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	manifest, err := readPart(c, "manifest.json", maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: neither index.json nor manifest.json is in it: is it a root directory? import takes that", image.ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	return dockerImages(c, manifest)
}

// dockerImages reads those of docker save.
func dockerImages(c collection, manifest []byte) ([]found, error) {
	var entries []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(manifest, &entries); err != nil {
		return nil, fmt.Errorf("manifest.json: %w: %w", image.ErrInvalid, err)
	}
	var list []found
	for _, e := range entries {
		config, err := readPart(c, e.Config, image.MaxConfig)
		if err != nil {
			return nil, fmt.Errorf("manifest.json: %w", err)
		}
		f := found{source: source{config: config}, names: e.RepoTags}
		for _, name := range e.Layers {
			r, size, err := c.open(name)
			if err != nil {
				return nil, fmt.Errorf("manifest.json: %w", err)
			}
			r.Close()
			f.blobs = append(f.blobs, blob{size: size, open: func() (io.ReadCloser, error) {
				r, _, err := c.open(name)
				return r, err
			}})
		}
		list = append(list, f)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("manifest.json: %w: no images in it", image.ErrInvalid)
	}
	return list, nil
}

// layoutImages reads those of an OCI image layout.
func layoutImages(c collection, index []byte, p image.Platform) ([]found, error) {
	var list []found
	var others []string
	if err := walkIndex(c, index, p, nil, 0, &list, &others); err != nil {
		return nil, err
	}
	if len(list) == 0 && len(others) > 0 {
		return nil, fmt.Errorf("%w: want %v, there is %s", ErrPlatform, p, strings.Join(others, ", "))
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("index.json: %w: no images in it", image.ErrInvalid)
	}
	return list, nil
}

func walkIndex(c collection, index []byte, p image.Platform, names []string, depth int, list *[]found, others *[]string) error {
	if depth == maxNesting {
		return fmt.Errorf("index.json: %w: indexes nested deeper than %d", image.ErrInvalid, maxNesting)
	}
	var idx v1.IndexManifest
	if err := json.Unmarshal(index, &idx); err != nil {
		return fmt.Errorf("index: %w: %w", image.ErrInvalid, err)
	}
	for _, d := range idx.Manifests {
		called := append(names[:len(names):len(names)], annotatedNames(d.Annotations)...)
		switch d.MediaType {
		case types.OCIImageIndex, types.DockerManifestList:
			b, err := readBlob(c, d, maxIndex)
			if err != nil {
				return err
			}
			if err := walkIndex(c, b, p, called, depth+1, list, others); err != nil {
				return err
			}
			continue
		case types.OCIManifestSchema1, types.DockerManifestSchema2, "":
		default:
			continue
		}
		if d.Platform != nil && !matches(p, d.Platform.OS, d.Platform.Architecture, d.Platform.Variant) {
			if d.Platform.OS != "unknown" { // an attestation
				*others = append(*others, d.Platform.String())
			}
			continue
		}
		f, other, err := layoutImage(c, d, p)
		if errors.Is(err, fs.ErrNotExist) && depth > 0 {
			continue // an index of many platforms, of which not all were saved
		}
		if err != nil {
			return err
		}
		if f == nil {
			*others = append(*others, other)
			continue
		}
		f.names = called
		*list = append(*list, *f)
	}
	return nil
}

// annotatedNames returns what an entry of an index is called. The specification has a
// tag only in mind, which says nothing by itself.
func annotatedNames(a map[string]string) []string {
	for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
		if name := a[key]; strings.ContainsAny(name, ":/") {
			return []string{name}
		}
	}
	return nil
}

// layoutImage reads an image; nil and its platform if that is another one.
func layoutImage(c collection, d v1.Descriptor, p image.Platform) (f *found, other string, err error) {
	manifest, err := readBlob(c, d, image.MaxManifest)
	if err != nil {
		return nil, "", err
	}
	var m v1.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, "", fmt.Errorf("manifest %s: %w: %w", d.Digest, image.ErrInvalid, err)
	}
	config, err := readBlob(c, m.Config, image.MaxConfig)
	if err != nil {
		return nil, "", err
	}
	if d.Platform == nil {
		var of image.Platform
		if err := json.Unmarshal(config, &of); err != nil {
			return nil, "", fmt.Errorf("configuration %s: %w: %w", m.Config.Digest, image.ErrInvalid, err)
		}
		if of.OS != "" && !matches(p, of.OS, of.Architecture, of.Variant) {
			return nil, of.String(), nil
		}
	}
	f = &found{source: source{config: config, manifest: manifest}}
	for _, l := range m.Layers {
		name, err := blobPath(l)
		if err != nil {
			return nil, "", err
		}
		r, _, err := c.open(name)
		if err != nil {
			return nil, "", err
		}
		r.Close()
		f.blobs = append(f.blobs, blob{digest: l.Digest.String(), size: l.Size, open: func() (io.ReadCloser, error) {
			r, _, err := c.open(name)
			return r, err
		}})
	}
	return f, "", nil
}

// matches reports whether what is for a platform runs on p. A variant counts if both say
// theirs.
func matches(p image.Platform, os, arch, variant string) bool {
	return os == p.OS && arch == p.Architecture && (variant == "" || p.Variant == "" || variant == p.Variant)
}
