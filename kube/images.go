package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podbox/podbox/supervisor"
)

// Images brings images to this machine.
type Images interface {
	// Ensure returns an image, which is fetched first if the policy says so. Secrets are
	// contents of imagePullSecrets: files such as docker login writes, of the newer form
	// (auths and more) or, as its value, the older.
	Ensure(ctx context.Context, ref string, policy corev1.PullPolicy, secrets [][]byte) (Image, error)
}

// An Image is one that is there.
type Image interface {
	// Config returns what the image says of itself.
	Config() ImageConfig
	// Settle puts a container on the image, and has it run as a user.
	Settle(s *supervisor.Spec, u User) error
	// Use keeps the image from being removed as long as there is something at the path
	// owner. user, an ID, tells it from other uses.
	Use(ctx context.Context, user, owner string) error
	// Mount returns an OCI mount of the image's files, read-only. The image must be in
	// use when it is made.
	Mount(destination string) (specs.Mount, error)
}

// An ImageConfig is how an image wants to be run.
type ImageConfig struct {
	ID         string // what its name stood for
	Env        []string
	Entrypoint []string
	Cmd        []string
	WorkingDir string
	User       string
	StopSignal string
}

// An imageUse is a wish for an image.
type imageUse struct {
	ref    string
	policy corev1.PullPolicy
	at     *field.Path // the first that has it
}

// imagesOf returns what images a pod wants, each once.
func imagesOf(p *corev1.Pod) []imageUse {
	var uses []imageUse
	add := func(ref string, policy corev1.PullPolicy, at *field.Path) {
		same := func(u imageUse) bool { return u.ref == ref && u.policy == policy }
		if !slices.ContainsFunc(uses, same) {
			uses = append(uses, imageUse{ref, policy, at})
		}
	}
	for _, pl := range places(&p.Spec) {
		add(pl.c.Image, pl.c.ImagePullPolicy, pl.at.Child("image"))
	}
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.Image != nil {
			add(v.Image.Reference, v.Image.PullPolicy, specPath.Child("volumes").Index(i).Child("image", "reference"))
		}
	}
	return uses
}

// An imageSet is the images of a pod, by reference.
type imageSet map[string]Image

// ensure brings all images of a pod here, at once.
func ensure(ctx context.Context, images Images, p *corev1.Pod, secrets [][]byte) (imageSet, error) {
	uses := imagesOf(p)
	got := make([]Image, len(uses))
	errs := make([]error, len(uses))
	var all sync.WaitGroup
	for i, u := range uses {
		all.Go(func() {
			if got[i], errs[i] = images.Ensure(ctx, u.ref, u.policy, secrets); errs[i] != nil {
				errs[i] = fmt.Errorf("pod %q: %s: %w", p.Name, u.at, errs[i])
			}
		})
	}
	all.Wait()
	set := imageSet{}
	for i, u := range uses {
		set[u.ref] = got[i]
	}
	return set, errors.Join(errs...)
}

// pullSecrets returns what is in a pod's imagePullSecrets.
func (t *translation) pullSecrets() [][]byte {
	var out [][]byte
	for i, ref := range t.pod.Spec.ImagePullSecrets {
		at := specPath.Child("imagePullSecrets").Index(i)
		s := t.secret(t.pod.Namespace, ref.Name)
		if s == nil {
			t.note(at, fmt.Sprintf("no such Secret as %q in namespace %s", ref.Name, t.pod.Namespace))
			continue
		}
		switch {
		case s.Data[corev1.DockerConfigJsonKey] != nil:
			out = append(out, s.Data[corev1.DockerConfigJsonKey])
		case s.Data[corev1.DockerConfigKey] != nil:
			// The older form is what the newer one has as auths.
			b, err := json.Marshal(map[string]json.RawMessage{"auths": s.Data[corev1.DockerConfigKey]})
			if err == nil {
				out = append(out, b)
			}
		default:
			t.note(at, fmt.Sprintf("Secret %q has no %s", ref.Name, corev1.DockerConfigJsonKey))
		}
	}
	return out
}
