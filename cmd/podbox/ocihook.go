package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/launcher"
)

// hookCommand is the command line of ociHook for a pod.
func hookCommand(root, id string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return []string{self, "oci-hook", "--root", root, id}, nil
}

// ociHook is what an OCI runtime calls while it creates a container from a
// configuration that podbox spec has patched. It runs as root on the host and
// reads the container's state on standard input.
func (a *app) ociHook() *cobra.Command {
	return &cobra.Command{
		Use:    "oci-hook POD",
		Short:  "Bring a container of another OCI runtime into a pod",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var state specs.State
			if err := json.NewDecoder(io.LimitReader(cmd.InOrStdin(), 1<<20)).Decode(&state); err != nil {
				return fmt.Errorf("state of the container: %w", err)
			}
			b, err := os.ReadFile(filepath.Join(state.Bundle, "config.json"))
			if err != nil {
				return err
			}
			var config specs.Spec
			if err := json.Unmarshal(b, &config); err != nil {
				return fmt.Errorf("%s: %w", filepath.Join(state.Bundle, "config.json"), err)
			}
			if config.Root == nil {
				return fmt.Errorf("container %q: no root filesystem", state.ID)
			}
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			pod, err := rt.Open(args[0])
			if err != nil {
				return err
			}
			return launcher.Joined(cmd.Context(), pod, &state, config.Root.Path)
		},
	}
}
