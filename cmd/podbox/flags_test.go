package main

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]unix.Signal{
		"KILL": unix.SIGKILL, "SIGKILL": unix.SIGKILL, "sigkill": unix.SIGKILL, "kill": unix.SIGKILL, "9": unix.SIGKILL,
		"Term": unix.SIGTERM, "USR1": unix.SIGUSR1, "winch": unix.SIGWINCH, "1": unix.SIGHUP, "64": 64,
		"": 0, "0": 0, "-1": 0, "65": 0, "9x": 0, " 9": 0, "SIG": 0, "SIGSIGKILL": 0, "NOPE": 0, "99999999999999999999": 0,
	} {
		got, err := parseSignal(s)
		if got != want || (err != nil) != (want == 0) || err != nil && !errors.Is(err, sandbox.ErrInvalid) {
			t.Errorf("parseSignal(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
}

func FuzzParseSignal(f *testing.F) {
	for _, s := range []string{"KILL", "sigterm", "9", "0", "-1", "65", "SIGſ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sig, err := parseSignal(s)
		switch {
		case err != nil && (sig != 0 || !errors.Is(err, sandbox.ErrInvalid)):
			t.Errorf("parseSignal(%q) = %d, %v", s, sig, err)
		case err == nil && (sig < 1 || sig > 64):
			t.Errorf("parseSignal(%q) = %d, which is no signal", s, sig)
		}
	})
}

func TestParseFilters(t *testing.T) {
	web := &sandbox.Info{Name: "web", State: sandbox.Running, Labels: map[string]string{"app": "web", "tier": "", "expr": "a=b"}}
	for _, test := range []struct {
		filters []string
		keep    bool
	}{
		{nil, true},
		{[]string{"state=running"}, true},
		{[]string{"state=stopped"}, false},
		{[]string{"state=stopped", "state=running"}, true},
		{[]string{"name=web"}, true},
		{[]string{"name=we"}, false},
		{[]string{"name=web", "state=stopped"}, false},
		{[]string{"label=app"}, true},
		{[]string{"label=app=web"}, true},
		{[]string{"label=app=db"}, false},
		{[]string{"label=app="}, false},
		{[]string{"label=tier="}, true},
		{[]string{"label=expr=a=b"}, true},
		{[]string{"label=none"}, false},
		{[]string{"label=none", "label=app"}, true},
		{[]string{"label=app", "name=db"}, false},
	} {
		keep, err := parseFilters(test.filters)
		if err != nil {
			t.Errorf("%q: %v", test.filters, err)
			continue
		}
		if got := keep(web); got != test.keep {
			t.Errorf("%q keeps web: %v, want %v", test.filters, got, test.keep)
		}
	}
	for _, f := range []string{"", "=", "state", "state=", "state=Running", "label", "label=", "name=", "ip=10.88.0.2", "state=running "} {
		if _, err := parseFilters([]string{f}); !errors.Is(err, sandbox.ErrInvalid) || !strings.Contains(err.Error(), `filter "`+f+`"`) {
			t.Errorf("%q: error %v, want one that names it", f, err)
		}
	}
}

func FuzzParseFilters(f *testing.F) {
	for _, s := range []string{"state=running", "label=a=b", "name=web", "label=", "=", "x"} {
		f.Add(s)
	}
	web := &sandbox.Info{Name: "web", State: sandbox.Running, Labels: map[string]string{"app": "web"}}
	f.Fuzz(func(t *testing.T, s string) {
		keep, err := parseFilters([]string{s})
		if err != nil {
			return
		}
		kind, want, _ := strings.Cut(s, "=")
		if kind != "state" && kind != "label" && kind != "name" || want == "" {
			t.Errorf("%q is taken for a filter", s)
		}
		// Given twice it says the same.
		twice, err := parseFilters([]string{s, s})
		if err != nil || twice(web) != keep(web) {
			t.Errorf("%q: twice it says something else, %v", s, err)
		}
	})
}

func TestPairs(t *testing.T) {
	got, err := pairs("--label", []string{"a=1", "b=", "c=x=y", "=z"})
	if want := map[string]string{"a": "1", "b": "", "c": "x=y", "": "z"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if got, err := pairs("--label", nil); got != nil || err != nil {
		t.Errorf("of none: %v, %v", got, err)
	}
	for _, words := range [][]string{{"a"}, {""}, {"a=1", "b"}, {"a=1", "a=1"}, {"a=1", "a=2"}} {
		if got, err := pairs("--label", words); !errors.Is(err, sandbox.ErrInvalid) || !strings.HasPrefix(err.Error(), "--label ") {
			t.Errorf("%q: %v, %v, want an error that names the flag", words, got, err)
		}
	}
}

func TestEnv(t *testing.T) {
	e := newEnv([]string{"A=1", "B=2", "A=3", "=weird", "plain", "C=x=y", "D="})
	if want := []string{"A=3", "B=2", "C=x=y", "D="}; !slices.Equal(e.list, want) {
		t.Errorf("%q, want %q", e.list, want)
	}
	e.set("B", "changed")
	e.set("E", "new")
	if want := []string{"A=3", "B=changed", "C=x=y", "D=", "E=new"}; !slices.Equal(e.list, want) {
		t.Errorf("%q, want %q", e.list, want)
	}
	if !e.has("D") || e.has("F") || e.has("") {
		t.Error("has")
	}
}

func FuzzEnv(f *testing.F) {
	f.Add("A=1\nA=2\nB=\n=C\nD")
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Split(text, "\n")
		seen := make(map[string]bool)
		for _, s := range newEnv(lines).list {
			name, value, found := strings.Cut(s, "=")
			if !found || name == "" || seen[name] {
				t.Fatalf("of %q: %q", lines, s)
			}
			seen[name] = true
			// The last one counts.
			last := ""
			for _, line := range lines {
				if n, v, ok := strings.Cut(line, "="); ok && n == name {
					last = v
				}
			}
			if value != last {
				t.Fatalf("of %q: %s is %q, want %q", lines, name, value, last)
			}
		}
	})
}

func TestCreateFlagsSpec(t *testing.T) {
	if s, err := new(createFlags).spec(); err != nil || !reflect.DeepEqual(s, sandbox.Spec{}) {
		t.Errorf("of no flags: %+v, %v, want the zero Spec", s, err)
	}
	all := createFlags{
		hostname: "db.example", network: "pod", ip: "10.88.7.7", ip6: "fd00::7", mac: "02:00:5e:10:00:01",
		ipRange: "10.88.0.0/16", ip6Range: "fd00::/64", shmSize: "1m", share: []string{"net", "pid"},
		sysctls: []string{"net.core.somaxconn=1"}, names: nameFlags{dns: []string{"9.9.9.9", "fd00::9"}, search: []string{"example.com"}, hosts: []string{"a:10.0.0.1", "b:fd00::1"}},
		labels: []string{"k=v"},
	}
	want := sandbox.Spec{
		Hostname: "db.example",
		Network: netns.Network{
			Mode: netns.ModePod, IP: netip.MustParseAddr("10.88.7.7"), IP6: netip.MustParseAddr("fd00::7"), MAC: "02:00:5e:10:00:01",
			Range: netip.MustParsePrefix("10.88.0.0/16"), Range6: netip.MustParsePrefix("fd00::/64"),
		},
		ShmSize: 1 << 20, Share: []sandbox.Namespace{sandbox.Net, sandbox.PID},
		Sysctls: map[string]string{"net.core.somaxconn": "1"}, Labels: map[string]string{"k": "v"},
		DNS:   sandbox.DNS{Servers: []netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("fd00::9")}, Search: []string{"example.com"}},
		Hosts: []sandbox.Host{{Name: "a", IP: netip.MustParseAddr("10.0.0.1")}, {Name: "b", IP: netip.MustParseAddr("fd00::1")}},
	}
	if s, err := all.spec(); err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("of all flags:\n%+v, %v, want\n%+v", s, err, want)
	}
	for size, want := range map[string]int64{"4096": 4096, "64m": 64 << 20, "64MiB": 64 << 20, "1g": 1 << 30, "1.5g": 3 << 29} {
		if s, err := (&createFlags{shmSize: size}).spec(); err != nil || s.ShmSize != want {
			t.Errorf("--shm-size %s: %d, %v, want %d", size, s.ShmSize, err, want)
		}
	}
	for name, f := range map[string]createFlags{
		"--ip ":        {ip: "x"},
		"--ip6 ":       {ip6: "fd00::"[:4]},
		"--ip-range ":  {ipRange: "10.0.0.0"},
		"--ip6-range ": {ip6Range: "fd00::1"},
		"--shm-size ":  {shmSize: "0"},
		"--sysctl ":    {sysctls: []string{"x"}},
		"--label ":     {labels: []string{"x"}},
		"--dns ":       {names: nameFlags{dns: []string{"x"}}},
		"--add-host ":  {names: nameFlags{hosts: []string{":10.0.0.1"}}},
		"network ":     {network: "bridge"},
	} {
		if _, err := f.spec(); !errors.Is(err, sandbox.ErrInvalid) || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("error %v, want one that begins with %q", err, name)
		}
	}
}

func FuzzCreateFlagsHosts(f *testing.F) {
	for _, s := range []string{"a:10.0.0.1", "a:fd00::1", "a", ":", "a:", ":::", "a:fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		spec, err := (&createFlags{names: nameFlags{hosts: []string{s}}}).spec()
		if err != nil {
			return
		}
		if h := spec.Hosts[0]; h.Name == "" || !h.IP.IsValid() || strings.Contains(h.Name, ":") {
			t.Errorf("%q: %+v", s, h)
		}
		// What comes through must not be able to forge a line of /etc/hosts.
		if spec.Name = "x"; spec.Validate() == nil && strings.ContainsAny(spec.Hosts[0].Name, " \t\n#") {
			t.Errorf("%q passes", s)
		}
	})
}

func TestExecFlagsProcess(t *testing.T) {
	t.Setenv("PODBOX_TEST", "inherited")
	t.Setenv("TERM", "vt100")
	os.Unsetenv("PODBOX_UNSET")
	f := execFlags{workdir: "/srv", user: "1234:56", env: []string{"A=1", "A=2", "PODBOX_TEST", "PODBOX_UNSET", "E="}}
	p, err := f.process([]string{"true", "-x"})
	if err != nil {
		t.Fatal(err)
	}
	if want := (specs.User{UID: 1234, GID: 56}); p.Cwd != "/srv" || p.Terminal || !reflect.DeepEqual(p.User, want) || !slices.Equal(p.Args, []string{"true", "-x"}) {
		t.Errorf("%+v", p)
	}
	for _, want := range []string{"A=2", "PODBOX_TEST=inherited", "E=", "HOME=/", "TERM=vt100"} {
		if !slices.Contains(p.Env, want) {
			t.Errorf("environment %q, want %s in it", p.Env, want)
		}
	}
	if slices.ContainsFunc(p.Env, func(s string) bool { return strings.HasPrefix(s, "PODBOX_UNSET") }) {
		t.Error("a variable that is not set is passed on")
	}
	os.Unsetenv("TERM")
	if p, err = (&execFlags{tty: true}).process([]string{"true"}); err != nil || !p.Terminal || !slices.Contains(p.Env, "TERM=xterm") {
		t.Errorf("with a terminal: %+v, %v", p, err)
	}
	if wd, _ := os.Getwd(); p.Cwd != wd || int(p.User.UID) != os.Getuid() {
		t.Errorf("by default: %+v", p)
	}
	for _, f := range []execFlags{{env: []string{"=x"}}, {env: []string{""}}, {user: "no such user"}, {user: "0:no such group"}, {user: "-1"}} {
		if p, err := f.process([]string{"true"}); err == nil {
			t.Errorf("%+v: %+v, want an error", f, p)
		}
	}
}
