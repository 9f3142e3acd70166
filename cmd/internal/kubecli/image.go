package kubecli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/cmd/internal/misuse"
	"github.com/podbox/podbox/image"
)

func (a *app) image() *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "image",
		DisableFlagsInUseLine: true,
		Long: `Pull, load, list and remove images. They are kept below --state-dir, unpacked: layers
that several images have are there once.

An image is named as Docker and Kubernetes do: nginx is docker.io/library/nginx:latest.
Its ID, or the beginning of that, names it too.`,
		Example: `  podbox image pull docker.io/library/redis:8
  podbox image load -i images.tar
  podbox image ls`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misuse.Unknown(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(
		a.imagePull(), a.imageLoad(), a.imageImport(), a.imageLs(), a.imageInspect(), a.imageExists(),
		a.imageTag(), a.imageUntag(), a.imageRm(), a.imagePrune(),
	)
	return cmd
}

// store opens the store of images that the global flags name.
func (a *app) store() (*image.Store, error) { return image.Open(a.Images()) }

// images completes names of images; at most n of them, any number if n is 0.
func (a *app) images(n int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		store, err := a.store()
		if err != nil || n > 0 && len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, _ := store.List()
		var names []cobra.Completion
		for _, img := range list {
			for _, name := range img.Names {
				if n, err := image.ParseName(name); err == nil {
					names = append(names, cobra.CompletionWithDesc(n.Familiar(), shortID(img)))
				}
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// shortID is as much of an ID as people want to see.
func shortID(img *image.Image) string { return strings.TrimPrefix(img.ID, "sha256:")[:12] }

func (a *app) imageExists() *cobra.Command {
	return &cobra.Command{
		Use:               "exists IMAGE",
		Short:             "Tell by the exit status whether an image is here: 0 or 1",
		Example:           `  podbox image exists redis:8 || podbox image pull redis:8`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.images(1),
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := a.store()
			if err != nil {
				return err
			}
			if _, err = store.Find(args[0]); errors.Is(err, image.ErrNotFound) {
				return exit.Status(1)
			}
			return err
		},
	}
}

func (a *app) imageTag() *cobra.Command {
	return &cobra.Command{
		Use:               "tag IMAGE NAME...",
		Short:             "Give an image more names",
		Example:           `  podbox image tag redis:8 registry.example/cache:v1`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.images(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachName(cmd.Context(), args[1:], func(ctx context.Context, store *image.Store, name string) error {
				return store.Tag(ctx, args[0], name)
			})
		},
	}
}

func (a *app) imageUntag() *cobra.Command {
	return &cobra.Command{
		Use:   "untag NAME...",
		Short: "Take names from images, which stay",
		Long: `Take names from images. The images stay, even without a name; podbox image prune
removes those.`,
		Example:           `  podbox image untag registry.example/cache:v1`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.images(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachName(cmd.Context(), args, func(ctx context.Context, store *image.Store, name string) error {
				return store.Untag(ctx, name)
			})
		},
	}
}

// eachName calls f for all names, even if it fails for some.
func (a *app) eachName(ctx context.Context, names []string, f func(context.Context, *image.Store, string) error) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, f(ctx, store, name))
	}
	return errors.Join(errs...)
}
