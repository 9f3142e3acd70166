// Package testenv says what a test may rely on.
package testenv

import (
	"os"
	"testing"
)

// NeedRoot skips a test that cannot do its work without root. With
// PODBOX_PRIVILEGED=1 in the environment, as in CI, it fails instead: a missing
// privilege must not look like a passed test.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("PODBOX_PRIVILEGED") == "1" {
		t.Fatal("PODBOX_PRIVILEGED=1, but not root")
	}
	t.Skip("needs root")
}
