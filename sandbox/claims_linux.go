package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/volumes"
)

// Claims are volumes that outlive pods: directories below the state directory, each
// with the name that pods claim it by. They are nobody's: several runtimes may share
// a state directory, and so have them together. Which pods use one is in the pods'
// records, nowhere else.

func claimsIn(stateDir string) string { return filepath.Join(stateDir, "claims") }

// makeClaim returns a handle of the claim that a volume names, and makes it if there
// is none.
func makeClaim(ctx context.Context, rec *record, v volumes.Volume) (*os.File, error) {
	if rec.StateDir == "" {
		return nil, fmt.Errorf("state directory: %w: none is set", ErrInvalid)
	}
	dir := claimsIn(rec.StateDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := checkRoot(dir); err != nil {
		return nil, err
	}
	// Others may make it at the same time, or remove it.
	lock, err := flock.Wait(ctx, dir, flock.Exclusive)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	return v.Make(dir)
}

// Claims returns the names of the claims that there are, sorted, used by a pod or not:
// the directories in claims below the state directory.
func (rt *Runtime) Claims() ([]string, error) {
	entries, err := os.ReadDir(claimsIn(rt.stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var claims []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			claims = append(claims, e.Name())
		}
	}
	return claims, nil
}

// RemoveClaim removes a claim with all that is in it, unless a pod of this runtime has
// it for a volume, whether it runs or not: ErrClaimInUse. Another runtime on the same
// state directory is not asked. It is no error if there is none.
func (rt *Runtime) RemoveClaim(ctx context.Context, name string) error {
	v := volumes.Volume{Name: "v", Claim: &volumes.Claim{Name: name}}
	if err := v.Validate(); err != nil {
		return err
	}
	dir := claimsIn(rt.stateDir)
	lock, err := flock.Wait(ctx, dir, flock.Exclusive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	// A pod is on record before it claims anything.
	user, err := rt.claimedBy(name)
	if err != nil {
		return fmt.Errorf("claim %s: %w", name, err)
	}
	if user != "" {
		return fmt.Errorf("claim %s: %w by pod %q", name, ErrClaimInUse, user)
	}
	return volumes.Remove(ctx, dir, name)
}

// claimedBy returns the name of a pod that has a claim for a volume.
func (rt *Runtime) claimedBy(claim string) (string, error) {
	ids, err := rt.podIDs()
	if err != nil {
		return "", err
	}
	for _, id := range ids {
		rec, err := readRecord(rt.podDir(id))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it goes, or has not begun to claim
		}
		if err != nil {
			return "", err
		}
		for _, v := range rec.Spec.Volumes {
			if v.Claim != nil && v.Claim.Name == claim {
				return rec.Spec.Name, nil
			}
		}
	}
	return "", nil
}
