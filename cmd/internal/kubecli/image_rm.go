package kubecli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/podbox/podbox/image"
)

func (a *app) imageRm() *cobra.Command {
	var all, force, ignore bool
	cmd := &cobra.Command{
		Use:     "rm [flags] IMAGE...",
		Aliases: []string{"remove"},
		Short:   "Remove images",
		Long: `Remove images, or the name that is given if an image has others. An image that a
container has is not removed.`,
		Example: `  podbox image rm redis:8
  podbox image rm --all`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.images(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return fmt.Errorf("image rm: %w: want images, or --all", image.ErrInvalid)
			}
			store, err := a.store()
			if err != nil {
				return err
			}
			if all {
				list, err := store.List()
				if err != nil {
					return err
				}
				force = true
				for _, img := range list {
					args = append(args, img.ID)
				}
			}
			var errs []error
			for _, ref := range args {
				done, err := store.Remove(cmd.Context(), ref, image.RemoveOptions{Force: force})
				printRemoved(cmd.OutOrStdout(), done)
				if !errors.Is(err, image.ErrNotFound) || !ignore && !all {
					errs = append(errs, err)
				}
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "remove all images that no container has")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "remove an image with all its names")
	cmd.Flags().BoolVarP(&ignore, "ignore", "i", false, "an image that is not there is no error")
	return cmd
}

func printRemoved(w io.Writer, done image.Removed) {
	for _, name := range done.Untagged {
		fmt.Fprintf(w, "Untagged: %s\n", name)
	}
	for _, id := range done.Images {
		fmt.Fprintf(w, "Deleted: %s\n", strings.TrimPrefix(id, "sha256:"))
	}
}

func (a *app) imagePrune() *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove images that have no name, and what killed commands have left",
		Long: `Remove images that have no name and that no container has, layers that no image has,
and what killed commands have left. On a terminal it asks first, unless --force is given.`,
		Example: `  podbox image prune
  podbox image prune --all --force`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := a.store()
			if err != nil {
				return err
			}
			what := "all images without a name"
			if all {
				what = "all images that no container has"
			}
			if !force && !confirmed(cmd, what) {
				return nil
			}
			done, err := store.Prune(cmd.Context(), all)
			printRemoved(cmd.OutOrStdout(), done)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Total reclaimed space: %s\n", units.HumanSizeWithPrecision(float64(done.Size), 3))
			return nil
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "remove images with names too, if no container has them")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	return cmd
}

// confirmed asks whoever sits there.
func confirmed(cmd *cobra.Command, what string) bool {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return true
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "WARNING! This removes %s.\nAre you sure you want to continue? [y/N] ", what)
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}
