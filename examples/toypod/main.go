// Command toypod is a container runtime that has pods: it embeds podbox's packages
// sandbox, launcher and supervisor, makes a pod with limits and a volume, runs a
// container in it for each of its command lines, all at once, and removes the pod when
// the last has ended.
//
//	toypod [-root DIR] ROOTFS "COMMAND [ARG...]"...
//
// The containers have ROOTFS for their root, each with the usual isolation. They
// share one IP address, one localhost, one set of IPC objects, /dev/shm and, at /box,
// the volume:
//
//	toypod rootfs "/podtalk file-read /box/letter" "/podtalk file-write /box/letter hello"
//
// The exit status is the highest of theirs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
	"github.com/podbox/podbox/volumes"
)

func main() {
	root := flag.String("root", "/run/toypod", "directory of the pods' records")
	flag.Parse()
	rootfs, err := filepath.Abs(flag.Arg(0))
	if flag.NArg() < 2 || err != nil {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status, err := run(ctx, *root, rootfs, flag.Args()[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "toypod:", err)
		status = 125
	}
	os.Exit(status)
}

func run(ctx context.Context, root, rootfs string, commands []string) (status int, err error) {
	rt, err := sandbox.Open(sandbox.Options{Root: root})
	if err != nil {
		return 0, err
	}
	defer rt.Close()
	sb, err := rt.Create(ctx, sandbox.Spec{
		Volumes: []volumes.Volume{{Name: "box", Memory: &volumes.Memory{Size: 1 << 20}}},
		Limits:  sandbox.Limits{Memory: 64 << 20, CPU: 500, PIDs: 64}, // 64 MiB, half a CPU
	})
	if err != nil {
		return 0, err
	}
	pod := supervisor.Open(sb, supervisor.Options{})
	// Whatever happens, the pod goes, and all that runs in it.
	defer func() { err = errors.Join(err, pod.Remove(context.WithoutCancel(ctx), sandbox.StopOptions{})) }()

	var running []*supervisor.Foreground
	for _, command := range commands {
		c, err := pod.Run(ctx, container(rootfs, command), launcher.IO{Stdout: os.Stdout, Stderr: os.Stderr})
		if err != nil {
			return 0, err
		}
		running = append(running, c)
	}
	for _, c := range running {
		s, err := c.Wait(ctx)
		if err != nil {
			return 0, err
		}
		status = max(status, s)
	}
	return status, nil
}

// container is one with a root of its own, the usual isolation, and the volume.
func container(rootfs, command string) supervisor.Spec {
	oci := launcher.Default(rootfs, strings.Fields(command)...)
	oci.Mounts = append(oci.Mounts, specs.Mount{Destination: "/box", Type: launcher.VolumeType, Source: "box"})
	return supervisor.Spec{OCI: oci, DefaultSeccomp: true}
}
