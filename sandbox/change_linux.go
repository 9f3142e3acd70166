package sandbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/flock"
	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/steps"
	"github.com/podbox/podbox/volumes"
)

// Describe replaces the pod's labels and annotations.
func (s *Sandbox) Describe(ctx context.Context, labels, annotations map[string]string) error {
	return s.locked(ctx, "describe", func(rec *record, _ *flock.Lock) error {
		next := *rec
		next.Spec.Labels, next.Spec.Annotations = labels, annotations
		if err := next.Spec.Validate(); err != nil {
			return err
		}
		if maps.Equal(labels, rec.Spec.Labels) || rec.State != Running && rec.State != Stopped {
			return next.write(s.rt.podDir(s.id))
		}
		// Labels are what policies go by. Of a pod that is leaving they do not: its address
		// may be another's by now.
		return steps.Run(ctx, s.rt.updatePlan(rec, &next, Change{}), s.rt.hook)
	})
}

// UpdateFiles replaces what is in volumes of files, which the pod has by the same names,
// also of those that members have mounted: see volumes.Volume.Write. ErrNoVolume if the pod
// has no such volume of files. After an error some may be updated; to repeat it is no harm.
func (s *Sandbox) UpdateFiles(ctx context.Context, vs []volumes.Volume) error {
	return s.locked(ctx, "update volumes of", func(rec *record, _ *flock.Lock) error {
		for _, v := range vs {
			i := slices.IndexFunc(rec.Spec.Volumes, func(old volumes.Volume) bool { return old.Name == v.Name })
			if i < 0 || v.Files == nil || rec.Spec.Volumes[i].Files == nil {
				return fmt.Errorf("volume %q: %w of files", v.Name, ErrNoVolume)
			}
			files := *v.Files
			files.Memory = rec.Spec.Volumes[i].Files.Memory // where it is, it stays
			rec.Spec.Volumes[i].Files = &files
		}
		if err := rec.Spec.Validate(); err != nil {
			return err
		}
		// The record first: what is not there yet is made of it.
		if err := rec.write(s.rt.podDir(s.id)); err != nil {
			return err
		}
		for _, v := range rec.Spec.Volumes {
			if !slices.ContainsFunc(vs, func(u volumes.Volume) bool { return u.Name == v.Name }) {
				continue
			}
			if err := s.rt.updateFiles(rec, v); err != nil {
				return fmt.Errorf("volume %s: %w", v.Name, err)
			}
		}
		return nil
	})
}

func (rt *Runtime) updateFiles(rec *record, v volumes.Volume) error {
	if !v.InMemory() {
		f, err := rt.makeVolume(rec, v)
		if err != nil {
			return err
		}
		return f.Close()
	}
	if rec.State != Running {
		return nil
	}
	pause, err := openPause(rec)
	if errors.Is(err, proc.ErrGone) {
		return nil // and with it the volume, or it is found again as it is
	}
	if err != nil {
		return err
	}
	defer pause.Close()
	return nsthread.Do(func() error {
		if err := enterMounts(pause); err != nil {
			return err
		}
		if there, err := mnt.IsRoot(volumePoint(v.Name)); err != nil || !there {
			return ignoreAbsent(err)
		}
		root, err := os.OpenFile(volumePoint(v.Name), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer root.Close()
		return writeVolume(root, v)
	})
}

func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
