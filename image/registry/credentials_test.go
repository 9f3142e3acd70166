package registry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParsePullSecret(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte("ann:secret:word"))
	for text, want := range map[string][]Credentials{
		fmt.Sprintf(`{"auths":{"registry.example":{"auth":%q}}}`, auth):                                     {{Registry: "registry.example", Username: "ann", Password: "secret:word"}},
		`{"auths":{"https://index.docker.io/v1/":{"username":"ann","password":"secret","email":"a@b"}}}`:    {{Registry: "docker.io", Username: "ann", Password: "secret"}},
		`{"auths":{"http://registry.example:5000/v2/":{"username":"ann","password":""}}}`:                   {{Registry: "registry.example:5000", Username: "ann"}},
		`{"auths":{"a.example/team":{"identitytoken":"T"},"a.example":{"username":"ann"}},"credsStore":""}`: {{Registry: "a.example/team", Token: "T"}, {Registry: "a.example", Username: "ann"}},
		`{"auths":{}}`: nil,
		fmt.Sprintf(`{"https://registry.example":{"auth":%q,"email":"a@b"}}`, auth): {{Registry: "registry.example", Username: "ann", Password: "secret:word"}},
		`{}`: nil,
	} {
		got, err := ParsePullSecret([]byte(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "[]", "secret", `{"credsStore":"secret"}`, `{"a":{"auth":"secret"}}`, `{"auths":[]}`, `{"auths":{"a":{}}}`, `{"auths":{"":{"username":"secret"}}}`, `{"auths":{"a":{"auth":"secret"}}}`,
		`{"auths":{"a":{"auth":"c2VjcmV0"}}}`, `{"auths":{"a":{"auth":5}}}`, `{"auths":{"a":"` + strings.Repeat("x", maxPullSecret) + `"}}`,
	} {
		got, err := ParsePullSecret([]byte(text))
		if err == nil || !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) || strings.Contains(err.Error(), "secret\"") || strings.Contains(err.Error(), "c2Vj") {
			t.Errorf("%.100s: %+v, %v, want an error that does not tell it", text, got, err)
		}
	}
}

func FuzzParsePullSecret(f *testing.F) {
	f.Add(`{"auths":{"registry.example/x":{"auth":"YTpi"}}}`, "registry.example/x/y")
	f.Add(`{"auths":{"*.example:5000":{"username":"a"}}}`, "registry.example:5000/y")
	f.Add(`{"auths":{"[":{"username":"a"}}}`, "[/y")
	f.Fuzz(func(t *testing.T, text, repository string) {
		found, err := ParsePullSecret([]byte(text))
		for _, c := range found {
			if err != nil || c.Registry == "" {
				t.Fatalf("%+v, %v", c, err)
			}
			c.matches(repository)
		}
	})
}

func TestCredentialsMatch(t *testing.T) {
	for _, test := range []struct {
		key, repository string
		want            bool
	}{
		{"registry.example", "registry.example/app", true},
		{"registry.example", "registry.example/team/app", true},
		{"registry.example", "registry.example:5000/app", false},
		{"registry.example:5000", "registry.example:5000/app", true},
		{"registry.example:5000", "registry.example/app", false},
		{"registry.example", "a.registry.example/app", false},
		{"registry.example", "registry.example.evil/app", false},
		{"*.example", "registry.example/app", true},
		{"*.example", "a.registry.example/app", false},
		{"*.*.example", "a.registry.example/app", true},
		{"re*.example", "registry.example/app", true},
		{"*", "docker.io/library/app", false},
		{"registry.example/team", "registry.example/team/app", true},
		{"registry.example/team", "registry.example/team", true},
		{"registry.example/team", "registry.example/teams/app", false},
		{"registry.example/team", "registry.example/app", false},
		{"docker.io", "docker.io/library/nginx", true},
		{"[", "[/app", false},
	} {
		c := Credentials{Registry: test.key}
		if got := c.matches(test.repository); got != test.want {
			t.Errorf("%s for %s: %v, want %v", test.key, test.repository, got, test.want)
		}
	}
}
