// Package fdtable makes the table of descriptors of this process grow while there is
// something else to do.
//
// A process begins with room for 64, unless its parent had a higher one open, as
// interactive shells do. When threads share the table, it grows only after a grace period
// of RCU, some ten milliseconds (expand_fdtable of the kernel), which is longer than
// podbox takes for most things, and who needs a descriptor of 64 or more waits for that.
package fdtable

import (
	"golang.org/x/sys/unix"
)

// Grow begins to have room for 256 descriptors. It does not wait for that.
func Grow() {
	go func() {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 255)
		if err == nil {
			unix.Close(fd)
		}
	}()
}
