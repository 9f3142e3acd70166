package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

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
	return &stored{store: s.Store, img: img, accounts: map[string]account{}}, nil
}

// A stored is an image of a store.
type stored struct {
	store *image.Store
	img   *image.Image

	mu       sync.Mutex
	accounts map[string]account // of users that were looked up, by their names
}

// An account is a user of an image.
type account struct {
	specs.User
	home string
}

// account looks up a user, once: the image must be mounted for that, and to let go of a
// mount takes the kernel up to 30 ms.
func (s *stored) account(name string) (account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.accounts[name]; ok {
		return a, nil
	}
	root, err := s.store.Mount(s.img, "", nil)
	if err != nil {
		return account{}, err
	}
	defer root.Close()
	var a account
	if a.home, err = image.LookUpUser(root, name, &a.User); err != nil {
		return account{}, err
	}
	s.accounts[name] = a
	return a, nil
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
	p := to.OCI.Process
	a, err := s.account(u.Name)
	if err != nil {
		return err
	}
	p.User = a.User
	p.User.AdditionalGids = slices.Clone(a.AdditionalGids)
	u.settle(&p.User)
	if !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		p.Env = append(p.Env, "HOME="+a.home)
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
