// Package release tells which version of podbox this is.
package release

import (
	"runtime"
	"runtime/debug"

	"github.com/podbox/podbox/internal/pause"
)

// version is set when a release is built:
// -ldflags "-X github.com/podbox/podbox/cmd/internal/release.version=v1.2.3".
var version = ""

// An Info is what there is to know of a version.
type Info struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"`     // of the commit, in UTC, as in RFC 3339
	Modified bool   `json:"modified,omitempty"` // built from a tree with changes
	Pause    string `json:"pause"`              // version of the embedded pause
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Build returns what is known of the program that runs.
func Build() Info {
	v := Info{Version: version, Pause: pause.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Date = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
