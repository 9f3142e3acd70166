package registry

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"path"
	"slices"
	"strings"
)

// Credentials are what a registry wants to see.
type Credentials struct {
	// Registry is who they are for: HOST[:PORT][/PATH], where a label of HOST may be a
	// pattern, as in *.example.com. Empty: the registry of the image, but no mirror.
	Registry string
	Username string
	Password string
	// Token is an identity token, in place of the others.
	Token string
}

// maxPullSecret is the size that Kubernetes allows to a secret.
const maxPullSecret = 1 << 20

// An authEntry is what is known of a registry in a file of docker login.
type authEntry struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
}

// ParsePullSecret reads the value of .dockerconfigjson of a Kubernetes secret, which is
// a file of docker login, or of .dockercfg, which is one of an older version. Those for
// longer paths come first. Errors do not quote it.
func ParsePullSecret(text []byte) ([]Credentials, error) {
	if len(text) > maxPullSecret {
		return nil, fmt.Errorf("pull secret: %w: %d bytes", ErrTooLarge, len(text))
	}
	var file struct {
		Auths map[string]authEntry `json:"auths"`
	}
	err := json.Unmarshal(text, &file)
	if err == nil && file.Auths == nil {
		err = json.Unmarshal(text, &file.Auths)
	}
	if err != nil {
		return nil, fmt.Errorf("pull secret: %w: want the JSON of docker login: auths: {REGISTRY: {auth: BASE64}}", ErrInvalid)
	}
	var found []Credentials
	for key, a := range file.Auths {
		c := Credentials{Registry: trimKey(key), Username: a.Username, Password: a.Password, Token: a.IdentityToken}
		if a.Auth != "" {
			plain, err := base64.StdEncoding.DecodeString(strings.TrimRight(a.Auth, "\x00\n"))
			user, password, colon := strings.Cut(string(plain), ":")
			if err != nil || !colon {
				return nil, fmt.Errorf("pull secret: auths[%q].auth: %w: want base64 of USER:PASSWORD", key, ErrInvalid)
			}
			c.Username, c.Password = user, password
		}
		if c.Registry == "" || c.Username == "" && c.Token == "" {
			return nil, fmt.Errorf("pull secret: auths[%q]: %w: want a registry, and auth, or username and password", key, ErrInvalid)
		}
		found = append(found, c)
	}
	slices.SortFunc(found, func(a, b Credentials) int { return strings.Compare(b.Registry, a.Registry) })
	return found, nil
}

// trimKey returns what a key of docker login's file means: https://index.docker.io/v1/ is
// docker.io.
func trimKey(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimRight(key, "/")
	for _, version := range []string{"/v1", "/v2"} {
		key = strings.TrimSuffix(key, version)
	}
	host, rest, _ := strings.Cut(key, "/")
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		host = "docker.io"
	}
	if rest != "" {
		return host + "/" + rest
	}
	return host
}

// matches reports whether credentials are for a repository, as the kubelet decides it:
// label by label of the host, the port exactly, the path by its beginning.
func (c *Credentials) matches(repository string) bool {
	wantHost, wantPath, _ := strings.Cut(c.Registry, "/")
	host, rest, _ := strings.Cut(repository, "/")
	wantHost, wantPort := splitPort(wantHost)
	host, port := splitPort(host)
	wantLabels, labels := strings.Split(wantHost, "."), strings.Split(host, ".")
	if port != wantPort || len(labels) != len(wantLabels) {
		return false
	}
	for i, l := range labels {
		if ok, err := path.Match(wantLabels[i], l); !ok || err != nil {
			return false
		}
	}
	return wantPath == "" || rest == wantPath || strings.HasPrefix(rest, wantPath+"/")
}

func splitPort(host string) (name, port string) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return host, ""
	}
	return name, port
}
