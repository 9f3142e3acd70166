package image

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
)

// A Store is where images are kept: a name for a directory, which owns nothing and
// needs no closing.
type Store struct{ dir string }

// Open returns the store in dir, which is made when something is added to it.
// ErrInvalid if it is none that root alone may write to.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	switch err := unix.Stat(dir, &st); {
	case err == unix.ENOENT:
	case err != nil:
		return nil, &os.PathError{Op: "stat", Path: dir, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o022 != 0 || st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("image store %s: %w: want a directory that nobody else may write to", dir, ErrInvalid)
	}
	return &Store{dir}, nil
}

// Dir returns the store's directory.
func (s *Store) Dir() string { return s.dir }

// What is in a store.
const (
	lockFile     = "lock"
	namesFile    = "names.json"
	imagesDir    = "images"
	layersDir    = "layers"
	usesDir      = "uses"
	buildingDir  = "building"
	temporaryDir = "temporary"
)

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// make makes the store if it is not there.
func (s *Store) make() error {
	if _, err := os.Lstat(s.path(lockFile)); err == nil {
		return nil
	}
	for _, dir := range []string{"", imagesDir, layersDir, usesDir, buildingDir, temporaryDir} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return err
		}
	}
	return touch(s.path(lockFile)) // last: it says that the rest is there
}

func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// lockTime bounds the wait for others who change the store, none of whom takes long.
const lockTime = time.Minute

// lock locks the store. fs.ErrNotExist if there is none.
func (s *Store) lock(ctx context.Context, how int) (*flock.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	return flock.Wait(ctx, s.path(lockFile), how)
}

// A Temporary is a directory for what is on its way in. It is removed when it is
// closed, or after its process has ended.
type Temporary struct {
	dir  string
	lock *flock.Lock
}

// Temporary makes one, on the filesystem of the store.
func (s *Store) Temporary() (*Temporary, error) {
	if err := s.make(); err != nil {
		return nil, err
	}
	for {
		dir := s.path(temporaryDir, rand.Text())
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		lock, err := flock.Try(dir, flock.Exclusive)
		switch {
		case err == nil:
			return &Temporary{dir, lock}, nil
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK):
			// Somebody sweeps, and took it for left behind.
		default:
			os.Remove(dir)
			return nil, err
		}
	}
}

// Dir returns its path.
func (t *Temporary) Dir() string { return t.dir }

// Close removes it with all that is in it.
func (t *Temporary) Close() error {
	if t.lock == nil {
		return nil
	}
	err := os.RemoveAll(t.dir)
	lerr := t.lock.Close()
	t.lock = nil
	return errors.Join(err, lerr)
}

// Sweep removes what killed processes have left on its way in or out, and returns how
// many such things there were.
func (s *Store) Sweep() (int, error) {
	n := 0
	var errs []error
	for _, path := range append(s.list(temporaryDir), s.list(buildingDir)...) {
		lock, err := flock.Try(path, flock.Exclusive)
		if err != nil {
			continue // in use, or gone
		}
		err = os.RemoveAll(path)
		lock.Close()
		if err == nil && filepath.Dir(path) == s.path(temporaryDir) {
			n++
		}
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}

// list returns the paths of what is in one of the store's directories.
func (s *Store) list(dir string) []string {
	entries, _ := os.ReadDir(s.path(dir))
	var paths []string
	for _, e := range entries {
		paths = append(paths, s.path(dir, e.Name()))
	}
	return paths
}

// discard takes what is at path out of sight, whole, and then removes it. The second
// half is not for those who hold the lock of the store: call the function returned.
func (s *Store) discard(path string) (remove func() error, err error) {
	to := s.path(temporaryDir, rand.Text())
	if err := os.Rename(path, to); err != nil {
		return nil, err
	}
	return func() error { return os.RemoveAll(to) }, nil
}

// writeFile makes a file that is on the disk when writeFile returns.
func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir has the names in a directory be on the disk.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// readJSON reads a file of the store, of at most limit bytes. ErrCorrupt.
func readJSON(path string, limit int64, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return err
	}
	if int64(len(b)) > limit {
		return fmt.Errorf("%s: %w: larger than %d bytes", path, ErrCorrupt, limit)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrCorrupt, err)
	}
	return nil
}
