package launcher

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/sandbox"
)

// Patch changes an OCI configuration so that the runtime that is given it starts
// its container in the pod. hook, a path and its arguments, is a command that
// calls Joined with what it reads on standard input: the runtime runs it as a
// createRuntime hook. Without it the container has a /dev/shm of its own, and
// nothing checks that the namespaces are still those of the pod.
//
// The pod must run; the configuration is good until it is stopped.
func Patch(pod *sandbox.Sandbox, spec *specs.Spec, hook []string) error {
	info, err := pod.Info()
	if err != nil {
		return err
	}
	if info.PausePID == 0 {
		return fmt.Errorf("pod %q: %w: its state is %s", info.Name, sandbox.ErrNotRunning, info.State)
	}
	if spec.Linux == nil {
		spec.Linux = new(specs.Linux)
	}
	pods := filepath.Dir(info.Dir) + "/"
	spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return strings.HasPrefix(m.Source, pods) })
	if patched(spec, hook) {
		// It was for another pod, or for this one when it ran before.
		for i := range spec.Linux.Namespaces {
			if ns := &spec.Linux.Namespaces[i]; strings.HasPrefix(ns.Path, "/proc/") {
				ns.Path = ""
			}
		}
	}
	for _, ns := range pod.Namespaces() {
		spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(has specs.LinuxNamespace) bool {
			return has.Type == ns.Type
		})
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, ns)
		switch ns.Type {
		case specs.UTSNamespace:
			// It would set the pod's.
			spec.Hostname, spec.Domainname = "", ""
		case specs.NetworkNamespace, specs.IPCNamespace:
			// The same holds for sysctls.
			if len(spec.Linux.Sysctl) > 0 {
				return fmt.Errorf("linux.sysctl: %w: the pod's namespaces are set by podbox create --sysctl", ErrInvalid)
			}
		}
	}
	files := sandbox.MemberFiles()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := files[name]
		if _, err := os.Stat(pod.File(name)); err != nil {
			continue
		}
		spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == path })
		spec.Mounts = append(spec.Mounts, specs.Mount{
			Destination: path, Type: "bind", Source: pod.File(name),
			Options: []string{"bind", "nosuid", "nodev", "noexec"},
		})
	}
	if len(hook) == 0 {
		return nil
	}
	shm := func(m specs.Mount) bool { return m.Destination == "/dev/shm" }
	if slices.Contains(info.Share, sandbox.IPC) && !slices.ContainsFunc(spec.Mounts, shm) {
		// For the hook to mount on.
		spec.Mounts = append(spec.Mounts, specs.Mount{
			Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=4096"},
		})
	}
	if spec.Hooks == nil {
		spec.Hooks = new(specs.Hooks)
	}
	spec.Hooks.CreateRuntime = slices.DeleteFunc(spec.Hooks.CreateRuntime, same(hook))
	spec.Hooks.CreateRuntime = append(spec.Hooks.CreateRuntime, specs.Hook{Path: hook[0], Args: hook})
	return nil
}

// patched reports whether a configuration has been patched before.
func patched(spec *specs.Spec, hook []string) bool {
	return spec.Hooks != nil && slices.ContainsFunc(spec.Hooks.CreateRuntime, same(hook))
}

// same returns whether a hook is the one given, for whatever pod.
func same(hook []string) func(specs.Hook) bool {
	return func(has specs.Hook) bool {
		return len(hook) > 1 && has.Path == hook[0] && len(has.Args) > 1 && has.Args[1] == hook[1]
	}
}

// Joined completes a container that an OCI runtime has created in the pod and not
// yet started: it makes sure that the container is in the pod's namespaces, since
// the paths in a configuration may have come to mean those of another process, and
// mounts the pod's /dev/shm. root is the container's root filesystem as the
// bundle's configuration has it.
func Joined(ctx context.Context, pod *sandbox.Sandbox, state *specs.State, root string) error {
	if !filepath.IsAbs(root) {
		root = filepath.Join(state.Bundle, root)
	}
	container, err := proc.OpenPID(state.Pid)
	if err != nil {
		return fmt.Errorf("container %q: %w", state.ID, err)
	}
	defer container.Close()
	entry, err := pod.Enter(ctx)
	if err != nil {
		return fmt.Errorf("enter %v: %w", pod, err)
	}
	defer entry.Close()
	if err := entry.Holds(state.Pid); err != nil {
		return fmt.Errorf("container %q is not in %v: %w", state.ID, pod, err)
	}
	mounts, err := volumeMounts(ctx, entry, state)
	if err != nil {
		return fmt.Errorf("container %q: %w", state.ID, err)
	}
	defer mounts.close()
	return nsthread.Do(func() error {
		if err := nsthread.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if err := nsthread.Join(container, unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := mounts.place(entry, root); err != nil {
			return fmt.Errorf("container %q: %w", state.ID, err)
		}
		return nil
	})
}

// volumeMounts opens the volumes that a container of another runtime is to have.
func volumeMounts(ctx context.Context, entry *sandbox.Entry, state *specs.State) (*rootfs, error) {
	r := &rootfs{spec: &specs.Spec{Linux: new(specs.Linux)}}
	if listed := state.Annotations[volumesAnnotation]; listed != "" {
		if err := json.Unmarshal([]byte(listed), &r.spec.Mounts); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", volumesAnnotation, err)
		}
	}
	err := r.open()
	if err == nil {
		err = r.borrowVolumes(ctx, entry)
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// place puts the volumes, and the pod's /dev/shm, into a root directory. The calling thread is in
// its mount namespace.
func (r *rootfs) place(entry *sandbox.Entry, root string) (err error) {
	if r.root, err = os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return err
	}
	if entry.Shm != nil {
		shm, err := openIn(r.root, "dev/shm", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer shm.Close()
		if err := mnt.Cover(entry.Shm, shm); err != nil {
			return fmt.Errorf("mount /dev/shm: %w", err)
		}
	}
	for _, m := range r.mounts {
		dir, err := isDir(m.tree)
		if err == nil {
			err = r.cover(m, dir)
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.dest, err)
		}
	}
	return nil
}
