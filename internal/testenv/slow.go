package testenv

import (
	"os"
	"strconv"
	"time"
)

// Patience is how long a test waits for what is sure to come: d, or where the machine is
// known to be slow, because its processor is emulated or shared with many, as many times d as
// PODBOX_TEST_SLOW says. It is not for what is promised to be done within a time.
func Patience(d time.Duration) time.Duration {
	if n, err := strconv.Atoi(os.Getenv("PODBOX_TEST_SLOW")); err == nil && n > 1 {
		return time.Duration(n) * d
	}
	return d
}
