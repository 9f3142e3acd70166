package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/internal/pause"
)

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = ""

// A versionInfo is what podbox version shows.
type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a tree with changes
	Pause    string `json:"pause"`              // version of the embedded pause
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildVersion() versionInfo {
	v := versionInfo{Version: version, Pause: pause.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
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
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (a *app) version() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "version [flags]",
		Short: "Show the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, w := buildVersion(), cmd.OutOrStdout()
			t, err := out.template()
			switch {
			case err != nil:
				return err
			case t != nil:
				return printEach(w, t, []versionInfo{v})
			case out.form != "text":
				return encode(w, out.form, v)
			}
			fmt.Fprintf(w, "podbox %s\n", v.Version)
			if v.Commit != "" {
				changed := ""
				if v.Modified {
					changed = " with changes"
				}
				fmt.Fprintf(w, "commit %s%s\n", v.Commit, changed)
			}
			fmt.Fprintf(w, "pause %s, %s, %s\n", v.Pause, v.Go, v.Platform)
			return nil
		},
	}
	out.flags(cmd, "text", "json", "yaml")
	return cmd
}
