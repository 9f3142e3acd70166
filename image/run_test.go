package image

import (
	"errors"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// What docker, podman and the kubelet run.
func TestCommand(t *testing.T) {
	both := Config{Entrypoint: []string{"entry", "x"}, Cmd: []string{"cmd"}}
	for _, tt := range []struct {
		config Config
		over   Overrides
		want   []string
	}{
		{both, Overrides{}, []string{"entry", "x", "cmd"}},
		{both, Overrides{Args: []string{"a"}}, []string{"entry", "x", "a"}},
		{both, Overrides{Args: []string{}}, []string{"entry", "x"}},
		{both, Overrides{Entrypoint: []string{"e"}}, []string{"e"}},
		{both, Overrides{Entrypoint: []string{"e"}, Args: []string{"a"}}, []string{"e", "a"}},
		{both, Overrides{Entrypoint: []string{}, Args: []string{"a"}}, []string{"a"}},
		{both, Overrides{Entrypoint: []string{}}, nil},
		{Config{Cmd: []string{"cmd"}}, Overrides{}, []string{"cmd"}},
		{Config{}, Overrides{}, nil},
		{Config{Cmd: []string{""}}, Overrides{}, nil},
		{Config{}, Overrides{Args: []string{"a"}}, []string{"a"}},
	} {
		got, err := tt.config.Command(tt.over)
		if !reflect.DeepEqual(got, tt.want) || (err != nil) != (tt.want == nil) || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v, %+v: %q, %v; want %q", tt.config, tt.over, got, err, tt.want)
		}
	}
}

func TestEnviron(t *testing.T) {
	c := Config{Env: []string{"A=1", "B=2", "A=3", "no value", "=x", "N=\x00"}}
	got := c.Environ(Overrides{Env: []string{"B=4", "C="}})
	if want := []string{"PATH=" + defaultPath, "A=3", "B=4", "C="}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	c = Config{Env: []string{"PATH=/x"}}
	if got := c.Environ(Overrides{}); len(got) != 1 || got[0] != "PATH=/x" {
		t.Errorf("%q", got)
	}
}

func TestDir(t *testing.T) {
	for _, tt := range []struct{ image, over, want string }{
		{"", "", "/"}, {"/srv", "", "/srv"}, {"srv/", "", "/srv"}, {"/srv", "/x/", "/x"}, {"/srv", "x", "/srv/x"}, {"/../..", "", "/"},
	} {
		c := Config{WorkingDir: tt.image}
		if got := c.Dir(Overrides{Dir: tt.over}); got != tt.want {
			t.Errorf("%q, %q: %q, want %q", tt.image, tt.over, got, tt.want)
		}
	}
}

func TestVolumePaths(t *testing.T) {
	c := Config{Volumes: map[string]struct{}{"/b": {}, "a/": {}, "/a": {}, "/": {}, "/../x": {}, "/n\x00": {}, "": {}}}
	if got, want := c.VolumePaths(), []string{"/a", "/b", "/x"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]unix.Signal{
		"TERM": unix.SIGTERM, "SIGTERM": unix.SIGTERM, "sigquit": unix.SIGQUIT, "15": 15, "64": 64, "SIGRTMIN+3": 37, "RTMAX-1": 63, "RTMIN": 34,
	} {
		if got, err := ParseSignal(in); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "65", "-1", "SIG", "SIG9", "RTMIN-1", "RTMAX+1", "RTMIN+x", "NOPE"} {
		if got, err := ParseSignal(in); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %d, %v; want ErrInvalid", in, got, err)
		}
	}
	if sig, err := (&Config{}).Signal(); sig != 0 || err != nil {
		t.Errorf("%d, %v", sig, err)
	}
}
