package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/image/ingest"
	"github.com/podbox/podbox/internal/flock"
)

// EnsureOptions are those of Ensure. The zero value is the default of each.
type EnsureOptions struct {
	Options
	// Tell, unless nil, is told of each step.
	Tell func(Step)
	// Progress, unless nil, is told what happens to layers: see ingest.Options.
	Progress func(ingest.Progress)
	// Limits bound what is unpacked, and Parallel how many layers at once.
	Limits   ingest.Limits
	Parallel int
}

// A Step tells what Ensure is about to do, or has found.
type Step struct {
	Kind      StepKind
	Reference string // the image, in full
	From      string // where it is fetched from, if it is
}

// A StepKind is a kind of step.
type StepKind string

// The steps, in the order in which they come, if they do.
const (
	Asking   StepKind = "asking"     // the registry, or its mirrors
	Fetching StepKind = "fetching"   // what is not here
	Current  StepKind = "up to date" // what is here is what the registry has
)

// Ensure returns an image of the store, and brings it there first if the policy wants
// that. ref may also be an ID or a digest of an image that is here. Of several processes
// that want one image, one fetches it. ErrNeverPull, and the errors of Resolve and of
// package ingest.
func Ensure(ctx context.Context, store *image.Store, ref string, policy Policy, opts EnsureOptions) (*image.Image, error) {
	if _, err := image.Hex("sha256:" + strings.TrimPrefix(ref, "sha256:")); err == nil {
		return store.Find(ref)
	}
	name, err := Parse(ref, opts.Options)
	if err != nil {
		return nil, err
	}
	wanted, err := wantedPlatform(opts.Platform)
	if err != nil {
		return nil, err
	}
	here := func() (*image.Image, error) {
		img, err := store.Find(name.String())
		if errors.Is(err, image.ErrNotFound) || err == nil && opts.Platform != "" && !isFor(img.Platform, wanted) {
			return nil, nil
		}
		return img, err
	}
	if policy != Always {
		if img, err := here(); img != nil || err != nil {
			return img, err
		}
	}
	if policy == Never {
		return nil, fmt.Errorf("image %s: %w", name, ErrNeverPull)
	}
	lock, err := lockName(ctx, store, name)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	defer lock.Close()
	img, err := here()
	if err != nil || img != nil && policy != Always {
		return img, err // somebody was quicker
	}
	return fetchImage(ctx, store, name, img, opts)
}

// fetchImage brings an image into the store, unless have is it.
func fetchImage(ctx context.Context, store *image.Store, name Reference, have *image.Image, opts EnsureOptions) (*image.Image, error) {
	if opts.Tell == nil {
		opts.Tell = func(Step) {}
	}
	sources, err := name.sources(opts.system())
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	opts.Tell(Step{Kind: Asking, Reference: name.String()})
	var errs []error
	for _, s := range sources {
		img, err := s.fetch(ctx, store, name, have, opts)
		var broken *brokenError
		if errors.As(err, &broken) && ctx.Err() == nil {
			// Its token may have ended meanwhile. The layers that came are here.
			img, err = s.fetch(ctx, store, name, have, opts)
		}
		if err == nil {
			return img, nil
		}
		errs = append(errs, err)
		if _, ours := err.(*localError); ours || ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("image %s: %w", name, joined(errs))
}

// A localError is one that would be the same with any source.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

func (s *source) fetch(ctx context.Context, store *image.Store, name Reference, have *image.Image, opts EnsureOptions) (*image.Image, error) {
	known := ""
	if have != nil {
		known = have.Digest
	}
	r, err := s.resolve(ctx, name, opts.Options.withDefaults(), known)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if have != nil && r.Digest == known {
		opts.Tell(Step{Current, name.String(), r.From})
		return have, nil
	}
	opts.Tell(Step{Fetching, name.String(), r.From})
	img, err := ingest.Add(ctx, store, r.Image, ingest.Options{
		Names: []string{name.String()}, Progress: opts.Progress, Limits: opts.Limits, Parallel: opts.Parallel,
	})
	switch {
	case err == nil:
		return img, nil
	case !fromAfar(err):
		return nil, &localError{err}
	case s.mirror:
		return nil, fmt.Errorf("mirror %s: %w", s.ref, err)
	}
	return nil, err
}

// fromAfar reports whether what went wrong may be otherwise at another source. A layer
// that is refused may be another than its digest says, which is known at its end.
func fromAfar(err error) bool {
	var (
		broken *brokenError
		answer *transport.Error
		get    *url.Error
	)
	return errors.Is(err, image.ErrCorrupt) || errors.Is(err, ingest.ErrRefused) || errors.As(err, &broken) || errors.As(err, &answer) || errors.As(err, &get)
}

// A nameLock is held by who fetches an image of a name.
type nameLock struct {
	path string
	lock *flock.Lock
}

func lockName(ctx context.Context, store *image.Store, name Reference) (*nameLock, error) {
	dir := filepath.Join(store.Dir(), "pulling")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(name.String()))
	path := filepath.Join(dir, hex.EncodeToString(sum[:16]))
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
		if err != nil {
			return nil, err
		}
		f.Close()
		lock, err := flock.Wait(ctx, path, flock.Exclusive)
		if errors.Is(err, fs.ErrNotExist) {
			continue // who had it has removed it
		}
		if err != nil {
			return nil, err
		}
		sweepLocks(dir)
		return &nameLock{path, lock}, nil
	}
}

// sweepLocks removes those that killed processes have left.
func sweepLocks(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if l, err := flock.Try(path, flock.Exclusive); err == nil {
			_ = os.Remove(path)
			l.Close()
		}
	}
}

// Close removes the lock, too. What a killed process leaves is an empty file, which the
// next one that fetches an image removes.
func (l *nameLock) Close() error {
	return errors.Join(os.Remove(l.path), l.lock.Close())
}
