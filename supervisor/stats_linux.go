package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/podbox/podbox/internal/cgroup"
	"github.com/podbox/podbox/internal/nsfs"
	"github.com/podbox/podbox/netns"
)

// Stats are the figures of a pod's or a container's cgroup.
type Stats = cgroup.Stats

// Stats returns the container's figures. ErrNotRunning.
func (c *Container) Stats() (*Stats, error) {
	pidfd, r, err := c.open()
	if err != nil {
		return nil, c.wrap("figures of", err)
	}
	pidfd.Close()
	return groupStats(c.group(r))
}

// Stats returns the figures of all programs of the pod together. They are zero if
// there was none yet.
func (p *Pod) Stats() (*Stats, error) {
	s, err := groupStats(p.Cgroup())
	if errors.Is(err, fs.ErrNotExist) {
		return new(Stats), nil
	}
	return s, err
}

func groupStats(path string) (*Stats, error) {
	g, err := cgroup.Open(path)
	if err != nil {
		return nil, err
	}
	return g.Stats()
}

// Traffic returns what the pod has received and sent over its link; nil if it has
// none.
func (p *Pod) Traffic() (*netns.Traffic, error) {
	info, err := p.Info()
	if err != nil || info.Link == "" {
		return nil, err
	}
	return netns.ReadTraffic(info.Link)
}

// A Process is one of a container's processes.
type Process struct {
	PID     int    `json:"pid"`
	PPID    int    `json:"ppid"`
	User    int    `json:"user"`  // the effective user ID
	State   string `json:"state"` // as ps(1) has it: R, S, D, Z, T …
	RSS     int64  `json:"rss"`   // bytes
	CPU     int64  `json:"cpu"`   // clock ticks
	Command string `json:"command"`
}

// Processes returns the processes of the container, by their PIDs of the host.
func (c *Container) Processes() ([]Process, error) {
	r, err := c.record()
	if err != nil {
		return nil, err
	}
	g, err := cgroup.Open(c.group(r))
	if err != nil {
		return nil, err
	}
	pids, err := g.PIDs()
	return processes(pids), err
}

// PIDNamespace returns the path of the container's PID namespace, which is good while
// it runs. ErrNotRunning.
func (c *Container) PIDNamespace() (string, error) {
	pidfd, r, err := c.open()
	if err != nil {
		return "", c.wrap("PID namespace of", err)
	}
	pidfd.Close()
	return nsfs.Path(r.Process.PID, "pid"), nil
}

// Processes returns all processes of the pod but its pause.
func (p *Pod) Processes() ([]Process, error) {
	pids, err := p.Members()
	return processes(pids), err
}

func processes(pids []int) []Process {
	var list []Process
	for _, pid := range pids {
		if p, err := readProcess(pid); err == nil { // else it has ended meanwhile
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b Process) int { return a.PID - b.PID })
	return list
}

// readProcess reads proc_pid_stat(5) and its neighbours.
func readProcess(pid int) (Process, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return Process{}, err
	}
	open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	fields := strings.Fields(string(stat[end+1:]))
	if open < 0 || len(fields) < 22 {
		return Process{}, fs.ErrInvalid
	}
	number := func(i int) int64 { n, _ := strconv.ParseInt(fields[i], 10, 64); return n }
	p := Process{PID: pid, State: fields[0], PPID: int(number(1)), CPU: number(11) + number(12), RSS: number(21) * int64(os.Getpagesize())}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return p, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			if ids := strings.Fields(rest); len(ids) > 1 {
				p.User, _ = strconv.Atoi(ids[1])
			}
		}
	}
	cmdline, err := os.ReadFile(dir + "cmdline")
	p.Command = strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
	if p.Command == "" {
		p.Command = "[" + string(stat[open+1:end]) + "]"
	}
	return p, err
}
