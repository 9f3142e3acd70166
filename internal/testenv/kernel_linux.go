package testenv

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// Before reports whether the kernel is older than Linux major.minor: for tests of what older ones
// refuse, or do otherwise.
func Before(t testing.TB, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	must(t, unix.Uname(&u))
	var a, b int
	_, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b)
	must(t, err)
	return a < major || a == major && b < minor
}
