package kubecli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/platforms"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/image/ingest"
)

// platformFlag reads --platform.
func platformFlag(s string) (image.Platform, error) {
	if s == "" {
		return image.Platform{}, nil
	}
	p, err := platforms.Parse(s)
	if err != nil || !strings.Contains(s, "/") {
		return image.Platform{}, fmt.Errorf("platform %q: %w: want OS/ARCHITECTURE[/VARIANT]", s, image.ErrInvalid)
	}
	return image.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}, nil
}

// stdin is standard input, unless somebody sits there who is to type an archive.
func stdin() (*os.File, error) {
	if term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, fmt.Errorf("standard input: %w: want an archive, not a terminal", image.ErrInvalid)
	}
	return os.Stdin, nil
}

func (a *app) imageLoad() *cobra.Command {
	var (
		input, platform string
		quiet           bool
	)
	cmd := &cobra.Command{
		Use:   "load [flags]",
		Short: "Load images from an archive or a directory",
		Long: `Load images from an archive of docker save or podman save, or an OCI image layout, as
an archive or a directory. Archives may be compressed, and come from standard input.`,
		Example: `  podbox image load -i images.tar
  docker save redis:8 | sudo podbox image load`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := platformFlag(platform)
			if err != nil {
				return err
			}
			store, err := a.store()
			if err != nil {
				return err
			}
			shown := newProgress(cmd.Context(), os.Stderr, quiet)
			imgs, err := load(cmd.Context(), store, input, ingest.Options{Platform: p, Progress: shown.layer})
			shown.close()
			if err != nil {
				return err
			}
			for _, img := range imgs {
				if len(img.Names) == 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "Loaded image: %s\n", img.ID)
				}
				for _, name := range img.Names {
					fmt.Fprintf(cmd.OutOrStdout(), "Loaded image: %s\n", name)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "-", "`file` or directory to load; - is standard input")
	cmd.Flags().StringVar(&platform, "platform", "", "load images for `OS/ARCHITECTURE[/VARIANT]`, not for this host")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "do not show how far it is")
	return cmd
}

func load(ctx context.Context, store *image.Store, input string, opts ingest.Options) ([]*image.Image, error) {
	if input == "-" {
		f, err := stdin()
		if err != nil {
			return nil, err
		}
		return ingest.Load(ctx, store, f, opts)
	}
	f, err := os.Open(input)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.IsDir() {
		return ingest.LoadDir(ctx, store, input, opts)
	}
	imgs, err := ingest.Load(ctx, store, f, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", input, err)
	}
	return imgs, nil
}
