package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/volumes"
)

func claimSpec(name, claim string) Spec {
	return Spec{
		Name: name, Network: netns.Network{Mode: netns.ModeNone},
		Volumes: []volumes.Volume{{Name: "v", Claim: &volumes.Claim{Name: claim}}},
	}
}

func newClaimRuntime(t *testing.T) *Runtime {
	t.Helper()
	testenv.NeedRoot(t)
	root := t.TempDir()
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	rt, err := Open(Options{Root: root, StateDir: filepath.Join(t.TempDir(), "state")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

// A claim is there with its first pod, and until somebody removes it.
func TestClaims(t *testing.T) {
	rt := newClaimRuntime(t)
	want := func(when string, names ...string) {
		t.Helper()
		if got, err := rt.Claims(); !slices.Equal(got, names) || err != nil {
			t.Errorf("%s: %q, %v, want %q", when, got, err, names)
		}
	}
	want("before")
	if err := rt.RemoveClaim(bg, "none"); err != nil {
		t.Errorf("no state directory: %v", err)
	}
	s := create(t, rt, claimSpec("a", "data.db"))
	want("in use", "data.db")
	file := filepath.Join(rt.StateDir(), "claims/data.db/file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(bg, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := rt.RemoveClaim(bg, "data.db"); !errors.Is(err, ErrClaimInUse) {
		t.Errorf("of a stopped pod: %v", err)
	}
	if err := s.Start(bg); err != nil {
		t.Error(err)
	}
	if err := s.Remove(bg); err != nil {
		t.Error(err)
	}
	if _, err := rt.Sweep(bg); err != nil {
		t.Error(err)
	}
	want("after rm and gc", "data.db")
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := rt.RemoveClaim(bg, "data.db"); err != nil {
			t.Error(err)
		}
	}
	want("removed")
	for _, name := range []string{"", "..", "a/b", "../pods"} {
		if err := rt.RemoveClaim(bg, name); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Pods that claim the same at once all get it, while others try to remove it: it is
// never gone from a pod that has it.
func TestClaimsAtOnce(t *testing.T) {
	rt := newClaimRuntime(t)
	var all sync.WaitGroup
	for n := range 6 {
		all.Go(func() {
			name := string(rune('a' + n))
			s, err := rt.Create(bg, claimSpec(name, "shared"))
			if err != nil {
				t.Error(err)
				return
			}
			if err := rt.RemoveClaim(bg, "shared"); !errors.Is(err, ErrClaimInUse) {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := os.Stat(filepath.Join(rt.StateDir(), "claims/shared")); err != nil {
				t.Error(err)
			}
			if err := s.Remove(context.Background()); err != nil {
				t.Error(err)
			}
			if err := rt.RemoveClaim(bg, "shared"); err != nil && !errors.Is(err, ErrClaimInUse) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got, err := rt.Claims(); len(got) != 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
