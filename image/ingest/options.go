package ingest

import (
	"errors"
	"runtime"

	"github.com/podbox/podbox/image"
)

var (
	// ErrRefused is matched by errors about layers that are not unpacked for what is
	// in them.
	ErrRefused = errors.New("layer refused")
	// ErrPlatform is matched when an image is not there for the platform asked for.
	ErrPlatform = errors.New("not there for this platform")
)

// Options are those of Add, Load and Import. The zero value is the default of each.
type Options struct {
	// Names are what the image shall be called, besides what an archive calls it.
	Names []string
	// Platform chooses of several images in an archive those for it. Zero: the
	// platform that this program is for.
	Platform image.Platform
	// Progress, unless nil, is told what happens to layers, by several goroutines at
	// once. It is not to wait for anything.
	Progress func(Progress)
	// Limits bound what is unpacked.
	Limits Limits
	// Parallel is how many layers are fetched and unpacked at once at most. 0: 3.
	Parallel int
}

// Limits bound one image.
type Limits struct {
	Size    int64 // bytes of all files; 0: 64 GiB
	Entries int64 // entries of its layers; 0: 4 million
}

// A Progress tells how far a layer is.
type Progress struct {
	Layer string // the digest of its blob, or of the layer uncompressed if there is no blob
	Index int    // which it is, the lowest being 0, of Count
	Count int
	Stage Stage
	Done  int64 // bytes of the blob
	Total int64 // 0 if that is not known
}

// A Stage is where a layer is on its way in.
type Stage string

const (
	Waiting   Stage = "waiting"   // for its turn, or for another process that unpacks it
	Present   Stage = "present"   // it was there already
	Unpacking Stage = "unpacking" // it is fetched, and unpacked meanwhile
	Syncing   Stage = "syncing"   // it is unpacked, and not yet on the disk
	Done      Stage = "done"
)

const (
	defaultSize     = 64 << 30
	defaultEntries  = 4 << 20
	defaultParallel = 3
)

func (o Options) withDefaults() Options {
	if o.Limits.Size <= 0 {
		o.Limits.Size = defaultSize
	}
	if o.Limits.Entries <= 0 {
		o.Limits.Entries = defaultEntries
	}
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	if o.Platform == (image.Platform{}) {
		o.Platform = HostPlatform()
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	return o
}

// HostPlatform is the platform that this program is for.
func HostPlatform() image.Platform {
	return image.Platform{OS: "linux", Architecture: runtime.GOARCH}
}
