// Package overlay makes overlayfs mounts of directories of a host: see overlayfs.rst of
// the kernel's documentation. A mount is made detached, so that it is visible to nobody,
// and ends with its descriptor unless it is attached somewhere: a crash leaves nothing
// but what is in its directories.
//
// It needs root, and Linux 5.12; an ID-mapped one Linux 5.19.
package overlay

import "os"

// Options are the parts of an overlay. They are paths of the calling process.
type Options struct {
	// Lower are the directories below, the lowest first. There is at least one.
	Lower []string
	// Upper is where changes are kept, Work is an empty directory on the same
	// filesystem, which the kernel needs. Without them the mount is read-only.
	Upper, Work string
	// Volatile spares the disk: what is written in the mount is not forced there,
	// whatever asks for it, neither then nor when the mount ends. After a crash of the
	// kernel Upper and Work are of no use.
	Volatile bool
	// IDMap, unless it is nil, is a user namespace whose IDs the owners of files in
	// Lower are taken for. Files that are made in Upper have the host's IDs.
	IDMap *os.File
	// Attrs are the MOUNT_ATTR_ flags of the mount.
	Attrs int
	// Source is what lists of mounts call it. Empty: overlay.
	Source string
}

// MaxLower is how many directories there may be below: as many as the kernel takes since
// Linux 5.8. Before Linux 6.7, which has no option for each of them, it is maxShort.
const MaxLower = 500
