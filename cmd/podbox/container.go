package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/exit"
	"github.com/podbox/podbox/cmd/internal/twin"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// runSupervisor is podbox as the supervisor of a pod.
func runSupervisor(args []string) (status int) {
	opts := supervisor.Options{}
	if len(args) == 3 {
		opts.Hook, _ = hookCommand(args[0], args[2])
	}
	if err := supervisor.Serve(context.Background(), args, os.NewFile(3, "ready"), opts); err != nil {
		return exit.Failed
	}
	return 0
}

// open returns a pod with its containers.
func (a *app) open(pod *sandbox.Sandbox) *supervisor.Pod {
	opts := supervisor.Options{Command: []string{"/proc/self/exe", twin.Supervise}}
	opts.Hook, _ = hookCommand(pod.Runtime().Root(), pod.ID())
	return supervisor.Open(pod, opts)
}

// findRuntime returns the path of another OCI runtime.
func findRuntime(name string) (string, error) {
	if name == "" || strings.Contains(name, "/") {
		return name, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("--runtime %s: %w", name, err)
	}
	return path, nil
}

// pod opens the pod that a command line names.
func (a *app) pod(ref string) (*supervisor.Pod, error) {
	rt, err := a.Runtime()
	if err != nil {
		return nil, err
	}
	pod, err := rt.Open(ref)
	if err != nil {
		return nil, err
	}
	return a.open(pod), nil
}

// A containerFlag is --container of verbs that are about pods without it.
type containerFlag struct{ name string }

func (f *containerFlag) add(a *app, cmd *cobra.Command, does string) {
	cmd.Flags().StringVarP(&f.name, "container", "c", "", does+" this `container` of the pod")
	_ = cmd.RegisterFlagCompletionFunc("container", func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.containerNames(args[0]), cobra.ShellCompDirectiveNoFileComp
	})
}

func (a *app) containerNames(ref string) []cobra.Completion {
	pod, err := a.pod(ref)
	if err != nil {
		return nil
	}
	list, _ := pod.List()
	var names []cobra.Completion
	for _, s := range list {
		names = append(names, cobra.CompletionWithDesc(s.Name, string(s.State)))
	}
	return names
}

// each calls ofPod for each pod named; or ofContainer for the container named of the
// one pod.
func (f *containerFlag) each(ctx context.Context, a *app, refs []string, ofPod func(*supervisor.Pod) error, ofContainer func(*supervisor.Container) error) error {
	if f.name == "" {
		return a.each(refs, func(pod *sandbox.Sandbox) error { return ofPod(a.open(pod)) })
	}
	if len(refs) != 1 {
		return fmt.Errorf("--container: %w: want one pod", sandbox.ErrInvalid)
	}
	pod, err := a.pod(refs[0])
	if err != nil {
		return err
	}
	c, err := pod.Container(f.name)
	if err != nil {
		return err
	}
	return ofContainer(c)
}

// one returns the container of the pod that a command is about: the one named, or
// the only one.
func (f *containerFlag) one(pod *supervisor.Pod) (*supervisor.Container, error) {
	if f.name != "" {
		return pod.Container(f.name)
	}
	list, err := pod.List()
	switch {
	case err != nil:
		return nil, err
	case len(list) == 1:
		return pod.Container(list[0].Name)
	case len(list) == 0:
		return nil, fmt.Errorf("%v: %w", pod, supervisor.ErrNotFound)
	}
	return nil, errors.New("the pod has several containers: say which by --container")
}
