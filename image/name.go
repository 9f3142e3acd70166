package image

import (
	"fmt"
	"strings"

	"github.com/podbox/podbox/internal/names"
)

// A Name is what an image is called, in full. It is read by hand: the usual library
// compiles some 50 regular expressions at each start, in a third of the time that a
// whole podbox command takes. A test compares the two.
type Name struct {
	Domain string // the registry: docker.io
	Path   string // library/nginx
	Tag    string // latest; may be empty if there is a digest
	Digest string // of the manifest, sha256:…; mostly empty
}

// String returns the name in full: docker.io/library/nginx:latest.
func (n Name) String() string {
	s := n.Repository()
	if n.Tag != "" {
		s += ":" + n.Tag
	}
	if n.Digest != "" {
		s += "@" + n.Digest
	}
	return s
}

// Repository returns the name without tag and digest.
func (n Name) Repository() string { return n.Domain + "/" + n.Path }

// Familiar returns the name as short as people write it: nginx:latest.
func (n Name) Familiar() string {
	s := n.String()
	if rest, ok := strings.CutPrefix(s, defaultDomain+"/"); ok {
		s = strings.TrimPrefix(rest, "library/")
	}
	return s
}

const (
	defaultDomain = "docker.io"
	defaultTag    = "latest"
	maxName       = 255 // bytes of domain and path
)

// ParseName reads a name as docker and podman do: nginx is
// docker.io/library/nginx:latest. What is before the first slash is a registry if it
// has a dot or a colon, or is localhost. ErrInvalid.
func ParseName(s string) (Name, error) {
	n, err := parseName(s)
	if err != nil {
		return Name{}, fmt.Errorf("image name %q: %w: %w", s, ErrInvalid, err)
	}
	return n, nil
}

func parseName(s string) (n Name, err error) {
	rest, digest, has := strings.Cut(s, "@")
	if n.Digest = digest; has {
		if _, err := Hex(digest); err != nil {
			return n, fmt.Errorf("want a digest sha256:… after @")
		}
	}
	if names.IsID(rest) {
		return n, fmt.Errorf("it is an ID")
	}
	domain, path, has := strings.Cut(rest, "/")
	if !has || !strings.ContainsAny(domain, ".:") && domain != "localhost" && strings.ToLower(domain) == domain {
		domain, path = defaultDomain, rest
	} else if domain == "index.docker.io" {
		domain = defaultDomain
	}
	path, tag, has := strings.Cut(path, ":")
	switch {
	case has && !isTag(tag):
		return n, fmt.Errorf("tag %q: want at most 128 letters, digits, and _.- not in the beginning", tag)
	case !has && n.Digest == "":
		tag = defaultTag
	}
	if domain == defaultDomain && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	n.Domain, n.Path, n.Tag = domain, path, tag
	if !isDomain(domain) {
		return n, fmt.Errorf("registry %q: want a host, and perhaps a port", domain)
	}
	for part := range strings.SplitSeq(path, "/") {
		if !isPathPart(part) {
			return n, fmt.Errorf("%q: want lower-case letters and digits, with one of . _ __ or dashes between them", part)
		}
	}
	if len(n.Repository()) > maxName {
		return n, fmt.Errorf("longer than %d bytes", maxName)
	}
	return n, nil
}

func isTag(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func isDomain(s string) bool {
	host, port, has := s, "", false
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 2 || strings.Trim(s[1:end], "0123456789abcdefABCDEF:") != "" {
			return false
		}
		if s = s[end+1:]; s == "" {
			return true
		}
		host, port, has = strings.Cut(s, ":")
		return host == "" && has && isPort(port)
	}
	if host, port, has = strings.Cut(s, ":"); has && !isPort(port) {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || !isAlnum(label[0]) || !isAlnum(label[len(label)-1]) {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isAlnum(c) && c != '-' {
				return false
			}
		}
	}
	return true
}

func isPort(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// isPathPart reports whether s is groups of lower-case letters and digits, separated
// by a dot, one or two underscores, or any number of dashes.
func isPathPart(s string) bool {
	inner := 0 // how many characters since the last letter or digit
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			if sep := s[i-inner : i]; sep != "" && sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "" {
				return false
			}
			inner = 0
		case i == 0:
			return false
		default:
			inner++
		}
	}
	return s != "" && inner == 0
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
