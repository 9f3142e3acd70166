package registry

import (
	"fmt"
	"strings"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
)

// A Reference names an image in full: registry, repository, and a tag or a digest.
type Reference struct{ named reference.Named }

// Parse reads a reference, as people and Pod YAML write it: nginx is
// docker.io/library/nginx:latest, unless opts' configuration has an alias for it.
func Parse(s string, opts Options) (Reference, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Reference{}, fmt.Errorf("image %q: %w: %w", s, ErrInvalid, err)
	}
	if short, ok := shortName(s, named); ok {
		alias, _, err := sysregistriesv2.ResolveShortNameAlias(opts.system(), short)
		if err != nil {
			return Reference{}, fmt.Errorf("image %q: alias: %w", s, err)
		}
		if alias != nil {
			if named, err = retarget(alias, named); err != nil {
				return Reference{}, fmt.Errorf("image %q: alias %s: %w: %w", s, alias, ErrInvalid, err)
			}
		}
	}
	// The digest alone counts, as it does to Docker and to Kubernetes.
	if digested, ok := named.(reference.Canonical); ok {
		if named, err = reference.WithDigest(reference.TrimNamed(named), digested.Digest()); err != nil {
			return Reference{}, fmt.Errorf("image %q: %w: %w", s, ErrInvalid, err)
		}
	}
	return Reference{reference.TagNameOnly(named)}, nil
}

// shortName returns a reference's name if it has no registry.
func shortName(s string, named reference.Named) (string, bool) {
	short := strings.TrimPrefix(named.Name(), "docker.io/")
	if strings.HasPrefix(s, "docker.io/") || strings.HasPrefix(s, "index.docker.io/") || short == named.Name() {
		return "", false
	}
	if !strings.HasPrefix(s, "library/") {
		short = strings.TrimPrefix(short, "library/")
	}
	return short, true
}

// retarget gives to the tag and the digest of a reference.
func retarget(to, of reference.Named) (reference.Named, error) {
	to = reference.TrimNamed(to)
	var err error
	if t, ok := of.(reference.Tagged); ok {
		if to, err = reference.WithTag(to, t.Tag()); err != nil {
			return nil, err
		}
	}
	if d, ok := of.(reference.Digested); ok {
		return reference.WithDigest(to, d.Digest())
	}
	return to, nil
}

// String returns the reference as docker.io/library/nginx:latest.
func (r Reference) String() string { return r.named.String() }

// Digest returns the digest that the reference asks for, or "".
func (r Reference) Digest() string {
	if d, ok := r.named.(reference.Digested); ok {
		return d.Digest().String()
	}
	return ""
}

// Tag returns the tag that the reference asks for, or "".
func (r Reference) Tag() string {
	if t, ok := r.named.(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}

// A source is a place that an image may be fetched from.
type source struct {
	ref      reference.Named
	insecure bool
	mirror   bool
}

// sources returns the places that an image may be fetched from, in the order that the
// configuration wants: mirrors first.
func (r Reference) sources(sys *types.SystemContext) ([]*source, error) {
	reg, err := sysregistriesv2.FindRegistry(sys, r.named.Name())
	switch {
	case err != nil:
		return nil, fmt.Errorf("configuration of registries: %w", err)
	case reg == nil:
		return []*source{{ref: r.named}}, nil
	case reg.Blocked:
		return nil, fmt.Errorf("prefix %q: %w", reg.Prefix, ErrBlocked)
	}
	found, err := reg.PullSourcesFromReference(r.named)
	if err != nil {
		return nil, fmt.Errorf("configuration of registries: %w", err)
	}
	var sources []*source
	for i, f := range found {
		if f.Endpoint.NamespaceProxy != "" {
			return nil, fmt.Errorf("configuration of registries: namespace-proxy of %s: not supported", f.Endpoint.Location)
		}
		sources = append(sources, &source{ref: f.Reference, insecure: f.Endpoint.Insecure, mirror: i < len(found)-1})
	}
	return sources, nil
}
