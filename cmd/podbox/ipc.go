package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/form"
	"github.com/podbox/podbox/ipcns"
)

func (a *app) ipc() *cobra.Command {
	var out form.Choice
	cmd := &cobra.Command{
		Use:   "ipc [flags] POD",
		Short: "Show the System V and POSIX IPC objects that a pod holds",
		Example: `  podbox ipc web
  podbox ipc -o json web`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := out.Parse()
			if err != nil {
				return err
			}
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			pod, err := rt.Open(args[0])
			if err != nil {
				return err
			}
			objects, err := pod.IPC(cmd.Context())
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			switch {
			case t != nil:
				return form.Each(w, t, []*ipcns.Objects{objects})
			case out.Form == "table":
				return printIPC(w, objects)
			}
			return form.Encode(w, out.Form, objects)
		},
		ValidArgsFunction: a.pods(1),
	}
	out.Flags(cmd, "table", "json", "yaml")
	return cmd
}

func printIPC(w io.Writer, o *ipcns.Objects) error {
	var rows [][]string
	row := func(kind, name string, id any, uid int, mode string, bytes any, detail string) {
		rows = append(rows, []string{kind, name, fmt.Sprint(id), fmt.Sprint(uid), mode, fmt.Sprint(bytes), detail})
	}
	for _, s := range o.SharedMemory {
		row("sysv shm", s.Key, s.ID, s.UID, s.Mode, s.Bytes, fmt.Sprintf("%d attached", s.Attached))
	}
	for _, s := range o.Semaphores {
		row("sysv sem", s.Key, s.ID, s.UID, s.Mode, "-", fmt.Sprintf("%d semaphores", s.Count))
	}
	for _, q := range o.MessageQueues {
		row("sysv msg", q.Key, q.ID, q.UID, q.Mode, q.Bytes, fmt.Sprintf("%d messages", q.Messages))
	}
	for _, q := range o.PosixQueues {
		row("posix mq", q.Name, "-", q.UID, q.Mode, q.Bytes, "-")
	}
	for _, s := range o.PosixMemory {
		row("posix shm", s.Name, "-", s.UID, s.Mode, s.Bytes, "-")
	}
	return form.Table(w, []string{"KIND", "KEY/NAME", "ID", "UID", "MODE", "BYTES", "DETAIL"}, rows)
}
