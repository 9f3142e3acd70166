package kubecli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/image/ingest"
)

func (a *app) imageImport() *cobra.Command {
	var (
		changes  []string
		platform string
		quiet    bool
	)
	cmd := &cobra.Command{
		Use:   "import [flags] FILE|DIR|- [NAME]",
		Short: "Make an image of a root directory, or of a tar of one, and print its ID",
		Example: `  podbox image import -c 'CMD ["/bin/sh"]' rootfs.tar.gz local/base
  sudo debootstrap --variant=minbase trixie root && sudo podbox image import root debian:trixie`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveDefault // a file or a directory
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var config image.Config
			for _, c := range changes {
				if err := change(&config, c); err != nil {
					return fmt.Errorf("--change %q: %w", c, err)
				}
			}
			p, err := platformFlag(platform)
			if err != nil {
				return err
			}
			if len(args) == 2 {
				if _, err := image.ParseName(args[1]); err != nil {
					return err
				}
			}
			store, err := a.store()
			if err != nil {
				return err
			}
			shown := newProgress(cmd.Context(), os.Stderr, quiet)
			img, err := importImage(cmd.Context(), store, args[0], config, ingest.Options{Names: args[1:], Platform: p, Progress: shown.layer})
			shown.close()
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), img.ID)
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&changes, "change", "c", nil, "`instruction` of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR")
	cmd.Flags().StringVar(&platform, "platform", "", "`OS/ARCHITECTURE[/VARIANT]` that it is for, not that of this host")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "do not show how far it is")
	return cmd
}

func importImage(ctx context.Context, store *image.Store, from string, config image.Config, opts ingest.Options) (*image.Image, error) {
	if from == "-" {
		f, err := stdin()
		if err != nil {
			return nil, err
		}
		return ingest.Import(ctx, store, f, config, opts)
	}
	if strings.HasPrefix(from, "http://") || strings.HasPrefix(from, "https://") {
		return nil, fmt.Errorf("import %s: %w: want a file, a directory or -", from, image.ErrInvalid)
	}
	f, err := os.Open(from)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.IsDir() {
		return ingest.ImportDir(ctx, store, from, config, opts)
	}
	img, err := ingest.Import(ctx, store, f, config, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return img, nil
}

// change does to a configuration what an instruction of a Dockerfile does.
func change(c *image.Config, instruction string) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(instruction), " ")
	rest = strings.TrimSpace(rest)
	if rest == "" {
		return fmt.Errorf("%w: want an instruction and its value", image.ErrInvalid)
	}
	switch strings.ToUpper(word) {
	case "CMD":
		return commandOf(&c.Cmd, rest)
	case "ENTRYPOINT":
		return commandOf(&c.Entrypoint, rest)
	case "ENV":
		name, value, ok := strings.Cut(rest, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return fmt.Errorf("%w: want ENV NAME=VALUE", image.ErrInvalid)
		}
		c.Env = append(c.Env, name+"="+unquote(value))
	case "LABEL":
		name, value, ok := strings.Cut(rest, "=")
		if !ok || name == "" {
			return fmt.Errorf("%w: want LABEL NAME=VALUE", image.ErrInvalid)
		}
		set(&c.Labels, unquote(name), unquote(value))
	case "EXPOSE":
		for port := range strings.FieldsSeq(rest) {
			if !strings.Contains(port, "/") {
				port += "/tcp"
			}
			set(&c.ExposedPorts, port, struct{}{})
		}
	case "VOLUME":
		paths := strings.Fields(rest)
		if strings.HasPrefix(rest, "[") && (json.Unmarshal([]byte(rest), &paths) != nil || len(paths) == 0) {
			return fmt.Errorf("%w: want VOLUME PATH... or VOLUME [\"PATH\", ...]", image.ErrInvalid)
		}
		for _, p := range paths {
			set(&c.Volumes, p, struct{}{})
		}
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "USER":
		c.User = rest
	case "WORKDIR":
		c.WorkingDir = rest
	default:
		return fmt.Errorf("%w: want CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR", image.ErrInvalid)
	}
	return nil
}

// commandOf reads a command in either form that a Dockerfile has.
func commandOf(to *[]string, s string) error {
	*to = nil
	if !strings.HasPrefix(s, "[") {
		*to = []string{"/bin/sh", "-c", s}
		return nil
	}
	if err := json.Unmarshal([]byte(s), to); err != nil {
		return fmt.Errorf("%w: want a command, or a JSON array of its words", image.ErrInvalid)
	}
	return nil
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

func set[V any](m *map[string]V, k string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[k] = v
}
