// Command ociruntime starts a container in a pod with a real OCI runtime, such as
// runc: podbox holds the pod, the other runtime does all the rest.
//
//	ociruntime [-runtime runc] [-root DIR] BUNDLE
//
// It makes a pod, gives its namespaces (Sandbox.Namespaces) to the bundle's
// configuration, and runs the container twice: the second one, which replaces the
// first, finds the same address. Its bundle is left as it was.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/sandbox"
)

func main() {
	root := flag.String("root", "/run/ociruntime", "directory of the pods' records")
	runtime := flag.String("runtime", "runc", "OCI runtime")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(context.Background(), *root, *runtime, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "ociruntime:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root, runtime, bundle string) (err error) {
	rt, err := sandbox.Open(sandbox.Options{Root: root})
	if err != nil {
		return err
	}
	defer rt.Close()
	pod, err := rt.Create(ctx, sandbox.Spec{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pod.Remove(ctx)) }()

	config := filepath.Join(bundle, "config.json")
	original, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.WriteFile(config, original, 0o644)) }()
	patched, err := join(original, pod.Namespaces())
	if err != nil {
		return err
	}
	if err := os.WriteFile(config, patched, 0o644); err != nil {
		return err
	}
	for range 2 {
		cmd := exec.CommandContext(ctx, runtime, "run", "--bundle", bundle, pod.ID()[:12])
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s run: %w", runtime, err)
		}
	}
	return nil
}

// join replaces namespaces of an OCI configuration by those of a pod.
func join(config []byte, pod []specs.LinuxNamespace) ([]byte, error) {
	var spec specs.Spec
	if err := json.Unmarshal(config, &spec); err != nil {
		return nil, err
	}
	if spec.Linux == nil {
		return nil, errors.New("not a configuration for Linux")
	}
	for _, ns := range pod {
		spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(has specs.LinuxNamespace) bool {
			return has.Type == ns.Type
		})
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, ns)
	}
	spec.Hostname = "" // it is the pod's
	return json.MarshalIndent(&spec, "", "\t")
}
