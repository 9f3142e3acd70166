package supervisor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/podbox/podbox/volumes"
)

// When volumes with a bound are measured: for the first time, and then. To measure one may
// take no longer than that.
const (
	measureFirst = time.Second
	measureEvery = 10 * time.Second
)

// measure ends the pod when there is more in one of its volumes than may be, until the
// context ends.
func (l *leader) measure(ctx context.Context) {
	for delay := measureFirst; pause(ctx, delay); delay = measureEvery {
		for _, name := range slices.Sorted(maps.Keys(l.r.Life.Bounds)) {
			if bound := l.r.Life.Bounds[name]; l.exceeds(ctx, name, bound) {
				l.end("Evicted", fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit of %d bytes", name, bound),
					request{Grace: -1})
				return
			}
		}
	}
}

// exceeds reports whether there is more in a volume. What takes too long to be counted
// may have been counted far enough.
func (l *leader) exceeds(ctx context.Context, name string, bound int64) bool {
	dir, err := l.s.pod.StateDir()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, measureEvery)
	defer cancel()
	n, err := volumes.Usage(ctx, filepath.Join(dir, "volumes", name))
	return n > bound && (err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, volumes.ErrTooDeep))
}
