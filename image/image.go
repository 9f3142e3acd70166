package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/podbox/podbox/internal/fault"
	"github.com/podbox/podbox/internal/names"
)

// Errors that callers may match with errors.Is.
var (
	ErrInvalid      = fault.ErrInvalid
	ErrNotSupported = fault.ErrNotSupported
	// ErrNotFound is matched when there is no such image here.
	ErrNotFound = errors.New("no such image")
	// ErrAmbiguous is matched when more than one image's ID begins as asked.
	ErrAmbiguous = errors.New("ambiguous")
	// ErrInUse is matched when an image is to be removed that a container has.
	ErrInUse = errors.New("image is in use")
	// ErrCorrupt is matched when what is in the store, or what is added to it, is not
	// what its digest says, or not readable.
	ErrCorrupt = errors.New("corrupt")
)

// An Image is what is known of an image in a store.
type Image struct {
	// ID is the digest of the configuration: "sha256:" and 64 hexadecimal digits.
	ID string `json:"id"`
	// Names are what it is called, in full: docker.io/library/nginx:latest.
	Names []string `json:"names,omitempty"`
	// Digest is that of the manifest it came with; empty if it came without.
	Digest string `json:"digest,omitempty"`
	// Platform is what it is for.
	Platform Platform `json:"platform"`
	// Created is when it was built, zero if it does not say; Added is when it came
	// into the store.
	Created time.Time `json:"created,omitzero"`
	Added   time.Time `json:"added"`
	// Size is how many bytes the files of its layers have, shared ones too.
	Size int64 `json:"size"`
	// Layers are the chain IDs of its layers, the lowest first.
	Layers []string `json:"layers"`
	// Config says how it wants to be run.
	Config Config `json:"config"`
}

// A Platform is a kind of machine, by Go's names.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

// String returns the platform as linux/arm64/v8.
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// A Config is how an image wants to be run, with the names of the OCI image
// specification.
type Config struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
}

// What an image says of itself is bounded, in bytes and in number.
const (
	MaxConfig   = 8 << 20
	MaxManifest = 4 << 20
	MaxLayers   = 500 // what overlayfs takes
)

// A file is the configuration of an image as it is kept: what of it is acted on.
type file struct {
	Created *time.Time `json:"created"`
	Platform
	Config Config `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// parse reads the configuration of an image.
func parse(config []byte) (*file, error) {
	if len(config) > MaxConfig {
		return nil, fmt.Errorf("configuration: %w: larger than %d bytes", ErrInvalid, MaxConfig)
	}
	f := new(file)
	if err := json.Unmarshal(config, f); err != nil {
		return nil, fmt.Errorf("configuration: %w: %w", ErrInvalid, err)
	}
	switch {
	case f.OS == "" || f.Architecture == "":
		return nil, fmt.Errorf("configuration: %w: os or architecture is missing: is this an image of a container?", ErrInvalid)
	case f.RootFS.Type != "layers":
		return nil, fmt.Errorf("configuration: rootfs.type %q: %w: want layers", f.RootFS.Type, ErrInvalid)
	case len(f.RootFS.DiffIDs) > MaxLayers:
		return nil, fmt.Errorf("configuration: %w: %d layers, want at most %d", ErrInvalid, len(f.RootFS.DiffIDs), MaxLayers)
	}
	for _, d := range f.RootFS.DiffIDs {
		if _, err := Hex(d); err != nil {
			return nil, fmt.Errorf("configuration: rootfs.diff_ids: %w", err)
		}
	}
	return f, nil
}

// Hex returns the 64 digits of a digest, which must be a SHA-256: "sha256:…".
func Hex(digest string) (string, error) {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || !names.IsID(hex) {
		return "", fmt.Errorf("digest %q: %w: want sha256: and 64 hexadecimal digits", digest, ErrInvalid)
	}
	return hex, nil
}

// DiffIDs returns the digests of an image's layers, uncompressed, the lowest first, as
// its configuration has them.
func DiffIDs(config []byte) ([]string, error) {
	f, err := parse(config)
	if err != nil {
		return nil, err
	}
	return f.RootFS.DiffIDs, nil
}
