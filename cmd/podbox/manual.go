package main

import (
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/manual"
	"github.com/podbox/podbox/cmd/internal/release"
	"github.com/podbox/podbox/cmd/internal/twin"
)

// manual is for those who build packages. podbox-kube writes the pages of its verbs.
func (a *app) manual() *cobra.Command {
	return &cobra.Command{
		Use:    "manual DIR",
		Short:  "Write the manual pages into a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			opts := release.Manual()
			opts.More = pageSections()
			opts.Skip = func(c *cobra.Command) bool { return c.DisableFlagParsing }
			if err := manual.Write(args[0], new(app).command(nil), opts); err != nil {
				return err
			}
			return twin.Become(a.args)
		},
	}
}

// pageSections are what podbox(1) has besides.
func pageSections() []manual.Section {
	return []manual.Section{{Title: "EXIT STATUS", Items: [][2]string{
		{"0", "What was asked is done."},
		{"1", "Of exists: no. Of doctor: something is missing."},
		{"125", "podbox failed. What was attempted, on what, and why it failed is one line on standard error, with a cure if there is one."},
		{"126", "The program to be run could not be executed."},
		{"127", "There is no such program."},
		{"other", "That of the program that was run; 128+N if signal N ended it."},
	}}, {Title: "FILES", Items: [][2]string{
		{"/run/podbox", "Records of pods, on a tmpfs: they do not survive a reboot. See --root."},
		{"/var/lib/podbox", "Images, volumes on the disk, and logs. See --state-dir."},
		{"/etc/podbox/pods/NAME.yaml", "Manifests of pods that come up at boot, if podbox@NAME.service is enabled."},
		{"/etc/containers/registries.conf", "Registries: see containers-registries.conf(5)."},
		{"/etc/containers/certs.d", "Authorities of registries: see containers-certs.d(5)."},
	}}}
}
