package registry

import (
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
)

// authenticators returns who we may say that we are, in the order to try. If there is
// nothing to say, it is the anonymous one.
func (s *source) authenticators(opts Options) ([]authn.Authenticator, error) {
	var auths []authn.Authenticator
	for _, c := range opts.Credentials {
		auth := authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password, IdentityToken: c.Token})
		switch {
		case c.Registry == "" && !s.mirror:
			// Whoever gives these for one image means them, and no others.
			return []authn.Authenticator{auth}, nil
		case c.Registry != "" && c.matches(s.ref.Name()):
			auths = append(auths, auth)
		}
	}
	if opts.AuthFile != "" {
		if _, err := os.Stat(opts.AuthFile); err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
	}
	found, err := config.GetCredentialsForRef(opts.system(), reference.TrimNamed(s.ref))
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", s.ref.Name(), err)
	}
	if found.Username == "" && found.IdentityToken == "" {
		if len(auths) > 0 {
			return auths, nil
		}
		return []authn.Authenticator{authn.Anonymous}, nil
	}
	return append(auths, authn.FromConfig(authn.AuthConfig{
		Username: found.Username, Password: found.Password, IdentityToken: found.IdentityToken,
	})), nil
}
