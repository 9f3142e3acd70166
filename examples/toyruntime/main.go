// Command toyruntime is the smallest container runtime that has pods: it embeds
// podbox's packages sandbox and launcher, makes a pod, runs the programs of its
// command line in it, all at once, and removes the pod when the last has ended.
//
//	toyruntime [-root DIR] COMMAND [ARG...] [+ COMMAND [ARG...]]...
//
// The programs have one IP address, one localhost, one set of IPC objects and one
// /dev/shm. The exit status is the highest of theirs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
)

func main() {
	root := flag.String("root", "/run/toyruntime", "directory of the pods' records")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status, err := run(ctx, *root, programs(flag.Args()))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "toyruntime:", err)
		status = 125
	}
	os.Exit(status)
}

// programs splits a command line at the words "+".
func programs(words []string) [][]string {
	var all [][]string
	for {
		i := slices.Index(words, "+")
		if i < 0 {
			return append(all, words)
		}
		all, words = append(all, words[:i]), words[i+1:]
	}
}

func run(ctx context.Context, root string, programs [][]string) (status int, err error) {
	rt, err := sandbox.Open(sandbox.Options{Root: root})
	if err != nil {
		return 0, err
	}
	defer rt.Close()
	pod, err := rt.Create(ctx, sandbox.Spec{Network: netns.Pod()})
	if err != nil {
		return 0, err
	}
	// Whatever happens, the pod goes, and all that runs in it.
	defer func() { err = errors.Join(err, pod.Remove(context.WithoutCancel(ctx))) }()

	var running []*launcher.Process
	for _, args := range programs {
		p, err := launcher.Start(ctx, pod, &specs.Spec{
			Process: &specs.Process{Args: args, Cwd: "/", Env: os.Environ()},
		}, launcher.IO{Stdout: os.Stdout, Stderr: os.Stderr})
		if err != nil {
			return 0, err
		}
		running = append(running, p)
	}
	for _, p := range running {
		s, err := p.Wait(ctx)
		if err != nil {
			return 0, err
		}
		status = max(status, s)
	}
	return status, nil
}
