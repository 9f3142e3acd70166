package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/replace"
	"github.com/podbox/podbox/sandbox"
)

// A state is the ConfigMaps and Secrets that were applied, below the runtime's root
// directory, hence on a tmpfs:
//
//	kube/configmaps/NAMESPACE/NAME
//	kube/secrets/NAMESPACE/NAME
//	kube/locks/NAME                 whoever makes or changes an object holds it
//
// Files appear whole, by a rename. All of it is root's alone.
type state struct{ root, dir string }

func openState(rt *sandbox.Runtime) state {
	return state{rt.Root(), filepath.Join(rt.Root(), "kube")}
}

// onDisk reports whether secrets would be on a disk.
func (s state) onDisk() bool {
	var st unix.Statfs_t
	for dir := s.root; ; dir = filepath.Dir(dir) {
		err := unix.Statfs(dir, &st)
		if err == nil {
			return st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC
		}
		if !errors.Is(err, unix.ENOENT) || dir == "/" {
			return false
		}
	}
}

func makeDirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// A held is a lock of a state, which whoever has it removes.
type held struct {
	*flock.Lock
	s    state
	path string
}

// Close gives the lock back, and removes what nobody needs any more.
func (h *held) Close() error {
	err := os.Remove(h.path)
	removeEmpty(filepath.Dir(h.path), h.s.dir)
	return errors.Join(err, h.Lock.Close())
}

// removeEmpty removes those directories in which nothing is.
func removeEmpty(dirs ...string) {
	for _, dir := range dirs {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

// lock waits for the lock of a name: "pod.NAME", or "objects".
func (s state) lock(ctx context.Context, name string) (*held, error) {
	if err := os.MkdirAll(filepath.Dir(s.root), 0o755); err != nil {
		return nil, err
	}
	locks := filepath.Join(s.dir, "locks")
	path := filepath.Join(locks, name)
	for {
		lock, err := s.tryLock(ctx, locks, path)
		if err == nil {
			return &held{lock, s, path}, nil
		}
		// Whoever had it has removed it, or the directory.
		if !errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
	}
}

func (s state) tryLock(ctx context.Context, locks, path string) (*flock.Lock, error) {
	if err := makeDirs(s.root, s.dir, locks); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()
	return flock.Wait(ctx, path, flock.Exclusive)
}

// kindDirs are the directories of the kinds.
const (
	configMapDir = "configmaps"
	secretDir    = "secrets"
)

// write writes an object. The caller has the lock "objects".
func (s state) write(kind, namespace, name string, obj any) error {
	b, err := json.Marshal(obj)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, kind, namespace)
	if err := makeDirs(filepath.Dir(dir), dir); err != nil {
		return err
	}
	return replace.File(s.dir, filepath.Join(dir, name), b)
}

// remove reports whether there was such an object. The caller has the lock "objects".
func (s state) remove(kind, namespace, name string) (bool, error) {
	dir := filepath.Join(s.dir, kind, namespace)
	err := os.Remove(filepath.Join(dir, name))
	// Also those that somebody made who was killed before there was something in them.
	removeEmpty(dir, filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// sweep removes what was left by those who were killed as they wrote. The caller has the
// lock "objects".
func (s state) sweep() {
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), replace.Prefix) {
			os.Remove(filepath.Join(s.dir, e.Name()))
		}
	}
}

// objects are ConfigMaps and Secrets by namespace/name.
type objects struct {
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
}

func key(namespace, name string) string { return namespace + "/" + name }

// load reads all objects.
func (s state) load() (*objects, error) {
	o := &objects{map[string]*corev1.ConfigMap{}, map[string]*corev1.Secret{}}
	err := s.each(configMapDir, func(b []byte) error {
		c := new(corev1.ConfigMap)
		err := json.Unmarshal(b, c)
		o.configMaps[key(c.Namespace, c.Name)] = c
		return err
	})
	if err != nil {
		return nil, err
	}
	return o, s.each(secretDir, func(b []byte) error {
		c := new(corev1.Secret)
		if json.Unmarshal(b, c) != nil {
			return errors.New("not a Secret") // what is there is not told
		}
		o.secrets[key(c.Namespace, c.Name)] = c
		return nil
	})
}

func (s state) each(kind string, f func([]byte) error) error {
	names, err := filepath.Glob(filepath.Join(globQuote(s.dir), kind, "*", "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed meanwhile
		}
		if err == nil {
			err = f(b)
		}
		if err != nil {
			return fmt.Errorf("%s: %w: %w", name, sandbox.ErrBadRecord, err)
		}
	}
	return nil
}

// globQuote quotes what a pattern would take for its own.
func globQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// with returns objects as they will be when others are applied.
func (o *objects) with(m *Manifests) *objects {
	all := &objects{map[string]*corev1.ConfigMap{}, map[string]*corev1.Secret{}}
	for k, v := range o.configMaps {
		all.configMaps[k] = v
	}
	for k, v := range o.secrets {
		all.secrets[k] = v
	}
	for _, c := range m.ConfigMaps {
		all.configMaps[key(c.Namespace, c.Name)] = c
	}
	for _, c := range m.Secrets {
		all.secrets[key(c.Namespace, c.Name)] = c
	}
	return all
}
