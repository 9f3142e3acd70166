package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/cmd/internal/global"
	"github.com/podbox/podbox/image"
	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
)

// complete says how values of flags are completed that mean the same with all verbs. What
// is not told of is no file.
func (a *app) complete(cmd *cobra.Command) {
	const no, noSpace = cobra.ShellCompDirectiveNoFileComp, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	files := cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	global.Complete(cmd, map[string]cobra.CompletionFunc{
		"image":       a.imageNames,
		"signal":      cobra.FixedCompletions(signals(), no),
		"stop-signal": cobra.FixedCompletions(signals(), no),
		"cap-add":     cobra.FixedCompletions(capabilities(), no),
		"cap-drop":    cobra.FixedCompletions(capabilities(), no),
		"share":       cobra.FixedCompletions([]cobra.Completion{"net", "ipc", "uts", "pid", "net,ipc,uts", "net,ipc,uts,pid"}, no),
		"security-opt": cobra.FixedCompletions([]cobra.Completion{
			"no-new-privileges", "seccomp=", "seccomp=unconfined", "apparmor=", "label=", "mask=", "unmask=", "unmask=ALL",
		}, noSpace),
		"ulimit": cobra.FixedCompletions([]cobra.Completion{
			"core=", "cpu=", "data=", "fsize=", "locks=", "memlock=", "msgqueue=", "nice=", "nofile=", "nproc=", "rss=", "rtprio=", "rttime=", "sigpending=", "stack=",
		}, noSpace),
		"runtime": cobra.FixedCompletions([]cobra.Completion{"runc", "crun"}, cobra.ShellCompDirectiveDefault),
		"device":  files,
	})
	for _, c := range cmd.Commands() {
		switch c.Name() {
		case "run":
			_ = c.RegisterFlagCompletionFunc("volume", a.volumeNames)
		case "ls":
			_ = c.RegisterFlagCompletionFunc("filter", cobra.FixedCompletions([]cobra.Completion{
				"state=running", "state=degraded", "state=stopped", "state=broken", "label=", "name=",
			}, noSpace))
		case "exec":
			_ = c.RegisterFlagCompletionFunc("container", func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
				if len(args) == 0 {
					return nil, no
				}
				return a.containerNames(args[0]), no
			})
		}
	}
}

func signals() []cobra.Completion {
	var names []cobra.Completion
	for n := range unix.Signal(32) {
		if name, ok := strings.CutPrefix(unix.SignalName(n), "SIG"); ok {
			names = append(names, name)
		}
	}
	return names
}

func capabilities() []cobra.Completion {
	names := []cobra.Completion{"ALL"}
	for _, c := range launcher.Capabilities() {
		names = append(names, strings.TrimPrefix(c, "CAP_"))
	}
	return names
}

// imageNames completes names of images.
func (a *app) imageNames(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	if store, err := image.Open(a.Images()); err == nil {
		list, _ := store.List()
		for _, img := range list {
			for _, name := range img.Names {
				if n, err := image.ParseName(name); err == nil {
					names = append(names, n.Familiar())
				}
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// volumeNames completes the volumes of the pod, of all pods if it has not been named yet,
// and paths of the host.
func (a *app) volumeNames(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if strings.HasPrefix(word, "/") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var names []cobra.Completion
	if rt, err := a.Runtime(); err == nil {
		infos, _ := rt.List(cmd.Context())
		for _, i := range infos {
			for _, v := range i.Volumes {
				if len(args) == 0 || args[0] == i.Name || strings.HasPrefix(i.ID, args[0]) {
					names = append(names, v.Name+":")
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// podThenPorts completes a pod and then ports that it publishes.
func (a *app) podThenPorts(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.pods(1)(cmd, args, word)
	}
	var ports []cobra.Completion
	_ = a.each(args[:1], func(pod *sandbox.Sandbox) error {
		i, err := pod.Info()
		if err == nil {
			for _, p := range i.Ports {
				ports = append(ports, p.String())
			}
		}
		return err
	})
	return ports, cobra.ShellCompDirectiveNoFileComp
}

// podThenFile completes a pod and then a file.
func (a *app) podThenFile(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.pods(1)(cmd, args, word)
	}
	return nil, cobra.ShellCompDirectiveDefault
}
