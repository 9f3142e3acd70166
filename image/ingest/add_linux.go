package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/podbox/podbox/image"
)

// Add unpacks an image into the store, as far as it is not there, and returns it. If the
// image says of its blobs what is not so, nothing of it is there then but layers that
// were whole.
func Add(ctx context.Context, store *image.Store, img v1.Image, opts Options) (*image.Image, error) {
	s, err := sourceOf(img)
	if err != nil {
		return nil, err
	}
	return s.add(ctx, store, opts.withDefaults())
}

func sourceOf(img v1.Image) (*source, error) {
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("layers: %w", err)
	}
	if got := digestOf(config); m.Config.Digest.String() != got {
		return nil, fmt.Errorf("configuration: %w: its digest is %s, want %s", image.ErrCorrupt, got, m.Config.Digest)
	}
	if len(layers) != len(m.Layers) {
		return nil, fmt.Errorf("manifest: %w: %d layers, want %d", image.ErrCorrupt, len(m.Layers), len(layers))
	}
	s := &source{config: config, manifest: manifest}
	for i, l := range layers {
		d := m.Layers[i]
		s.blobs = append(s.blobs, blob{digest: d.Digest.String(), size: d.Size, open: l.Compressed})
	}
	return s, nil
}

// A source is an image that is to be unpacked.
type source struct {
	config, manifest []byte
	blobs            []blob // the lowest first
}

// add unpacks it into the store.
func (s *source) add(ctx context.Context, store *image.Store, opts Options) (_ *image.Image, err error) {
	diffIDs, err := image.DiffIDs(s.config)
	if err != nil {
		return nil, err
	}
	if len(diffIDs) != len(s.blobs) {
		return nil, fmt.Errorf("configuration: %w: %d layers, want the %d of the manifest", image.ErrCorrupt, len(diffIDs), len(s.blobs))
	}
	for i := range s.blobs {
		s.blobs[i].diffID = diffIDs[i]
	}
	if _, err := store.Sweep(); err != nil {
		return nil, err
	}
	layers, err := s.unpack(ctx, store, opts)
	defer func() {
		for _, l := range layers {
			if l != nil {
				err = errors.Join(err, l.Close())
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	return store.Put(ctx, image.Addition{Config: s.config, Manifest: s.manifest, Layers: layers, Names: opts.Names})
}

// unpack returns the layers, which are all there then unless there is an error.
func (s *source) unpack(ctx context.Context, store *image.Store, opts Options) ([]*image.Layer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var diffIDs []string
	for _, b := range s.blobs {
		diffIDs = append(diffIDs, b.diffID)
	}
	chain := image.ChainIDs(diffIDs)
	layers := make([]*image.Layer, len(chain))
	ready := make([]chan struct{}, len(chain)) // closed when the layer is in the store
	for i := range ready {
		ready[i] = make(chan struct{})
	}
	b := &budget{limits: opts.Limits}
	turn := make(chan struct{}, opts.Parallel)
	var all sync.WaitGroup
	for i := range chain {
		u := unpacking{blob: s.blobs[i], chain: chain[i], below: layers[:i], budget: b, opts: opts}
		u.progress = Progress{Layer: u.blob.name(), Index: i, Count: len(chain), Total: max(u.blob.size, 0)}
		u.belowReady = ready[:i]
		// In this order, so that who has its turn waits for those below only, which
		// have had theirs.
		u.tell(Waiting, 0)
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			defer func() { <-turn }()
			l, err := u.unpack(ctx, store)
			if err != nil {
				cancel(fmt.Errorf("layer %.19s: %w", u.progress.Layer, err))
				return
			}
			layers[i] = l
			close(ready[i])
		})
	}
	all.Wait()
	return layers, context.Cause(ctx)
}

// An unpacking is one layer on its way into the store.
type unpacking struct {
	blob       blob
	chain      string
	below      []*image.Layer  // each is there
	belowReady []chan struct{} // when this is closed
	budget     *budget
	opts       Options
	progress   Progress
}

func (u *unpacking) tell(stage Stage, done int64) {
	p := u.progress
	p.Stage, p.Done = stage, done
	u.opts.Progress(p)
}

func (u *unpacking) unpack(ctx context.Context, store *image.Store) (_ *image.Layer, err error) {
	l, err := store.Layer(ctx, u.chain)
	if err != nil {
		return nil, err
	}
	if !l.Missing() {
		u.tell(Present, u.progress.Total)
		return l, nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	u.tell(Unpacking, 0)
	var size int64
	var implied []string
	diffID, err := u.blob.read(ctx, u.budget.stream(), func(n int64) { u.tell(Unpacking, n) }, func(r io.Reader) (err error) {
		size, implied, err = unpack(ctx, l.Dir(), r, u.budget)
		return err
	})
	if err != nil {
		return nil, err
	}
	u.tell(Syncing, u.progress.Total)
	var dirs []string // the highest first
	for i := len(u.below) - 1; i >= 0; i-- {
		select {
		case <-u.belowReady[i]:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		dirs = append(dirs, u.below[i].Dir())
	}
	if err := inherit(l.Dir(), implied, dirs); err != nil {
		return nil, err
	}
	if err := l.Commit(ctx, diffID, size); err != nil {
		return nil, err
	}
	u.tell(Done, u.progress.Total)
	return l, nil
}

// stream is how many bytes a layer may have as a tar: besides those of its files it has
// headers.
func (b *budget) stream() int64 {
	const perEntry = 16 << 10
	if b.limits.Size > 1<<62 || b.limits.Entries > 1<<40 {
		return -1
	}
	return b.limits.Size + b.limits.Entries*perEntry
}
