package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
)

func (a *app) spec() *cobra.Command {
	return &cobra.Command{
		Use:   "spec POD [config.json|-]",
		Short: "Patch an OCI configuration so that another OCI runtime joins the pod",
		Long: `Patch the config.json of an OCI bundle, in place, so that any OCI runtime starts
its container in the pod: namespaces, /dev/shm, /dev/mqueue, /sys, hosts,
resolv.conf and hostname. With - read standard input and write standard output.
The pod's /dev/shm is brought in by a createRuntime hook that calls podbox.

The configuration is good for as long as the pod runs: patch it again after
podbox start or restart.`,
		Example: `  runc spec --bundle . && podbox spec web && runc run c1
  podbox spec web - <config.in >config.json`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.podThenFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "config.json"
			if len(args) == 2 {
				path = args[1]
			}
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			pod, err := rt.Open(args[0])
			if err != nil {
				return err
			}
			hook, err := hookCommand(rt.Root(), pod.ID())
			if err != nil {
				return err
			}
			if path == "-" {
				b, err := patch(pod, cmd.InOrStdin(), hook)
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(b)
				return err
			}
			return patchFile(pod, path, hook)
		},
	}
}

func patch(pod *sandbox.Sandbox, r io.Reader, hook []string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, 16<<20))
	if err != nil {
		return nil, err
	}
	// A field that we do not know would be lost: better to say so.
	config := new(specs.Spec)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(config); err != nil {
		return nil, fmt.Errorf("OCI configuration: %w", err)
	}
	if err := launcher.Patch(pod, config, hook); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	err = e.Encode(config)
	return out.Bytes(), err
}

func patchFile(pod *sandbox.Sandbox, path string, hook []string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	b, err := patch(pod, f, hook)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".config-*.json")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err == nil {
		err = tmp.Chmod(st.Mode().Perm())
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	return err
}
