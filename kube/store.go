package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/image/registry"
	"github.com/podbox/podbox/supervisor"
)

// A Store is the images of a store, and of the registries that they are fetched from.
type Store struct {
	Store *image.Store
	// Options say how images are fetched. Credentials of a pod's imagePullSecrets
	// come before theirs.
	Options registry.EnsureOptions
}

// Ensure is that of Images.
func (s Store) Ensure(ctx context.Context, ref string, policy corev1.PullPolicy, secrets [][]byte) (Image, error) {
	opts := s.Options
	opts.Credentials = slices.Clone(opts.Credentials)
	var own []registry.Credentials
	for _, text := range secrets {
		c, err := registry.ParsePullSecret(text)
		if err != nil {
			return nil, err
		}
		own = append(own, c...)
	}
	opts.Credentials = append(own, opts.Credentials...)
	img, err := registry.Ensure(ctx, s.Store, ref, registry.Policy(policy), opts)
	if err != nil {
		return nil, err
	}
	return &stored{s.Store, img}, nil
}

// A stored is an image of a store.
type stored struct {
	store *image.Store
	img   *image.Image
}

func (s *stored) Config() ImageConfig {
	c := &s.img.Config
	return ImageConfig{
		ID: s.img.ID, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.Dir(image.Overrides{}), User: c.User, StopSignal: c.StopSignal,
	}
}

func (s *stored) Settle(to *supervisor.Spec, u User) error {
	to.Image, to.ImageVolumes = s.img.ID, s.img.Config.VolumePaths()
	to.OCI.Root.Path = ""
	root, err := s.store.Mount(s.img, "", nil)
	if err != nil {
		return err
	}
	defer root.Close()
	p := to.OCI.Process
	home, err := image.LookUpUser(root, u.Name, &p.User)
	if err != nil {
		return err
	}
	u.settle(&p.User)
	if !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		p.Env = append(p.Env, "HOME="+home)
	}
	return nil
}

// settle adds to what the image says of a user.
func (u User) settle(to *specs.User) {
	if u.Group != nil {
		to.GID = *u.Group
	}
	if u.Strict {
		to.AdditionalGids = nil
	}
	for _, g := range u.Groups {
		if !slices.Contains(to.AdditionalGids, g) {
			to.AdditionalGids = append(to.AdditionalGids, g)
		}
	}
}

func (s *stored) Use(ctx context.Context, user, owner string) error {
	return s.store.Use(ctx, s.img, user, owner)
}

func (s *stored) Mount(destination string) (specs.Mount, error) {
	dirs := s.store.Dirs(s.img)
	if len(dirs) == 0 {
		return specs.Mount{}, fmt.Errorf("image %.12s: %w: it has no files", strings.TrimPrefix(s.img.ID, "sha256:"), ErrInvalid)
	}
	slices.Reverse(dirs) // the highest comes first
	for i, d := range dirs {
		dirs[i] = strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(d)
	}
	return specs.Mount{
		Destination: destination, Type: "overlay", Source: "podbox-image",
		Options: []string{"ro", "nodev", "lowerdir=" + strings.Join(dirs, ":")},
	}, nil
}
