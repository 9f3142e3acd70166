package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/steps"
	"github.com/podbox/podbox/volumes"
)

// Volumes on the disk are in the pod's state directory, made when the pod is
// created and removed with it, but for claims (claims_linux.go). Volumes in memory are mounted in the pause's mount
// namespace, as /dev/shm is, when they are first needed. Both outlive containers.

// stateOf is where a pod has what is not to be on a tmpfs: volumes and logs.
func stateOf(rec *record) string { return filepath.Join(rec.StateDir, "pods", rec.ID) }

func volumesOf(rec *record) string { return filepath.Join(stateOf(rec), "volumes") }

// StateDir returns the directory of the pod for what is kept on a disk. It is made when
// it is first needed, by MakeStateDir.
func (s *Sandbox) StateDir() (string, error) {
	rec, err := s.record()
	if err != nil {
		return "", err
	}
	return stateOf(rec), nil
}

// MakeStateDir is StateDir, and makes it.
func (s *Sandbox) MakeStateDir() (string, error) {
	rec, err := s.record()
	if err != nil {
		return "", err
	}
	return stateOf(rec), s.wrap("state of", s.rt.makeState(rec))
}

// ownerFile is a symbolic link in a pod's state directory to the root directory of
// the runtime that it belongs to: several may share one disk.
const ownerFile = "root"

func (rt *Runtime) makeState(rec *record) error {
	if rec.StateDir == "" {
		return fmt.Errorf("state directory: %w: none is set", ErrInvalid)
	}
	dir := stateOf(rec)
	if exists(filepath.Join(dir, ownerFile)) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := checkRoot(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	err := os.Symlink(rt.root, filepath.Join(dir, ownerFile))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// removeState removes all that a pod has on the disk.
func (rt *Runtime) removeState(ctx context.Context, rec *record) error {
	if rec.StateDir == "" {
		return nil
	}
	dir := stateOf(rec)
	if !exists(dir) {
		return nil
	}
	// As long as that is not undone it is not forgotten.
	if err := rt.detach(ctx, rec, nil, true); err != nil {
		return err
	}
	// What strangers filled comes first, and the owner last: until then it can
	// be found whose it is.
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != ownerFile {
			if err := volumes.Remove(ctx, dir, e.Name()); err != nil {
				return err
			}
		}
	}
	return volumes.Remove(ctx, filepath.Dir(dir), rec.ID)
}

// stateOwned returns the IDs of pods of this runtime that have a state directory, whether or
// not there is anything else of them.
func (rt *Runtime) stateOwned() ([]string, error) {
	pods := filepath.Join(rt.stateDir, "pods")
	entries, err := os.ReadDir(pods)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if !names.IsID(e.Name()) {
			continue
		}
		if owner, err := os.Readlink(filepath.Join(pods, e.Name(), ownerFile)); err == nil && owner == rt.root {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// sweepState removes the state directories of pods of this runtime that are gone.
func (rt *Runtime) sweepState(ctx context.Context) ([]string, error) {
	ids, err := rt.stateOwned()
	if err != nil {
		return nil, err
	}
	var done []string
	var errs []error
	for _, id := range ids {
		if rt.recorded(id) {
			continue
		}
		if err := rt.removeState(ctx, &record{ID: id, StateDir: rt.stateDir}); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, "volumes, logs and networks of pod "+id)
	}
	return done, errors.Join(errs...)
}

// volumeStep makes the volumes that are on the disk.
func (b *build) volumeStep() steps.Step {
	return steps.Step{
		Name: "volumes",
		Text: "make the volumes that are on the disk, and check those that are the host's",
		Back: "remove them",
		Do:   func(ctx context.Context) error { return b.rt.makeVolumes(ctx, b.rec) },
		Undo: b.noted(func(ctx context.Context) error {
			if b.rec.State != Created || b.failure != nil {
				return nil // they were there before, or the pod is to stay as it is
			}
			return b.rt.removeState(ctx, b.rec)
		}),
	}
}

func (rt *Runtime) makeVolumes(ctx context.Context, rec *record) error {
	for _, v := range rec.Spec.Volumes {
		var f *os.File
		var err error
		switch {
		case v.InMemory():
			continue
		case v.HostPath != nil:
			f, err = v.HostPath.Open()
		case v.Claim != nil:
			f, err = makeClaim(ctx, rec, v)
			if err == nil {
				err = v.ApplyFSGroup(ctx, f)
			}
		default:
			f, err = rt.makeVolume(rec, v)
		}
		if f != nil {
			f.Close()
		}
		if err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	return nil
}

func (rt *Runtime) makeVolume(rec *record, v volumes.Volume) (*os.File, error) {
	if err := rt.makeState(rec); err != nil {
		return nil, err
	}
	if err := os.Mkdir(volumesOf(rec), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	f, err := v.Make(volumesOf(rec))
	if err != nil || v.Files == nil {
		return f, err
	}
	if err := writeVolume(f, v); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// writeVolume brings the files of a volume up to date.
func writeVolume(root *os.File, v volumes.Volume) error {
	_, err := v.Write(root)
	return err
}

// Volume returns one of the pod's volumes as a detached mount; of it only what is at
// subPath, unless that is empty. A directory that is not there yet is made.
// ErrNoVolume if the pod has none of this name. The calling thread is in the
// host's mount namespace.
func (e *Entry) Volume(ctx context.Context, name, unsafeSubPath string) (*os.File, error) {
	i := slices.IndexFunc(e.rec.Spec.Volumes, func(v volumes.Volume) bool { return v.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("volume %q: %w", name, ErrNoVolume)
	}
	v := e.rec.Spec.Volumes[i]
	m, err := e.volume(ctx, v, unsafeSubPath)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	return m, nil
}

func (e *Entry) volume(ctx context.Context, v volumes.Volume, unsafeSubPath string) (*os.File, error) {
	switch {
	case v.InMemory():
		return e.memoryVolume(ctx, v, unsafeSubPath)
	case v.HostPath != nil:
		root, err := v.HostPath.Open()
		if err != nil {
			return nil, err
		}
		return cloneBeneath(root, unsafeSubPath)
	}
	var root *os.File
	var err error
	if v.Claim != nil {
		root, err = makeClaim(ctx, e.rec, v)
	} else {
		root, err = v.Make(volumesOf(e.rec))
	}
	if err != nil {
		return nil, err
	}
	return cloneBeneath(root, unsafeSubPath)
}

// cloneBeneath returns what is at a path in a volume as a detached mount, and closes
// root.
func cloneBeneath(root *os.File, unsafeSubPath string) (*os.File, error) {
	defer root.Close()
	if unsafeSubPath == "" {
		return mnt.CloneFile(root, true)
	}
	sub, err := volumes.OpenBeneath(root, unsafeSubPath, true)
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	return mnt.CloneFile(sub, true)
}

// memoryVolume is volume from a thread in the pause's mount namespace.
func (e *Entry) memoryVolume(ctx context.Context, v volumes.Volume, unsafeSubPath string) (m *os.File, err error) {
	err = nsthread.Do(func() error {
		if err := enterMounts(e.Pause); err != nil {
			return err
		}
		if err := e.ensureVolume(ctx, v); err != nil {
			return err
		}
		root, err := os.OpenFile(volumePoint(v.Name), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		m, err = cloneBeneath(root, unsafeSubPath)
		return err
	})
	return m, err
}

// volumePoint is where a pause has a volume mounted.
func volumePoint(name string) string { return pauseVolumes + "/" + name }

// ensureVolume mounts a volume in the pause's mount namespace, where the calling
// thread is, if it is the first that needs it.
func (e *Entry) ensureVolume(ctx context.Context, v volumes.Volume) error {
	volume := loan{at: volumePoint(v.Name), place: makePlace, make: func(rec *record) (*os.File, error) {
		m, err := v.NewTmpfs(volumeSource(rec, v.Name))
		if err != nil || v.Files == nil {
			return m, err
		}
		if err := writeVolume(m, v); err != nil {
			m.Close()
			return nil, err
		}
		return m, nil
	}}
	return volume.ensure(ctx, e.rec, e.dir)
}

// makePlace makes the directory that a volume is mounted on, in a filesystem that is
// there for nothing else. The calling thread is in the pause's mount namespace.
func makePlace(at string) error {
	if there, err := mnt.IsRoot(pauseVolumes); err != nil {
		return err
	} else if !there {
		places, err := mnt.New("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC,
			mnt.Option{Key: "source", Value: "volumes"}, mnt.Option{Key: "mode", Value: "0700"}, mnt.Option{Key: "size", Value: "64k"})
		if err != nil {
			return err
		}
		defer places.Close()
		if err := mnt.Attach(places, pauseVolumes); err != nil {
			return err
		}
	}
	if err := os.Mkdir(at, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// volumeSource is what mount tables show as the source of a volume in memory. By it
// the filesystem is found again when the pause has died.
func volumeSource(rec *record, name string) string { return shmSource(rec) + "-" + name }
