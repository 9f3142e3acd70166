// Package release tells which version of podbox this is.
package release

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/podbox/podbox/cmd/internal/manual"
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

// Manual returns what the manual pages of the program that runs say of its version. The
// date is that of SOURCE_DATE_EPOCH, if that is set: see
// https://reproducible-builds.org/specs/source-date-epoch.
func Manual() manual.Options {
	v := Build()
	date, _, _ := strings.Cut(v.Date, "T")
	if n, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		date = time.Unix(n, 0).UTC().Format(time.DateOnly)
	}
	return manual.Options{Version: v.Version, Date: date}
}
