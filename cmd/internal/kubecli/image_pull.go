package kubecli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/image/registry"
)

// pullFlags say how images are fetched.
type pullFlags struct {
	platform, authFile, creds, certDir string
	tlsVerify                          bool
	cmd                                *cobra.Command
}

func (f *pullFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	f.cmd = cmd
	fl.StringVar(&f.platform, "platform", "", "`OS/ARCHITECTURE[/VARIANT]` of the image, not those of this host")
	fl.StringVar(&f.authFile, "authfile", "", "`file` of credentials, not those of the user (default $REGISTRY_AUTH_FILE)")
	fl.StringVar(&f.creds, "creds", "", "`USER[:PASSWORD]` for the registry; without PASSWORD the terminal is asked for it, which others cannot see in the list of processes")
	fl.StringVar(&f.certDir, "cert-dir", "", "`directory` of authorities (*.crt) and client certificates (*.cert, *.key), not those below /etc/containers/certs.d")
	fl.BoolVar(&f.tlsVerify, "tls-verify", true, "verify the certificates of registries, and use no plain HTTP (default: as registries.conf says)")
}

// options returns what the flags say.
func (f *pullFlags) options() (registry.Options, error) {
	opts := registry.Options{Platform: f.platform, AuthFile: f.authFile, CertDir: f.certDir}
	if opts.AuthFile == "" {
		opts.AuthFile = os.Getenv("REGISTRY_AUTH_FILE")
	}
	if f.cmd.Flags().Changed("tls-verify") {
		insecure := !f.tlsVerify
		opts.Insecure = &insecure
	}
	if f.creds != "" {
		c, err := credentials(f.creds)
		if err != nil {
			return opts, err
		}
		opts.Credentials = []registry.Credentials{c}
	}
	return opts, nil
}

// credentials reads USER:PASSWORD, or USER and asks for the password.
func credentials(s string) (registry.Credentials, error) {
	user, password, has := strings.Cut(s, ":")
	switch {
	case user == "":
		return registry.Credentials{}, fmt.Errorf("--creds: %w: want USER or USER:PASSWORD", image.ErrInvalid)
	case has:
		return registry.Credentials{Username: user, Password: password}, nil
	case !term.IsTerminal(int(os.Stdin.Fd())):
		return registry.Credentials{}, fmt.Errorf("--creds %s: %w: no password, and no terminal to ask for it", user, image.ErrInvalid)
	}
	fmt.Fprintf(os.Stderr, "Password of %s: ", user)
	typed, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(os.Stderr)
	return registry.Credentials{Username: user, Password: string(typed)}, err
}

func (a *app) imagePull() *cobra.Command {
	var (
		flags  pullFlags
		policy string
		quiet  bool
	)
	cmd := &cobra.Command{
		Use:   "pull [flags] IMAGE...",
		Short: "Fetch images from registries and print their IDs",
		Long: `Fetch images from registries and print their IDs. What is here already, of layers and
of images, is not fetched again.

Mirrors, registries that are blocked or spoken to by plain HTTP, and aliases are those of
/etc/containers/registries.conf; private authorities are below /etc/containers/certs.d or
/etc/docker/certs.d; credentials are those of podman login and docker login.`,
		Example: `  podbox image pull redis:8
  podbox image pull --policy missing registry.example:5000/app@sha256:...`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := registry.ParsePolicy(policy)
			if err != nil {
				return fmt.Errorf("--policy: %w", err)
			}
			opts, err := flags.options()
			if err != nil {
				return err
			}
			store, err := a.store()
			if err != nil {
				return err
			}
			var errs []error
			for _, ref := range args {
				img, err := pull(cmd.Context(), store, ref, p, opts, quiet)
				errs = append(errs, err)
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), strings.TrimPrefix(img.ID, "sha256:"))
				}
			}
			return errors.Join(errs...)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&policy, "policy", "always", "fetch `when`: always (if the registry has another one), missing (if there is none here), never")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the IDs only")
	_ = cmd.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions([]string{"always", "missing", "never"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// pull has an image be in the store, and shows on stderr how.
func pull(ctx context.Context, store *image.Store, ref string, policy registry.Policy, opts registry.Options, quiet bool) (*image.Image, error) {
	p := newProgress(ctx, os.Stderr, quiet)
	defer p.close()
	return registry.Ensure(ctx, store, ref, policy, registry.EnsureOptions{Options: opts, Tell: p.step, Progress: p.layer})
}
