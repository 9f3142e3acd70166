package registry

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/podbox/podbox/image"
)

// wantedPlatform returns the platform that s names, or the host's.
func wantedPlatform(s string) (ocispec.Platform, error) {
	if s == "" {
		return ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	p, err := platforms.Parse(s)
	if err != nil || strings.Count(s, "/") == 0 {
		return p, fmt.Errorf("platform %q: %w: want OS/ARCHITECTURE[/VARIANT]", s, ErrInvalid)
	}
	return p, nil
}

// choose returns the digest of the image in a list that is for a platform.
func choose(list *remote.Descriptor, wanted ocispec.Platform) (v1.Hash, error) {
	index, err := list.ImageIndex()
	if err != nil {
		return v1.Hash{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return v1.Hash{}, fmt.Errorf("list of images: %w: %w", ErrInvalid, err)
	}
	// Not 386 for amd64, which containerd's looser match takes, too.
	matcher := platforms.OnlyStrict(wanted)
	var there []string
	for _, d := range m.Manifests {
		if d.Platform == nil || d.Platform.OS == "unknown" || !d.MediaType.IsImage() {
			continue // what else is kept beside images: attestations
		}
		has := ocispec.Platform{OS: d.Platform.OS, Architecture: d.Platform.Architecture, Variant: d.Platform.Variant}
		if matcher.Match(has) {
			return d.Digest, nil
		}
		there = append(there, platforms.Format(has))
	}
	return v1.Hash{}, fmt.Errorf("%w: %s is wanted, there is %s", ErrPlatform, platforms.Format(wanted), listed(there))
}

func listed(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// check looks at an image before any of its layers is fetched.
func check(img v1.Image, wanted ocispec.Platform, chosen bool) error {
	m, err := img.Manifest()
	if err != nil {
		return fmt.Errorf("manifest: %w: %w", ErrInvalid, err)
	}
	if m.Config.Size > image.MaxConfig {
		return fmt.Errorf("configuration: %w: %d bytes, more than %d", ErrTooLarge, m.Config.Size, image.MaxConfig)
	}
	for _, l := range m.Layers {
		if l.Size < 0 {
			return fmt.Errorf("layer %s: %w: size %d", l.Digest, ErrInvalid, l.Size)
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	has := image.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant}
	if !chosen && has.Architecture != "" && !isFor(has, wanted) {
		return fmt.Errorf("%w: %s is wanted, there is %s", ErrPlatform, platforms.Format(wanted), has)
	}
	return nil
}

// isFor reports whether an image is for a platform.
func isFor(has image.Platform, wanted ocispec.Platform) bool {
	p := ocispec.Platform{OS: has.OS, Architecture: has.Architecture, Variant: has.Variant}
	return platforms.OnlyStrict(wanted).Match(platforms.Normalize(p))
}
