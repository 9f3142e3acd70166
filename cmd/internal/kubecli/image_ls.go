package kubecli

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/form"
	"github.com/podbox/podbox/image"
)

// An imageRow is an image under one of its names, as templates know it.
type imageRow struct {
	*image.Image
	Repository string
	Tag        string
}

// none stands in a table for a name that is not there, as podman writes it.
const none = "<none>"

func rowsOf(list []*image.Image) []imageRow {
	var rows []imageRow
	for _, img := range list {
		if len(img.Names) == 0 {
			rows = append(rows, imageRow{img, none, none})
		}
		for _, name := range img.Names {
			row := imageRow{img, name, none}
			if n, err := image.ParseName(name); err == nil {
				row.Repository = n.Repository()
				if n.Tag != "" {
					row.Tag = n.Tag
				}
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func (a *app) imageLs() *cobra.Command {
	var (
		out     form.Choice
		quiet   bool
		full    bool
		filters []string
	)
	cmd := &cobra.Command{
		Use:     "ls [flags] [NAME]",
		Aliases: []string{"list"},
		Short:   "List images",
		Long: `List images, the last one that came in first; with NAME those of that repository, or of
that name. Of several filters each must match. SIZE is that of an image's files, of which
others may have some.`,
		Example: `  podbox image ls
  podbox image ls --filter 'reference=*/library/*' -q
  podbox image ls --format '{{.Repository}}:{{.Tag}} {{.Size}}'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.images(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				filters = append(filters, "name="+args[0])
			}
			keep, err := imageFilters(filters)
			if err != nil {
				return err
			}
			t, err := out.Parse()
			if err != nil {
				return err
			}
			store, err := a.store()
			if err != nil {
				return err
			}
			list, lerr := store.List()
			var rows []imageRow
			for _, r := range rowsOf(list) {
				if keep(r) {
					rows = append(rows, r)
				}
			}
			w := cmd.OutOrStdout()
			switch {
			case quiet:
				for _, img := range imagesOf(rows) {
					fmt.Fprintln(w, idOf(img, full))
				}
			case t != nil:
				err = form.Each(w, t, rows)
			default:
				err = printImages(w, out.Form, full, rows)
			}
			return errors.Join(err, lerr)
		},
	}
	out.Flags(cmd, "table", "wide", "json", "yaml", "name")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	cmd.Flags().BoolVar(&full, "no-trunc", false, "print IDs in full")
	cmd.Flags().StringArrayVarP(&filters, "filter", "f", nil, "show images with `what`: reference=PATTERN, label=KEY[=VALUE] or dangling=true|false")
	return cmd
}

func idOf(img *image.Image, full bool) string {
	if full {
		return img.ID
	}
	return shortID(img)
}

// imagesOf returns the images of rows, each once.
func imagesOf(rows []imageRow) []*image.Image {
	list := []*image.Image{}
	seen := map[string]bool{}
	for _, r := range rows {
		if !seen[r.ID] {
			seen[r.ID] = true
			list = append(list, r.Image)
		}
	}
	return list
}

func printImages(w io.Writer, how string, full bool, rows []imageRow) error {
	switch how {
	case "json", "yaml":
		return form.Encode(w, how, imagesOf(rows))
	case "name":
		for _, r := range rows {
			switch {
			case r.Repository == none:
				fmt.Fprintln(w, r.ID)
			case r.Tag == none:
				fmt.Fprintln(w, r.Repository)
			default:
				fmt.Fprintln(w, r.Repository+":"+r.Tag)
			}
		}
		return nil
	}
	titles := []string{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"}
	if how == "wide" {
		titles = append(titles, "PLATFORM", "LAYERS", "ADDED", "DIGEST")
	}
	var table [][]string
	for _, r := range rows {
		row := []string{r.Repository, r.Tag, idOf(r.Image, full), since(r.Created), units.HumanSizeWithPrecision(float64(r.Size), 3)}
		if how == "wide" {
			row = append(row, r.Platform.String(), strconv.Itoa(len(r.Layers)), since(r.Added), form.Dash(r.Digest))
		}
		table = append(table, row)
	}
	return form.Table(w, titles, table)
}

func since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return units.HumanDuration(time.Since(t)) + " ago"
}

// imageFilters returns whether a row passes all filters.
func imageFilters(filters []string) (func(imageRow) bool, error) {
	var all []func(imageRow) bool
	for _, f := range filters {
		kind, want, _ := strings.Cut(f, "=")
		var match func(imageRow) bool
		switch {
		case want == "":
		case kind == "name":
			match = named(want)
		case kind == "reference":
			if _, err := path.Match(want, ""); err == nil {
				match = func(r imageRow) bool { return matches(want, r.Repository) || matches(want, r.Repository+":"+r.Tag) }
			}
		case kind == "dangling":
			if yes, err := strconv.ParseBool(want); err == nil {
				match = func(r imageRow) bool { return (r.Repository == none) == yes }
			}
		case kind == "label":
			k, v, valued := strings.Cut(want, "=")
			match = func(r imageRow) bool {
				has, ok := r.Config.Labels[k]
				return ok && (!valued || has == v)
			}
		}
		if match == nil {
			return nil, fmt.Errorf("filter %q: %w: want reference=PATTERN, label=KEY[=VALUE] or dangling=true|false", f, image.ErrInvalid)
		}
		all = append(all, match)
	}
	return func(r imageRow) bool {
		for _, match := range all {
			if !match(r) {
				return false
			}
		}
		return true
	}, nil
}

// named returns whether a row is of a repository, or of a name, as people write it.
func named(s string) func(imageRow) bool {
	n, err := image.ParseName(s)
	tagged := strings.Contains(s[strings.LastIndex(s, "/")+1:], ":")
	return func(r imageRow) bool {
		return err == nil && r.Repository == n.Repository() && (!tagged || r.Tag == n.Tag)
	}
}

// matches matches a pattern with a name in full, or in the short form of docker.io's.
func matches(pattern, name string) bool {
	for _, s := range []string{name, strings.TrimPrefix(name, "docker.io/"), strings.TrimPrefix(name, "docker.io/library/")} {
		if ok, err := path.Match(pattern, s); ok && err == nil {
			return true
		}
	}
	return false
}
