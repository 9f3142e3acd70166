package kubecli

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/image/ingest"
	"github.com/podbox/podbox/image/registry"
)

// TestVerbs holds what all verbs have: help, and no page of it when they fail.
func TestVerbs(t *testing.T) {
	root := new(app).command()
	if !root.SilenceUsage || !root.SilenceErrors {
		t.Error("cobra prints errors of its own")
	}
	var look func(*cobra.Command)
	look = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			switch {
			case c.Short == "" || strings.HasSuffix(c.Short, "."):
				t.Errorf("%s: short help %q", c.CommandPath(), c.Short)
			case c.Args == nil:
				t.Errorf("%s: takes any arguments", c.CommandPath())
			case !strings.HasPrefix(c.Example, "  "):
				t.Errorf("%s: example %q", c.CommandPath(), c.Example)
			}
			c.LocalFlags().VisitAll(func(f *pflag.Flag) {
				if f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
					t.Errorf("%s: flag %s: help %q", c.CommandPath(), f.Name, f.Usage)
				}
			})
			look(c)
		}
	}
	look(root)
}

// TestHints holds that there is one for what people can do something about, and that it
// is one line.
func TestHints(t *testing.T) {
	for err, want := range map[error]string{
		registry.ErrPlainHTTP: "--tls-verify=false", registry.ErrUntrusted: "ca.crt", registry.ErrDenied: "--creds",
		registry.ErrNeverPull: "podbox image pull", registry.ErrPlatform: "--platform", ingest.ErrPlatform: "--platform",
		image.ErrNotFound: "podbox image ls", image.ErrAmbiguous: "digits", registry.ErrBlocked: "",
	} {
		var b strings.Builder
		if got := exit.Report(&b, fmt.Errorf("do it: %w", err), hint); got != exit.Failed || !strings.Contains(b.String(), want) || strings.Count(b.String(), "\n") != 1 {
			t.Errorf("%v: %d %q, want %q in it", err, got, b.String(), want)
		}
	}
}

func TestChange(t *testing.T) {
	for s, want := range map[string]image.Config{
		`CMD ["/bin/sh", "-c", "a b"]`: {Cmd: []string{"/bin/sh", "-c", "a b"}},
		`cmd a b`:                      {Cmd: []string{"/bin/sh", "-c", "a b"}},
		`CMD []`:                       {Cmd: []string{}},
		`ENTRYPOINT ["/x"]`:            {Entrypoint: []string{"/x"}},
		`ENV A=b c`:                    {Env: []string{"A=b c"}},
		`ENV A="b c"`:                  {Env: []string{"A=b c"}},
		`ENV A=`:                       {Env: []string{"A="}},
		`EXPOSE 80 53/udp`:             {ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}}},
		`LABEL "k"='v w'`:              {Labels: map[string]string{"k": "v w"}},
		`VOLUME /a /b`:                 {Volumes: map[string]struct{}{"/a": {}, "/b": {}}},
		`VOLUME ["/a b"]`:              {Volumes: map[string]struct{}{"/a b": {}}},
		`  WORKDIR   /x  `:             {WorkingDir: "/x"},
		`USER 1:2`:                     {User: "1:2"},
		`STOPSIGNAL 9`:                 {StopSignal: "9"},
	} {
		var got image.Config
		if err := change(&got, s); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "CMD", "CMD ", "RUN x", "FROM x", `CMD ["x"`, "ENV X", "ENV =x", "ENV A B=c", "LABEL x", `VOLUME ["x"`} {
		if err := change(new(image.Config), s); !errors.Is(err, image.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", s, err)
		}
	}
}

func FuzzChange(f *testing.F) {
	for _, s := range []string{`CMD ["x"]`, "ENV A=b", `LABEL "`, "EXPOSE /", "VOLUME [", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var c image.Config
		if err := change(&c, s); err == nil && reflect.DeepEqual(c, image.Config{}) {
			t.Errorf("%q changes nothing", s)
		}
	})
}

// TestRows shows an image under each of its names.
func TestRows(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	list := []*image.Image{
		{ID: digest, Names: []string{"docker.io/library/a:v1", "example.com:5000/b@" + digest}},
		{ID: "sha256:" + strings.Repeat("1", 64)},
	}
	var got []string
	for _, r := range rowsOf(list) {
		got = append(got, r.Repository+" "+r.Tag)
	}
	if want := "docker.io/library/a v1, example.com:5000/b <none>, <none> <none>"; strings.Join(got, ", ") != want {
		t.Errorf("%s, want %s", strings.Join(got, ", "), want)
	}
	if n := len(imagesOf(rowsOf(list))); n != 2 {
		t.Errorf("%d images of them, want 2", n)
	}
	if err := printImages(io.Discard, "wide", true, rowsOf(list)); err != nil {
		t.Error(err)
	}
}
