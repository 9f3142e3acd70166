package kube

import (
	"context"
	"fmt"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// mountImages mounts the files of the images that are volumes of the pod.
func (t *translation) mountImages(p place, s *supervisor.Spec, set imageSet) error {
	for i, m := range p.c.VolumeMounts {
		n := slices.IndexFunc(t.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name && v.Image != nil })
		if n < 0 {
			continue
		}
		to, err := set[t.pod.Spec.Volumes[n].Image.Reference].Mount(path.Clean(m.MountPath))
		if err != nil {
			return fmt.Errorf("volumeMounts[%d]: %w", i, err)
		}
		s.OCI.Mounts = append(s.OCI.Mounts, to)
	}
	return nil
}

// useVolumes keeps the images that are volumes as long as the pod is there. Those that
// containers are on are kept by them.
func useVolumes(ctx context.Context, p *corev1.Pod, pod *sandbox.Sandbox, set imageSet) error {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.Image == nil {
			continue
		}
		dir, err := pod.MakeStateDir()
		if err != nil {
			return err
		}
		if err := set[v.Image.Reference].Use(ctx, pod.ID(), dir); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	return nil
}
