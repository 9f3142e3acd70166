package image

import (
	"errors"
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func TestParseName(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for in, want := range map[string]string{
		"nginx":                      "docker.io/library/nginx:latest",
		"nginx:1.27":                 "docker.io/library/nginx:1.27",
		"user/app":                   "docker.io/user/app:latest",
		"docker.io/nginx":            "docker.io/library/nginx:latest",
		"index.docker.io/nginx":      "docker.io/library/nginx:latest",
		"localhost/app":              "localhost/app:latest",
		"localhost:5000/a/b/c":       "localhost:5000/a/b/c:latest",
		"registry.example.com/app:1": "registry.example.com/app:1",
		"UPPER.example/app":          "UPPER.example/app:latest",
		"[::1]:5000/app":             "[::1]:5000/app:latest",
		"nginx" + digest:             "docker.io/library/nginx" + digest,
		"nginx:1" + digest:           "docker.io/library/nginx:1" + digest,
		"a__b/c-d/e.f":               "docker.io/a__b/c-d/e.f:latest",
	} {
		n, err := ParseName(in)
		if err != nil || n.String() != want {
			t.Errorf("%s: %v, %v; want %s", in, n, err, want)
		}
		if again, err := ParseName(n.String()); err != nil || again != n {
			t.Errorf("%s again: %v, %v", n, again, err)
		}
		if short, err := ParseName(n.Familiar()); err != nil || short != n {
			t.Errorf("%s, short: %v, %v", n.Familiar(), short, err)
		}
	}
	for _, in := range []string{
		"", " ", "UPPER", "a b", "a//b", "/a", "a/", "a:", ":1", "a@", "a@sha256:1", "a@sha512:" + strings.Repeat("a", 128), "a..b", "a___b", "-a", "a-",
		"../a", "a/../b", "a:b:c", "a:-x", "a:" + strings.Repeat("x", 129), strings.Repeat("a", 256), strings.Repeat("a", 64), "host:port/a", "ex-.com/a", "a\x00", "ä",
	} {
		if n, err := ParseName(in); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v, %v; want ErrInvalid", in, n, err)
		}
	}
}

// FuzzParseName compares names with what the library of docker makes of them.
func FuzzParseName(f *testing.F) {
	for _, s := range []string{"nginx", "a/b:c", "h:1/x", "localhost/a", "a@sha256:" + strings.Repeat("a", 64), "[::1]/x", "A.b/c", "a__b-c.d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, gerr := ParseName(s)
		named, err := reference.ParseNormalizedNamed(s)
		if err == nil {
			named = reference.TagNameOnly(named)
			if d, ok := named.(reference.Digested); ok && d.Digest().Algorithm() != "sha256" {
				return // we know one only
			}
			if len(reference.FamiliarName(named)) > 200 {
				return // the bound is drawn in a slightly different place
			}
		}
		switch {
		case (err == nil) != (gerr == nil):
			if strings.HasPrefix(s, "[") {
				return // which addresses of IPv6 there are is not our matter
			}
			t.Errorf("%q: %v, %v; the library says %v, %v", s, got, gerr, named, err)
		case err == nil && named.String() != got.String():
			t.Errorf("%q: %s, the library says %s", s, got, named)
		}
	})
}
