package kubecli

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/podbox/podbox/cmd/internal/systemd"
	"github.com/podbox/podbox/cmd/internal/twin"
	"github.com/podbox/podbox/kube"
	"github.com/podbox/podbox/netns"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

func (a *app) generateSystemd() *cobra.Command {
	var (
		dir   string
		grace int
	)
	cmd := &cobra.Command{
		Use:   "systemd [flags] POD",
		Short: "Print a unit of systemd with which a pod comes up at boot",
		Long: `Print a unit of systemd, podbox@POD.service, that makes a pod like this one when the
machine comes up, and removes it in order when it goes down. A pod that was applied is
made from its manifest, which is in the unit with its ConfigMaps; others by podbox create
and podbox run as they were made, with what was changed since by podbox publish and
podbox update.

The unit owns the name: what has it when the unit is started is replaced. Everybody on
the machine can read what is in a unit, so a pod with Secrets has none: keep its manifest
in /etc/podbox/pods/POD.yaml instead, which podbox@POD.service reads if it is no file of
its own. Values of podbox run -e are in the unit. Containers in the foreground are not.`,
		Example: `  podbox generate systemd web
  podbox generate systemd --files=/etc/systemd/system web
  systemctl daemon-reload && systemctl enable --now podbox@web`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			rt, err := a.Runtime()
			if err != nil {
				return err
			}
			defer closing(rt, &err)
			pod, err := rt.Open(args[0])
			if err != nil {
				return err
			}
			program, err := a.program(rt)
			if err != nil {
				return err
			}
			unit, err := serviceOf(supervisor.Open(pod, supervisor.Options{}), program, grace, func(line string) {
				fmt.Fprintln(cmd.ErrOrStderr(), "podbox: "+line)
			})
			if err != nil {
				return err
			}
			text, err := unit.Encode()
			switch {
			case err != nil:
				return fmt.Errorf("generate systemd %s: %w", args[0], err)
			case dir == "":
				_, err = cmd.OutOrStdout().Write(text)
				return err
			}
			path, err := filepath.Abs(filepath.Join(dir, unit.Name()))
			if err != nil {
				return err
			}
			// As it is of all units: systemd tells everybody what is in them.
			if err := writeWhole(path, text, 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), path)
			return err
		},
		ValidArgsFunction: a.pods,
	}
	fl := cmd.Flags()
	fl.StringVar(&dir, "files", "", "write the unit into this `directory` (default the current one) and print its path")
	fl.Lookup("files").NoOptDefVal = "."
	fl.IntVarP(&grace, "time", "t", int(sandbox.DefaultGrace/time.Second), "grace period of containers that were not applied, in `seconds`")
	_ = cmd.MarkFlagDirname("files")
	// What podman asks for by these is always so here.
	for name, usage := range map[string]string{"new": "make the pod anew at each start: always so", "name": "use the pod's name, not its ID: always so"} {
		fl.Bool(name, true, usage)
		_ = fl.MarkHidden(name)
	}
	return cmd
}

// program returns the words by which a unit calls podbox.
func (a *app) program(rt *sandbox.Runtime) ([]string, error) {
	path, err := twin.Path(twin.Podbox)
	words := []string{path}
	if rt.Root() != sandbox.DefaultRoot {
		words = append(words, "--root="+rt.Root())
	}
	if rt.StateDir() != sandbox.DefaultStateDir {
		words = append(words, "--state-dir="+rt.StateDir())
	}
	return words, err
}

// serviceOf returns the unit of a pod, whose commands begin with the words of program.
func serviceOf(pod *supervisor.Pod, program []string, grace int, note func(string)) (*systemd.Service, error) {
	info, err := pod.Info()
	if err != nil {
		return nil, err
	}
	podbox := func(words ...string) []string { return slices.Concat(program, words) }
	s := &systemd.Service{
		Pod: info.Name, Comment: "Made by podbox generate systemd " + info.Name + ".",
		After: [][]string{podbox("rm", "-f", "-t", "0", info.Name)},
		Dirs:  []string{pod.Runtime().Root(), pod.Runtime().StateDir()},
	}
	whole, err := kube.GenerateWhole(pod)
	if err != nil {
		return nil, err
	}
	if whole != nil {
		s.Input, s.Grace = whole.Text, time.Duration(whole.Grace)*time.Second+spare
		s.Start = [][]string{podbox("apply", "--replace", "-f", "-")}
		s.Reload = s.Start
		s.Stop = [][]string{podbox("delete", "-f", "-")}
		return s, nil
	}
	containers, err := pod.List()
	if err != nil {
		return nil, err
	}
	create, err := createWords(info)
	if err != nil {
		return nil, fmt.Errorf("generate systemd %v: %w", pod, err)
	}
	s.Before = [][]string{podbox("rm", "-f", "-t", strconv.Itoa(grace), info.Name)}
	s.Start = [][]string{podbox(create...)}
	for _, c := range containers {
		switch {
		case !c.Background:
			note(fmt.Sprintf("container %q of %v is left out: it was run in the foreground", c.Name, pod))
		case len(c.MadeBy) == 0:
			return nil, fmt.Errorf("generate systemd %v: container %q: made by another program than podbox run: %w", pod, c.Name, systemd.ErrNotSaid)
		default:
			s.Start = append(s.Start, podbox(runWords(info.Name, c.MadeBy)...))
		}
	}
	s.Stop = [][]string{podbox("stop", "-t", strconv.Itoa(grace), info.Name)}
	// One after the other, and at last what else is in the pod.
	s.Grace = time.Duration(len(containers)+1)*time.Duration(max(grace, 0))*time.Second + spare
	return s, nil
}

// spare is how long podbox may take itself, on a machine that goes down.
const spare = 30 * time.Second

// createWords returns the words of podbox create that make a pod again, as it is now where
// podbox publish or podbox update have changed it.
func createWords(info *sandbox.Info) ([]string, error) {
	var flags []string
	if text := info.Annotations[systemd.MadeBy]; text == "" || json.Unmarshal([]byte(text), &flags) != nil {
		return nil, fmt.Errorf("made by another program than podbox create: %w", systemd.ErrNotSaid)
	}
	now := map[string][]string{
		"publish": nil, "label": nil, "dns": nil, "dns-search": info.DNS.Search, "add-host": nil,
		"ingress": rate(info.Bandwidth.Ingress), "egress": rate(info.Bandwidth.Egress),
		"allow-from": peers(info.Policy.From), "allow-to": peers(info.Policy.To), "isolate": nil,
	}
	if k := info.Policy.Isolate; k != "" {
		now["isolate"] = []string{k}
	}
	for _, p := range info.Ports {
		now["publish"] = append(now["publish"], p.String())
	}
	for _, k := range slices.Sorted(maps.Keys(info.Labels)) {
		now["label"] = append(now["label"], k+"="+info.Labels[k])
	}
	for _, a := range info.DNS.Servers {
		now["dns"] = append(now["dns"], a.String())
	}
	for _, h := range info.Hosts {
		now["add-host"] = append(now["add-host"], h.Name+":"+h.IP.String())
	}
	flags = slices.DeleteFunc(flags, func(w string) bool {
		name, _, _ := strings.Cut(strings.TrimPrefix(w, "--"), "=")
		_, ok := now[name]
		return ok
	})
	for _, name := range slices.Sorted(maps.Keys(now)) {
		for _, v := range now[name] {
			flags = append(flags, "--"+name+"="+v)
		}
	}
	return slices.Concat([]string{"create"}, flags, []string{info.Name}), nil
}

// peers returns whom a policy allows, as flags have them.
func peers(of []netns.Peer) []string {
	if of != nil && len(of) == 0 {
		return []string{"none"}
	}
	var words []string
	for _, p := range of {
		words = append(words, p.String())
	}
	return words
}

// rate returns a rate as a flag has it.
func rate(bits uint64) []string {
	if bits == 0 {
		return nil
	}
	return []string{strconv.FormatUint(bits, 10)}
}

// runWords returns the words of podbox run; the pod comes before the container's command.
func runWords(pod string, words []string) []string {
	i := slices.Index(words, "--")
	if i < 0 {
		i = len(words)
	}
	return slices.Concat([]string{"run"}, words[:i], []string{pod}, words[i:])
}

// writeWhole makes or replaces a file.
func writeWhole(path string, text []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(text); err == nil {
		err = f.Chmod(mode)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
