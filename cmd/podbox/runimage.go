package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/cmd/internal/twin"
	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// Values of --pull.
const (
	pullMissing = "missing"
	pullAlways  = "always"
	pullNever   = "never"
)

// onImage is what a program on an image is.
func (f *runFlags) onImage(ctx context.Context, a *app, args []string, s *supervisor.Spec) (*specs.Spec, error) {
	over := image.Overrides{Dir: f.workdir, User: f.user}
	if len(args) > 0 {
		over.Args = args
	}
	var err error
	if over.Entrypoint, err = parseEntrypoint(f.entrypoint); err != nil {
		return nil, err
	}
	store, err := image.Open(a.Images())
	if err != nil {
		return nil, err
	}
	img, err := f.findImage(ctx, a, store)
	if err != nil {
		return nil, err
	}
	o := launcher.Default("")
	o.Root.Readonly = f.readOnly
	p, err := store.Process(img, over)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", f.image, err)
	}
	o.Process.Args, o.Process.Cwd, o.Process.User = p.Args, p.Cwd, p.User
	if err := f.settleImage(img, s); err != nil {
		return nil, fmt.Errorf("image %q: %w", f.image, err)
	}
	return o, f.isolate(o, s, newEnv(p.Env))
}

// settleImage sets what an image says of its containers besides how they are run.
func (f *runFlags) settleImage(img *image.Image, s *supervisor.Spec) error {
	s.Image, s.ImageVolumes = img.ID, img.Config.VolumePaths()
	s.About = supervisor.About{Image: f.image, ImageID: img.ID}
	labels := maps.Clone(img.Config.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	maps.Copy(labels, s.Labels)
	s.Labels = labels
	if s.StopSignal == 0 {
		var err error
		if s.StopSignal, err = img.Config.Signal(); err != nil {
			return err
		}
	}
	return nil
}

// parseEntrypoint reads a word, or words as JSON. Nil: nothing was given.
func parseEntrypoint(s *string) ([]string, error) {
	switch {
	case s == nil:
		return nil, nil
	case *s == "":
		return []string{}, nil
	case !strings.HasPrefix(*s, "["):
		return []string{*s}, nil
	}
	words := []string{}
	if err := json.Unmarshal([]byte(*s), &words); err != nil {
		return nil, fmt.Errorf(`--entrypoint %q: %w: want a word, or words as ["a","b"]`, *s, sandbox.ErrInvalid)
	}
	return words, nil
}

// findImage returns the image to run, which is fetched first if need be.
func (f *runFlags) findImage(ctx context.Context, a *app, store *image.Store) (*image.Image, error) {
	switch f.pull {
	case pullMissing, pullNever:
		img, err := store.Find(f.image)
		if err == nil || f.pull == pullNever || !errors.Is(err, image.ErrNotFound) {
			return img, err
		}
	case pullAlways:
	default:
		return nil, fmt.Errorf("--pull %q: %w: want missing, always or never", f.pull, sandbox.ErrInvalid)
	}
	id, err := a.pullImage(ctx, f.image, f.pull)
	if err != nil {
		return nil, err
	}
	return store.Find(id)
}

// pullImage has podbox-kube fetch an image: what that takes is not in podbox. It returns
// the ID: the image may be called otherwise, if the name was an alias.
func (a *app) pullImage(ctx context.Context, ref, policy string) (id string, err error) {
	path, err := twin.Path(twin.Kube)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, "--root", a.Root, "--state-dir", a.StateDir, "--log-level", a.LogLevel, "image", "pull", "--policy", policy, "--", ref)
	cmd.Env, cmd.Stderr = twin.Environ(), os.Stderr
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) && failed.Exited() {
		return "", exit.Status(exit.Failed) // it has said why
	}
	return strings.TrimSpace(string(out)), err
}
