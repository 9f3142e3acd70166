package netns

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A host that its owner has made a router forwards by no link for the sake of pods; one
// that pods have made a router, before there were switches for links, by all of them.
func TestFindUplinks(t *testing.T) {
	const off, on = "0\n", "1\n"
	for what, tt := range map[string]struct {
		all     string            // the host's switch
		links   map[string]string // those of links; "": there is none
		known   []string
		forPods bool
		want    []string
	}{
		"no router":             {off, map[string]string{"up0": off, "up1": on}, nil, false, []string{"up0"}},
		"one that is ours":      {off, map[string]string{"up0": off, "up1": on}, []string{"up1"}, false, []string{"up0", "up1"}},
		"the owner's router":    {on, map[string]string{"up0": on}, []string{"up0"}, false, nil},
		"the pods' router":      {on, map[string]string{"up0": "", "up1": ""}, nil, true, []string{"up0", "up1"}},
		"not links of machines": {off, map[string]string{"all": "", "default": "", "lo": off, linkPrefix + "1": off, "pbs1": off}, nil, false, nil},
	} {
		dir := t.TempDir() + "/"
		write := func(link, name, value string) {
			if err := os.MkdirAll(dir+link, 0o755); err != nil {
				t.Fatal(err)
			}
			if value == "" {
				return
			}
			if err := os.WriteFile(filepath.Join(dir, link, name), []byte(value), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("all", "forwarding", tt.all)
		for link, value := range tt.links {
			write(link, "switch", value)
		}
		got, err := findUplinks(dir, "switch", tt.known, tt.forPods)
		if slices.Sort(got); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v, want %v", what, got, err, tt.want)
		}
	}
	if !(Uplinks{}).IsZero() || (Uplinks{Router6: true}).IsZero() || (Uplinks{V6: []string{"up0"}}).IsZero() {
		t.Error("IsZero")
	}
}
