//go:build linux

// Probecost tells what a supervisor costs that makes probes: a pod of two containers, each
// with a liveness probe by exec and a readiness probe by HTTP every second, after a startup
// probe by TCP. It prints the supervisor's private memory, by kind of mapping, and its share
// of a CPU, with that of the programs which it has run, over the time given.
//
// usage: probecost PODBOX ROOTFS SECONDS
//
// ROOTFS is a root directory with busybox as /bin/busybox. It is to be run as root.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// settle is how long a pod is left alone before it is measured.
const settle = 5 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probecost:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	if len(args) != 3 {
		return errors.New("usage: probecost PODBOX ROOTFS SECONDS")
	}
	seconds, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	podbox, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	root, err := os.MkdirTemp("", "probecost-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	rt, err := sandbox.Open(sandbox.Options{Root: filepath.Join(root, "run"), StateDir: filepath.Join(root, "state")})
	if err != nil {
		return err
	}
	defer rt.Close()
	ctx := context.Background()
	made, err := rt.Create(ctx, sandbox.Spec{Name: "probed"})
	if err != nil {
		return err
	}
	pod := supervisor.Open(made, supervisor.Options{Command: []string{podbox, "supervise"}})
	defer func() { err = errors.Join(err, pod.Remove(ctx, sandbox.StopOptions{Grace: -1})) }()
	life := supervisor.Life{Containers: []string{"one", "two"}}
	specs := []supervisor.Spec{probed("one", args[1], 8081), probed("two", args[1], 8082)}
	if err := pod.Lead(ctx, life, specs); err != nil {
		return err
	}
	if err := ready(pod); err != nil {
		return err
	}
	time.Sleep(settle)
	return measure(pod, time.Duration(seconds)*time.Second)
}

// probed is a container that answers by HTTP.
func probed(name, rootfs string, port uint16) supervisor.Spec {
	server := fmt.Sprintf("echo hello >/tmp/index.html; exec /bin/busybox httpd -f -p %d -h /tmp", port)
	oci := launcher.Default(rootfs, "/bin/busybox", "sh", "-c", server)
	return supervisor.Spec{
		Name: name, OCI: oci, DefaultSeccomp: true, Restart: supervisor.Restart{Policy: supervisor.Always},
		Startup:   &supervisor.Probe{Action: supervisor.Action{TCP: &supervisor.TCPSocket{Port: port}}, Period: time.Second},
		Readiness: &supervisor.Probe{Action: supervisor.Action{HTTP: &supervisor.HTTPGet{Port: port, Path: "/"}}, Period: time.Second},
		Liveness:  &supervisor.Probe{Action: supervisor.Action{Exec: []string{"/bin/busybox", "true"}}, Period: time.Second},
	}
}

func ready(pod *supervisor.Pod) error {
	var last *supervisor.PodStatus
	for range 200 {
		s, err := pod.Status()
		if err != nil {
			return err
		}
		good := 0
		for _, c := range s.ContainerStatuses {
			if c.Ready {
				good++
			}
		}
		if good == 2 {
			return nil
		}
		last = s
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("the containers are not ready: %+v", last.ContainerStatuses)
}

// runner returns the PID of the pod's supervisor.
func runner(pod *supervisor.Pod) (string, error) {
	lists, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return "", err
	}
	for _, path := range lists {
		b, _ := os.ReadFile(path) // of a process that has ended nothing
		words := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
		if len(words) != 5 || words[1] != "supervise" || words[4] != pod.ID() {
			continue
		}
		pid := filepath.Base(filepath.Dir(path))
		if comm, _ := os.ReadFile("/proc/" + pid + "/comm"); strings.TrimSpace(string(comm)) != "podbox-guardian" {
			return pid, nil
		}
	}
	return "", errors.New("no supervisor")
}

func measure(pod *supervisor.Pod, d time.Duration) error {
	pid, err := runner(pod)
	if err != nil {
		return err
	}
	before, err := cpu(pid)
	if err != nil {
		return err
	}
	begin := time.Now()
	// At several moments, for a probe is short and memory comes and goes with it.
	var most, sum memory
	n := 0
	for time.Since(begin) < d {
		time.Sleep(min(d/20, time.Second) + 37*time.Millisecond)
		m, err := look(pid)
		if err != nil {
			return err
		}
		most.written, most.ofFile = max(most.written, m.written), max(most.ofFile, m.ofFile)
		sum.written += m.written
		sum.ofFile += m.ofFile
		n++
	}
	took := time.Since(begin).Seconds()
	after, err := cpu(pid)
	if err != nil {
		return err
	}
	s, err := pod.Status()
	if err != nil {
		return err
	}
	for _, c := range s.ContainerStatuses {
		if !c.Ready || c.RestartCount > 0 {
			return fmt.Errorf("container %s was not well: %+v", c.Name, c)
		}
	}
	fmt.Printf("private, without pages of its own program: mean %d kB, most %d kB\n", sum.written/n, most.written)
	fmt.Printf("private pages of its own program, not written: mean %d kB, most %d kB\n", sum.ofFile/n, most.ofFile)
	fmt.Printf("CPU of the supervisor: %.2f %%; of the programs that it ran: %.2f %%\n",
		(after.own-before.own)/took*100, (after.children-before.children)/took*100)
	return nil
}

// A memory is what is private of a process, in kB: what it may write; and what it only
// reads, of its program's file.
type memory struct{ written, ofFile int }

func look(pid string) (m memory, err error) {
	f, err := os.Open("/proc/" + pid + "/smaps")
	if err != nil {
		return m, err
	}
	defer f.Close()
	ofFile := false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) >= 5 && strings.Contains(words[0], "-") {
			ofFile = len(words) > 5 && strings.HasPrefix(words[5], "/") && !strings.Contains(words[1], "w")
			continue
		}
		if len(words) < 2 {
			continue
		}
		n, _ := strconv.Atoi(words[1])
		switch {
		case words[0] != "Private_Dirty:" && words[0] != "Private_Clean:":
		case ofFile: // dirty too, if podbox was built just now
			m.ofFile += n
		default:
			m.written += n
		}
	}
	return m, lines.Err()
}

// A usage is the time that a process has used, and its children that have ended, in
// seconds.
type usage struct{ own, children float64 }

func cpu(pid string) (u usage, err error) {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return u, err
	}
	// The name, in parentheses, may have anything in it; proc_pid_stat(5).
	words := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(words) < 15 {
		return u, errors.New("stat: too short")
	}
	const hz = 100
	for i, to := range []*float64{&u.own, &u.own, &u.children, &u.children} {
		n, err := strconv.ParseFloat(words[11+i], 64)
		if err != nil {
			return u, err
		}
		*to += n / hz
	}
	return u, nil
}
