package kubecli

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/podbox/podbox/cmd/internal/twin"
	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/image/registry"
	"github.com/podbox/podbox/kube"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// manifestFlags say which manifests a verb is about.
type manifestFlags struct {
	files   []string
	lenient bool
}

func (f *manifestFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "`FILE` with Pods, ConfigMaps and Secrets, a directory of *.yaml, *.yml and *.json, or - for standard input; may be repeated")
	_ = cmd.MarkFlagFilename("filename", "yaml", "yml", "json")
}

func (f *manifestFlags) read(cmd *cobra.Command) (*kube.Manifests, error) {
	if len(f.files) == 0 {
		return nil, fmt.Errorf("%s: want -f FILE", cmd.Name())
	}
	sources, err := kube.Sources(f.files, cmd.InOrStdin())
	if err != nil {
		return nil, err
	}
	return kube.Decode(sources, kube.DecodeOptions{Lenient: f.lenient})
}

// supervised returns how the containers of pods are led: always by podbox itself, which is
// small.
func supervised() (supervisor.Options, error) {
	path, err := twin.Path(twin.Podbox)
	return supervisor.Options{Command: []string{path, twin.Supervise}}, err
}

// kubeOptions returns what package kube works with.
func (a *app) kubeOptions(cmd *cobra.Command) (kube.Options, error) {
	rt, err := a.Runtime()
	if err != nil {
		return kube.Options{}, err
	}
	opts, err := supervised()
	out, notes := cmd.OutOrStdout(), cmd.ErrOrStderr()
	return kube.Options{
		Runtime: rt, Supervisor: opts,
		Say:  func(line string) { fmt.Fprintln(out, line) },
		Note: func(line string) { fmt.Fprintln(notes, "podbox: "+line) },
	}, err
}

// images are those of the store, fetched one after the other: what is shown of two at once
// nobody could read.
type images struct {
	mu    sync.Mutex
	store *image.Store
	opts  registry.Options
	quiet bool
	out   *os.File
}

func (i *images) Ensure(ctx context.Context, ref string, policy corev1.PullPolicy, secrets [][]byte) (kube.Image, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	p := newProgress(ctx, i.out, i.quiet)
	defer p.close()
	s := kube.Store{Store: i.store, Options: registry.EnsureOptions{Options: i.opts, Tell: p.step, Progress: p.layer}}
	return s.Ensure(ctx, ref, policy, secrets)
}

// closing closes a runtime, and keeps the error of what was done with it.
func closing(rt *sandbox.Runtime, err *error) {
	if cerr := rt.Close(); *err == nil {
		*err = cerr
	}
}
