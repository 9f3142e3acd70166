package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/netns"
)

func TestMain(m *testing.M) {
	testenv.AsPlugin()
	testenv.Private()
	if line := os.Getenv(doEnv); line != "" {
		os.Exit(do(strings.Fields(line)))
	}
	os.Exit(m.Run())
}

// doEnv makes the test program do one thing to a pod and end, so that tests can
// kill it meanwhile: "ROOT VERB NAME [N]", where the program kills itself before
// its Nth step, or before the one of that name.
const doEnv = "PODBOX_TEST_DO"

func do(words []string) int {
	var hook func(string) error
	if len(words) > 3 {
		n, err := strconv.Atoi(words[3])
		hook = func(step string) error {
			if n--; n == 0 || err != nil && step == words[3] {
				unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
			return nil
		}
	}
	opts := Options{Root: words[0], hook: hook}
	if dir, plugged := strings.CutSuffix(words[0], "/run"); plugged && words[2] == plugSpec.Name { // see newPlugBed
		opts.StateDir, opts.CNI = dir+"/state", plugDriver(dir)
	}
	rt, err := Open(opts)
	if err == nil {
		err = verbs[words[1]](context.Background(), rt, words[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, ErrExists) {
			return 3
		}
		return 1
	}
	return 0
}

// verbs are what can be done to a pod.
var verbs = map[string]func(context.Context, *Runtime, string) error{
	"create": func(ctx context.Context, rt *Runtime, name string) error {
		spec := Spec{Name: name}
		for _, s := range []Spec{trialSpec, shapedSpec, plugSpec, policedSpec} {
			if name == s.Name {
				spec = s
			}
		}
		_, err := rt.Create(ctx, spec)
		return err
	},
	"publish": func(ctx context.Context, rt *Runtime, name string) error {
		return with(rt, name, func(s *Sandbox) error { return s.Publish(ctx, trialPort, netns.Port{Port: 91}) })
	},
	"unpublish": func(ctx context.Context, rt *Runtime, name string) error {
		return with(rt, name, func(s *Sandbox) error { return s.Unpublish(ctx, trialSpec.Ports[:2]...) })
	},
	"update": func(ctx context.Context, rt *Runtime, name string) error {
		return with(rt, name, func(s *Sandbox) error { return s.Update(ctx, trialChange) })
	},
	"start": func(ctx context.Context, rt *Runtime, name string) error {
		return with(rt, name, func(s *Sandbox) error { return s.Start(ctx) })
	},
	"stop": func(ctx context.Context, rt *Runtime, name string) error {
		return with(rt, name, func(s *Sandbox) error { return s.Stop(ctx, StopOptions{Grace: time.Second}) })
	},
	"remove": func(ctx context.Context, rt *Runtime, name string) error {
		return with(rt, name, func(s *Sandbox) error { return s.Remove(ctx) })
	},
}

// trialSpec is the pod that verbs are tried on. It takes every step there is; the host
// of the tests has no other use for its ports.
var (
	trialSpec = Spec{Name: "p", Ports: []netns.Port{
		{HostPort: 8080, Port: 80, Protocol: netns.TCP, Count: 1},
		{HostPort: 7000, Port: 7000, Protocol: netns.UDP, Count: 10},
		{Port: 81, Protocol: netns.TCP, Count: 1},
	}, Bandwidth: netns.Bandwidth{Ingress: 1e9}}
	shapedSpec  = Spec{Name: "shaped", Bandwidth: netns.Bandwidth{Egress: 1e9}}
	policedSpec = Spec{
		Name: "policed", Labels: map[string]string{"app": "web"},
		Network: netns.Network{Mode: netns.ModePod, IP: netip.MustParseAddr("10.88.9.9"), IP6: netip.MustParseAddr("fd70:6f64:626f:7800::909")},
		Policy:  netns.Policy{From: []netns.Peer{{Pod: "q"}}},
	}
	trialPort   = netns.Port{HostPort: 9090, Port: 90}
	trialChange = Change{
		Labels:    map[string]*string{"a": new(string)},
		Bandwidth: &netns.Bandwidth{Egress: 1e6},
		Policy:    &netns.Policy{From: []netns.Peer{{Pod: "q"}}},
		Names:     &Names{DNS: DNS{Search: []string{"example.org"}}},
	}
)

func with(rt *Runtime, name string, f func(*Sandbox) error) error {
	s, err := rt.Open(name)
	if err != nil {
		return err
	}
	return f(s)
}

// newRuntime returns a runtime in a directory of its own, and the world before it.
func newRuntime(t testing.TB, hook func(string) error) (*Runtime, testenv.World) {
	t.Helper()
	testenv.NeedRoot(t)
	root := t.TempDir()
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	rt, err := Open(Options{Root: root, hook: hook})
	if err != nil {
		t.Fatal(err)
	}
	// What a runtime keeps open from its first pod on is not a leak.
	if _, _, err := rt.birth.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt, testenv.Look(t, root)
}

func create(t testing.TB, rt *Runtime, spec Spec) *Sandbox {
	t.Helper()
	s, err := rt.Create(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Remove(context.Background()) })
	return s
}

func info(t testing.TB, s *Sandbox) *Info {
	t.Helper()
	i, err := s.Info()
	if err != nil {
		t.Fatal(err)
	}
	return i
}
