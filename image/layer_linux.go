package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
)

// ChainIDs returns the IDs of layers with all below them, for the digests of the
// uncompressed layers, the lowest first; see the OCI image specification, "Layer
// ChainID". A layer is kept by that, not by its own digest: of directories that it has
// something in, but does not list, it takes owner and mode from those below.
func ChainIDs(diffIDs []string) []string {
	chain := make([]string, len(diffIDs))
	for i, d := range diffIDs {
		if chain[i] = d; i > 0 {
			sum := sha256.Sum256([]byte(chain[i-1] + " " + d))
			chain[i] = "sha256:" + hex.EncodeToString(sum[:])
		}
	}
	return chain
}

// A Layer is a layer of the store, or one that is to be unpacked into it, which is kept
// from being removed until it is closed.
type Layer struct {
	store *Store
	chain string
	size  int64
	lock  *flock.Lock // of the layer, shared

	// While it is to be unpacked.
	building *flock.Lock
	tmp      *Temporary
}

// layerRecord is what is kept of a layer besides its files.
type layerRecord struct {
	DiffID string `json:"diffID"`
	Size   int64  `json:"size"` // bytes of its files
}

const (
	layerFile     = "layer.json"
	filesDir      = "diff"
	maxLayerFile  = 4 << 10
	overlayOpaque = "trusted.overlay.opaque"
)

// Layer returns the layer with a chain ID if it is there; or one to be unpacked, which
// others then wait for. It waits itself if another one is unpacking it.
func (s *Store) Layer(ctx context.Context, chain string) (*Layer, error) {
	id, err := Hex(chain)
	if err != nil {
		return nil, err
	}
	if err := s.make(); err != nil {
		return nil, err
	}
	l := &Layer{store: s, chain: chain}
	path, building := s.path(layersDir, id), s.path(buildingDir, id)
	for {
		if l.lock, err = flock.Wait(ctx, path, flock.Shared); err == nil {
			var r layerRecord
			if err := readJSON(filepath.Join(path, layerFile), maxLayerFile, &r); err != nil {
				l.lock.Close()
				return nil, fmt.Errorf("layer %s: %w", chain, err)
			}
			l.size = r.Size
			return l, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err := touch(building); err != nil {
			return nil, err
		}
		l.building, err = flock.Wait(ctx, building, flock.Exclusive)
		if errors.Is(err, fs.ErrNotExist) {
			continue // somebody swept it
		}
		if err != nil {
			return nil, err
		}
		if _, err := os.Lstat(path); err == nil {
			l.unlock() // unpacked meanwhile
			continue
		}
		if l.tmp, err = s.Temporary(); err == nil {
			if err = os.Mkdir(l.Dir(), 0o755); err == nil {
				// Whatever the umask says.
				err = os.Chmod(l.Dir(), 0o755)
			}
		}
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		return l, nil
	}
}

// unlock lets others unpack the layer.
func (l *Layer) unlock() {
	if l.building == nil {
		return
	}
	// While it is locked: who waits for it finds out, and makes another.
	_ = os.Remove(l.store.path(buildingDir, l.chain[len("sha256:"):]))
	l.building.Close()
	l.building = nil
}

// Missing reports whether the layer is to be unpacked: into Dir, and then committed.
func (l *Layer) Missing() bool { return l.tmp != nil }

// Chain returns the layer's chain ID.
func (l *Layer) Chain() string { return l.chain }

// Size returns how many bytes the files of a layer have that is not missing.
func (l *Layer) Size() int64 { return l.size }

// Dir returns the directory of the layer's files.
func (l *Layer) Dir() string {
	if l.tmp != nil {
		return filepath.Join(l.tmp.dir, filesDir)
	}
	return l.store.path(layersDir, l.chain[len("sha256:"):], filesDir)
}

// Commit puts a layer that was unpacked, and is size bytes, into the store, when all of
// it is on the disk.
func (l *Layer) Commit(ctx context.Context, diffID string, size int64) error {
	b, err := json.Marshal(layerRecord{diffID, size})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(l.tmp.dir, layerFile), b, 0o600); err != nil {
		return err
	}
	if err := syncFilesystem(l.tmp.dir); err != nil {
		return err
	}
	// Nobody who removes layers comes between.
	lock, err := l.store.lock(ctx, flock.Shared)
	if err != nil {
		return err
	}
	defer lock.Close()
	path := l.store.path(layersDir, l.chain[len("sha256:"):])
	if err := unix.Renameat2(unix.AT_FDCWD, l.tmp.dir, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "rename", Old: l.tmp.dir, New: path, Err: err}
	}
	l.lock, l.size = l.tmp.lock, size
	l.tmp = nil
	l.unlock()
	if err := l.lock.Share(); err != nil {
		return err
	}
	return syncDir(l.store.path(layersDir))
}

// syncFilesystem has all files be on the disk that were written to the filesystem of
// path: of a layer there may be a hundred thousand, to sync each takes longer.
func syncFilesystem(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: path, Err: err}
	}
	return nil
}

// Close lets go of a layer. One that was not committed is removed. It may be called
// again.
func (l *Layer) Close() error {
	var err error
	if l.tmp != nil {
		err = l.tmp.Close()
		l.tmp = nil
	}
	l.unlock()
	return errors.Join(err, l.lock.Close())
}
