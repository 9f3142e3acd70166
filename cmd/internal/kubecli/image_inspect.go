package kubecli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/form"
	"github.com/podbox/podbox/image"
)

func (a *app) imageInspect() *cobra.Command {
	var out form.Choice
	cmd := &cobra.Command{
		Use:   "inspect [flags] IMAGE...",
		Short: "Show all that is known of images",
		Example: `  podbox image inspect redis:8
  podbox image inspect --format '{{json .Config.Env}}' redis:8`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.images(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := out.Parse()
			if err != nil {
				return err
			}
			store, err := a.store()
			if err != nil {
				return err
			}
			w, first := cmd.OutOrStdout(), true
			var errs []error
			for _, ref := range args {
				img, err := store.Find(ref)
				switch {
				case err != nil:
				case t != nil:
					err = form.Each(w, t, []*image.Image{img})
				default:
					if !first && out.Form == "yaml" {
						fmt.Fprintln(w, "---")
					}
					first = false
					err = form.Encode(w, out.Form, img)
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	out.Flags(cmd, "json", "yaml")
	return cmd
}
