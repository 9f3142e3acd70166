package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/podbox/podbox/image"
)

// Import makes an image of one layer of a tar of a root directory, which may be
// compressed, and puts it into the store. config says how it is to be run.
func Import(ctx context.Context, store *image.Store, r io.Reader, config image.Config, opts Options) (*image.Image, error) {
	opts = opts.withDefaults()
	// What the layer is called is known when all of it has been read: it is read
	// twice.
	f, size, done, err := seekable(ctx, store, r)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer done()
	img, err := importFile(ctx, store, f, size, config, opts)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return img, nil
}

// ImportDir is Import of a directory. What is mounted in it is not taken along.
func ImportDir(ctx context.Context, store *image.Store, dir string, config image.Config, opts Options) (_ *image.Image, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("import %s: %w", dir, err)
		}
	}()
	opts = opts.withDefaults()
	tmp, err := store.Temporary()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tmp.Close()) }()
	f, err := os.Create(filepath.Join(tmp.Dir(), "layer.tar"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := archive.WriteDiff(quiet(ctx), f, "", dir); err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return importFile(ctx, store, f, size, config, opts)
}

// importFile makes an image of a tar that is not compressed.
func importFile(ctx context.Context, store *image.Store, f io.ReaderAt, size int64, config image.Config, opts Options) (*image.Image, error) {
	b := blob{size: size, open: func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(f, 0, size)), nil }}
	diffID, err := b.read(ctx, -1, nil, func(io.Reader) error { return nil })
	if err != nil {
		return nil, err
	}
	hash, err := v1.NewHash(diffID)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	file := v1.ConfigFile{
		Created: v1.Time{Time: now}, OS: opts.Platform.OS, Architecture: opts.Platform.Architecture, Variant: opts.Platform.Variant,
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{hash}},
		History: []v1.History{{Created: v1.Time{Time: now}, Comment: "imported"}},
	}
	raw, err := json.Marshal(config)
	if err == nil {
		err = json.Unmarshal(raw, &file.Config)
	}
	if err == nil {
		raw, err = json.Marshal(file)
	}
	if err != nil {
		return nil, err
	}
	s := &source{config: raw, blobs: []blob{b}}
	return s.add(ctx, store, opts)
}
