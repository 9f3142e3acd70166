package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	copying "github.com/containerd/continuity/fs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/internal/names"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/volumes"
)

// What a container on an image has on the disk, in the pod's state directory:
//
//	containers/ID/upper      what is changed in its root; anew with each start
//	containers/ID/work       what overlayfs needs for that
//	containers/ID/volumes/N  what it has for Spec.ImageVolumes[N]; as long as it is there
//
// The image is in use as long as containers/ID is there: see image.Store.Use.

// Images opens the store of images in the state directory of a runtime.
func Images(rt *sandbox.Runtime) (*image.Store, error) {
	return image.Open(filepath.Join(rt.StateDir(), "images"))
}

// containersState returns where all containers of the pod that are on images have something.
func (p *Pod) containersState() (string, error) {
	state, err := p.StateDir()
	return filepath.Join(state, containersDir), err
}

// onImage has a container be started on its image.
func (c *Container) onImage(ctx context.Context, r *record, spec *specs.Spec, opts *launcher.Options) error {
	if r.Spec.Image == "" {
		return nil
	}
	parent, err := c.pod.containersState()
	if err != nil {
		return err
	}
	root := *spec.Root
	root.Path = filepath.Join(parent, r.ID)
	mounts := r.imageVolumes(root.Path)
	spec.Root, spec.Mounts = &root, append(mounts, spec.Mounts...)
	opts.Root = func(userns *os.File) (*os.File, error) {
		return c.makeRoot(ctx, r, root.Path, mounts, userns)
	}
	return nil
}

// makeRoot makes the root of a container on an image, with what it needs in dir.
func (c *Container) makeRoot(ctx context.Context, r *record, dir string, mounts []specs.Mount, userns *os.File) (*os.File, error) {
	store, err := Images(c.pod.Runtime())
	if err != nil {
		return nil, err
	}
	img, err := store.Image(r.Spec.Image)
	if err != nil {
		return nil, err
	}
	if err := c.freshState(ctx, dir); err != nil {
		return nil, err
	}
	if err := store.Use(ctx, img, r.ID, dir); err != nil {
		return nil, err
	}
	m, err := store.Mount(img, dir, userns)
	if err != nil {
		return nil, err
	}
	for _, v := range mounts {
		if err := fillVolume(ctx, m, v); err != nil {
			m.Close()
			return nil, fmt.Errorf("image volume %s: %w", v.Destination, err)
		}
	}
	return m, nil
}

// freshState makes the directory of a container on an image, or removes from it what an
// earlier start has left.
func (c *Container) freshState(ctx context.Context, dir string) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := c.pod.MakeStateDir(); err != nil {
			return err
		}
		return os.MkdirAll(dir, 0o700)
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	for _, name := range []string{"upper", "work", "empty"} {
		if err := removeTree(ctx, dir, name); err != nil {
			return err
		}
	}
	return nil
}

// removeTree is volumes.Remove, but mostly quicker.
func removeTree(ctx context.Context, parent, name string) error {
	if os.RemoveAll(filepath.Join(parent, name)) == nil {
		return nil
	}
	return volumes.Remove(ctx, parent, name)
}

// imageVolumes returns the mounts of the container's image volumes, but for those in
// whose place something else is mounted.
func (r *record) imageVolumes(dir string) (mounts []specs.Mount) {
	for i, dest := range r.Spec.ImageVolumes {
		if slices.ContainsFunc(r.Spec.OCI.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == path.Clean(dest) }) {
			continue
		}
		mounts = append(mounts, specs.Mount{
			Destination: dest, Type: "bind", Source: filepath.Join(dir, "volumes", strconv.Itoa(i)),
			Options: []string{"rbind", "nosuid", "nodev"},
		})
	}
	return mounts
}

// fillVolume makes the directory of an image volume, unless it is there, with what root,
// the container's, has in its place. It appears whole.
func fillVolume(ctx context.Context, root *os.File, v specs.Mount) error {
	if _, err := os.Lstat(v.Source); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent, name := filepath.Split(v.Source)
	if err := os.Mkdir(parent, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	tmp := v.Source + ".tmp"
	if err := removeTree(ctx, parent, name+".tmp"); err != nil {
		return err
	}
	fd, err := unix.Openat2(int(root.Fd()), v.Destination, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	switch err {
	case nil:
		from := fmt.Sprintf("/proc/self/fd/%d", fd)
		err = copying.CopyDir(tmp, from, copying.WithXAttrErrorHandler(ignoreForeign))
		unix.Close(fd)
	case unix.ENOENT:
		if err = os.Mkdir(tmp, 0o755); err == nil {
			err = likeRoot(tmp, root)
		}
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp, v.Source)
}

// ignoreForeign bears that an extended attribute cannot be copied that is the host's.
func ignoreForeign(_, _, key string, err error) error {
	if key == "security.selinux" || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

// likeRoot gives a new directory to the owner of the container's root, and makes it
// what is usual whatever the umask.
func likeRoot(dir string, root *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if err := os.Chown(dir, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// removeState removes what a container has on the disk besides its log.
func (c *Container) removeState(ctx context.Context, id string) error {
	parent, err := c.pod.containersState()
	if err != nil {
		return err
	}
	return removeTree(ctx, parent, id)
}

// leftover is how old something must be that seems to belong to nobody: who makes a
// container makes it before, and the container's record a moment later.
const leftover = time.Minute

// Sweep removes what crashes have left of containers: those that were to be removed at
// their end, but whose runner was killed before, and what is on the disk of containers
// that are gone. It returns a line for each.
func (p *Pod) Sweep(ctx context.Context) ([]string, error) {
	recs, err := p.records()
	if err != nil {
		return nil, err
	}
	var done []string
	var errs []error
	known := map[string]bool{}
	for _, r := range recs {
		c := &Container{pod: p, name: r.Spec.Name}
		if c.isLeft() {
			done = append(done, fmt.Sprintf("container %s of pod %s", r.ID, p.ID()))
		} else {
			known[r.ID] = true
		}
	}
	parent, err := p.containersState()
	if err != nil {
		return done, err
	}
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return done, nil
	}
	errs = append(errs, err)
	for _, e := range entries {
		st, err := e.Info()
		if err != nil || known[e.Name()] || !names.IsID(e.Name()) || time.Since(st.ModTime()) < leftover {
			continue
		}
		if err := volumes.Remove(ctx, parent, e.Name()); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, fmt.Sprintf("files of container %s of pod %s", e.Name(), p.ID()))
	}
	return done, errors.Join(errs...)
}
