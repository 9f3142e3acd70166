package registry

import (
	"errors"
	"fmt"
	"strings"
)

// A Policy says when an image is fetched.
type Policy string

// The policies have the names that Pod YAML gives them.
const (
	// Always asks the registry each time. What is here already is not fetched again.
	Always Policy = "Always"
	// IfNotPresent asks nobody if there is an image of that name here.
	IfNotPresent Policy = "IfNotPresent"
	// Never asks nobody.
	Never Policy = "Never"
)

// ErrNeverPull is matched when an image is not here, and is not to be fetched.
var ErrNeverPull = errors.New("not here, and not to be pulled")

// ParsePolicy reads a policy, also as podman's command line has it: always, missing,
// never. ErrInvalid.
func ParsePolicy(s string) (Policy, error) {
	switch strings.ToLower(s) {
	case "always":
		return Always, nil
	case "missing", "ifnotpresent":
		return IfNotPresent, nil
	case "never":
		return Never, nil
	}
	return "", fmt.Errorf("pull policy %q: %w: want always, missing (IfNotPresent) or never", s, ErrInvalid)
}

// DefaultPolicy returns the one that Kubernetes has for a container that does not say:
// Always if the tag is latest, else IfNotPresent.
func DefaultPolicy(ref Reference) Policy {
	if ref.Tag() == "latest" {
		return Always
	}
	return IfNotPresent
}
