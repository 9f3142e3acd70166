package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/form"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// statsRow are the figures of a pod, or of a container of one.
type statsRow struct {
	Pod       string            `json:"pod"`
	Container string            `json:"container,omitempty"`
	CPU       float64           `json:"cpuPercent"` // of one CPU, since the last look or the start
	Traffic   *netns.Traffic    `json:"traffic,omitempty"`
	Stats     *supervisor.Stats `json:"stats"`
}

func (a *app) stats() *cobra.Command {
	var (
		out      form.Choice
		noStream bool
		interval time.Duration
	)
	cmd := &cobra.Command{
		Use:   "stats [flags] [POD...]",
		Short: "Show what pods and their containers use",
		Long: `Show what pods and their containers use of CPU, memory, processes, disks and
network: of all pods or of those named, every second until it is interrupted, or once
with --no-stream. CPU is in percent of one CPU.`,
		Example: `  podbox stats
  podbox stats --no-stream -o json web`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.pods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := out.Parse()
			if err != nil {
				return err
			}
			if interval < 10*time.Millisecond {
				return fmt.Errorf("--interval %s: %w: want at least 10ms", interval, sandbox.ErrInvalid)
			}
			last := map[string]sample{}
			for round := 0; ; round++ {
				rows, err := a.statsRows(cmd, args, last)
				if err != nil {
					return err
				}
				if round > 0 || !noStream {
					w := cmd.OutOrStdout()
					switch {
					case t != nil:
						err = form.Each(w, t, rows)
					case out.Form != "table":
						err = form.Encode(w, out.Form, rows)
					default:
						err = printStats(w, rows)
					}
					if err != nil || noStream {
						return err
					}
				}
				if err := sleep(cmd.Context(), min(interval, time.Duration(round+1)*200*time.Millisecond)); err != nil {
					return err
				}
			}
		},
	}
	out.Flags(cmd, "table", "json", "yaml")
	cmd.Flags().BoolVar(&noStream, "no-stream", false, "show the figures once")
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "`time` between looks")
	return cmd
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A sample is how much CPU time something had used at a moment.
type sample struct {
	used time.Duration
	at   time.Time
}

func (a *app) statsRows(cmd *cobra.Command, refs []string, last map[string]sample) ([]statsRow, error) {
	rt, err := a.Runtime()
	if err != nil {
		return nil, err
	}
	all := len(refs) == 0
	if all {
		infos, err := rt.List(cmd.Context())
		if err != nil {
			return nil, err
		}
		for _, i := range infos {
			if i.State == sandbox.Running || i.State == sandbox.Paused {
				refs = append(refs, i.Name)
			}
		}
	}
	rows := []statsRow{}
	for _, ref := range refs {
		pod, err := rt.Open(ref)
		var of []statsRow
		if err == nil {
			of, err = podStats(a.open(pod), last)
		}
		if err != nil && !(all && errors.Is(err, sandbox.ErrNotFound)) {
			return nil, err
		}
		rows = append(rows, of...)
	}
	return rows, nil
}

func podStats(pod *supervisor.Pod, last map[string]sample) ([]statsRow, error) {
	info, err := pod.Info()
	if err != nil {
		return nil, err
	}
	s, err := pod.Stats()
	if err != nil {
		return nil, err
	}
	row := statsRow{Pod: info.Name, Stats: s, CPU: percent(last, pod.ID(), s)}
	if info.PausePID != 0 {
		row.Traffic, _ = pod.Traffic() // its link may have gone just now
	}
	rows := []statsRow{row}
	list, err := pod.List()
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		container, err := pod.Container(c.Name)
		if err != nil {
			continue
		}
		s, err := container.Stats()
		if errors.Is(err, supervisor.ErrNotRunning) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, supervisor.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, statsRow{Pod: info.Name, Container: c.Name, Stats: s, CPU: percent(last, c.ID, s)})
	}
	return rows, nil
}

// percent returns the CPU use since the last look, and keeps this one.
func percent(last map[string]sample, id string, s *supervisor.Stats) float64 {
	now := sample{s.CPU.Usage, time.Now()}
	before, known := last[id]
	last[id] = now
	if !known || now.used < before.used { // it has begun anew
		return 0
	}
	return 100 * float64(now.used-before.used) / float64(now.at.Sub(before.at))
}

func printStats(w io.Writer, list []statsRow) error {
	var rows [][]string
	for _, r := range list {
		s := r.Stats
		limit := "-"
		if s.Memory.Limit != 0 {
			limit = units.BytesSize(float64(s.Memory.Limit))
		}
		network := "-"
		if r.Traffic != nil {
			network = units.HumanSize(float64(r.Traffic.RxBytes)) + " / " + units.HumanSize(float64(r.Traffic.TxBytes))
		}
		rows = append(rows, []string{
			r.Pod, form.Dash(r.Container), fmt.Sprintf("%.1f", r.CPU), units.BytesSize(float64(s.Memory.WorkingSet)), limit, fmt.Sprint(s.PIDs.Current),
			units.HumanSize(float64(s.IO.ReadBytes)) + " / " + units.HumanSize(float64(s.IO.WriteBytes)), network,
		})
	}
	return form.Table(w, []string{"POD", "CONTAINER", "CPU %", "MEMORY", "LIMIT", "PIDS", "DISK IN / OUT", "NET IN / OUT"}, rows)
}

func (a *app) top() *cobra.Command {
	var (
		c   containerFlag
		out form.Choice
	)
	cmd := &cobra.Command{
		Use:   "top [flags] POD",
		Short: "List the processes in a pod",
		Example: `  podbox top web
  podbox top -c db web`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.pods(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := out.Parse()
			if err != nil {
				return err
			}
			var list []supervisor.Process
			err = c.each(cmd.Context(), a, args,
				func(p *supervisor.Pod) (err error) { list, err = p.Processes(); return err },
				func(c *supervisor.Container) (err error) { list, err = c.Processes(); return err })
			if err != nil {
				return err
			}
			switch {
			case t != nil:
				return form.Each(cmd.OutOrStdout(), t, list)
			case out.Form != "table":
				return form.Encode(cmd.OutOrStdout(), out.Form, slices.Concat([]supervisor.Process{}, list))
			}
			var rows [][]string
			const ticks = 100 // USER_HZ, on all architectures that there are
			for _, p := range list {
				cpu := time.Duration(p.CPU) * time.Second / ticks
				rows = append(rows, []string{fmt.Sprint(p.User), fmt.Sprint(p.PID), fmt.Sprint(p.PPID), p.State, cpu.String(), units.BytesSize(float64(p.RSS)), p.Command})
			}
			return form.Table(cmd.OutOrStdout(), []string{"USER", "PID", "PPID", "STATE", "CPU", "MEMORY", "COMMAND"}, rows)
		},
	}
	c.add(a, cmd, "those of")
	out.Flags(cmd, "table", "json", "yaml")
	return cmd
}
