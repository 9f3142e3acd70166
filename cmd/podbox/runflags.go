package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// runFlags are the flags of run as they are given.
type runFlags struct {
	detach, remove, interactive, tty, init, readOnly, privileged bool

	name, rootfs, image, pull, bundle, workdir, user, restart, backoff, pid, stopSignal, umask, runtime, cpuset string

	env, volumes, tmpfs, devices, capAdd, capDrop, securityOpts, ulimits, labels, groups, uidMaps, gidMaps []string

	entrypoint *string // nil: not given

	logSize  string
	logFiles int
	oomScore int
	limits   limitFlags
}

func (f *runFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVarP(&f.detach, "detach", "d", false, "run in the background and print the container's ID")
	fl.BoolVar(&f.remove, "rm", false, "remove the container when it has ended")
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "pass standard input on; with -d, keep it open for podbox attach")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give the program a terminal")
	fl.StringVar(&f.name, "name", "", "`name` of the container in the pod (default the first 12 digits of its ID)")
	fl.StringVar(&f.rootfs, "rootfs", "", "`directory` that is the container's root (default the host's filesystem)")
	fl.StringVar(&f.bundle, "bundle", "", "OCI bundle: a `directory` with a config.json that says all")
	fl.StringVar(&f.image, "image", "", "`name`, or ID, of an image that has the container's root and says how it is run")
	fl.StringVar(&f.pull, "pull", pullMissing, "fetch the image `when`: missing, always or never")
	fl.Func("entrypoint", "run this instead of the image's entrypoint and command: a `word`, or words as JSON", func(s string) error {
		f.entrypoint = &s
		return nil
	})
	fl.StringArrayVarP(&f.env, "env", "e", nil, "set `NAME=VALUE`, or NAME to the value that podbox has")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "working `directory` (default / in a root of its own)")
	fl.StringVarP(&f.user, "user", "u", "", "run as `USER[:GROUP]`, names of the root's or numbers")
	fl.StringSliceVar(&f.groups, "group-add", nil, "`groups` that the program is in besides, as numbers")
	fl.StringArrayVarP(&f.volumes, "volume", "v", nil, "mount `VOLUME:/PATH[:OPTIONS]`, a volume of the pod or an absolute path of the host")
	fl.StringArrayVar(&f.tmpfs, "tmpfs", nil, "mount a tmpfs at `PATH[:OPTIONS]`, such as /tmp:size=64m")
	fl.StringArrayVar(&f.devices, "device", nil, "give `/dev/NAME[:/dev/NAME][:rwm]` of the host to the container")
	fl.BoolVar(&f.readOnly, "read-only", false, "make the root read-only")
	fl.BoolVar(&f.init, "init", false, "have a first process that passes on signals and reaps")
	fl.StringVar(&f.pid, "pid", "", "PID `namespace`: private, pod, host or container:NAME (default private in a root of its own, or the pod's)")
	fl.BoolVar(&f.privileged, "privileged", false, "no isolation but namespaces: all capabilities and devices, nothing hidden")
	fl.StringSliceVar(&f.capAdd, "cap-add", nil, "`capabilities` to have besides, or all")
	fl.StringSliceVar(&f.capDrop, "cap-drop", nil, "`capabilities` not to have, or all")
	fl.StringArrayVar(&f.securityOpts, "security-opt", nil, "`what`: no-new-privileges[=BOOL], seccomp=unconfined|FILE, apparmor=PROFILE, label=LABEL, mask=PATHS, unmask=PATHS|ALL")
	fl.StringArrayVar(&f.uidMaps, "uidmap", nil, "map users `INSIDE:OUTSIDE:SIZE` in a user namespace of its own")
	fl.StringArrayVar(&f.gidMaps, "gidmap", nil, "map groups `INSIDE:OUTSIDE:SIZE`, as --uidmap (default the same)")
	fl.StringArrayVar(&f.ulimits, "ulimit", nil, "resource limit `NAME=SOFT[:HARD]`, such as nofile=1024:4096")
	fl.StringVar(&f.umask, "umask", "", "umask of the program, in `octal` (default 0022)")
	fl.IntVar(&f.oomScore, "oom-score-adj", 0, "how soon the kernel ends it for want of memory: a `number` from -1000 (late) to 1000")
	fl.StringVar(&f.restart, "restart", "", "with -d: start again `when` it has ended: never, on-failure[:N] or always")
	fl.StringVar(&f.backoff, "backoff", "", "wait before restarts: `FIRST[,MOST[,RESET]]` (default 10s,5m,10m)")
	fl.StringVar(&f.stopSignal, "stop-signal", "", "`signal` that asks it to end (default TERM)")
	fl.StringVar(&f.logSize, "log-size", "", "with -d: `size` at which the log is rotated (default 10m)")
	fl.IntVar(&f.logFiles, "log-files", 0, "with -d: `number` of files of log at most (default 5)")
	fl.StringArrayVar(&f.labels, "label", nil, "`key=value` for your own use")
	fl.StringVar(&f.runtime, "runtime", "", "have another OCI `runtime` run it: runc, crun or a path")
	f.limits.add(fl)
	fl.StringVar(&f.cpuset, "cpuset-cpus", "", "`CPUs` to run on, such as 0-1,4")
	_ = cmd.RegisterFlagCompletionFunc("pull", cobra.FixedCompletions([]string{pullMissing, pullAlways, pullNever}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("restart", cobra.FixedCompletions([]string{"never", "on-failure", "always"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("pid", cobra.FixedCompletions([]string{"private", "pod", "host", "container:"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagDirname("rootfs")
	_ = cmd.MarkFlagDirname("bundle")
}

// limitFlags are those of limits, of pods and of containers.
type limitFlags struct {
	memory, cpus string
	pids         int64
}

// defaultPIDs is how many processes and threads a container in a root of its own may
// have by default, as with podman.
const defaultPIDs = 2048

func (f *limitFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.memory, "memory", "", "most memory to use, as a `size` such as 256m")
	fl.StringVar(&f.cpus, "cpus", "", "most CPU time to use, as a `number` of CPUs such as 0.5")
	fl.Int64Var(&f.pids, "pids-limit", 0, "`number` of processes and threads to have at most; -1 for any number (default of a container with a root of its own 2048)")
}

func (f *limitFlags) limits() (l sandbox.Limits, err error) {
	if f.memory != "" {
		if l.Memory, err = parseSize("--memory", f.memory); err != nil {
			return l, err
		}
	}
	if f.cpus != "" {
		n, err := strconv.ParseFloat(f.cpus, 64)
		if err != nil || math.IsNaN(n) || n < 0.001 || n > 1e6 {
			return l, fmt.Errorf("--cpus %q: %w: want a number of CPUs, at least 0.001", f.cpus, sandbox.ErrInvalid)
		}
		l.CPU = int64(math.Round(n * 1000))
	}
	if l.PIDs = f.pids; f.pids == -1 {
		l.PIDs = 0
	}
	return l, l.Validate()
}

func parseSize(flag, s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s %q: %w: want a size such as 64m or 1g", flag, s, sandbox.ErrInvalid)
	}
	return n, nil
}

// spec turns the flags into a Spec, as far as nothing of the pod is needed.
func (f *runFlags) spec(ctx context.Context, a *app, fl *pflag.FlagSet, args []string) (s supervisor.Spec, err error) {
	if err := f.check(fl); err != nil {
		return s, err
	}
	s = supervisor.Spec{Name: f.name, Init: f.init, Stdin: f.detach && f.interactive, Remove: f.remove, Log: supervisor.Log{MaxFiles: f.logFiles}}
	if s.Restart, err = parseRestart(f.restart); err != nil {
		return s, err
	}
	if err := f.setBackoff(&s.Restart); err != nil {
		return s, err
	}
	if s.StopSignal, err = parseStopSignal(f.stopSignal); err != nil {
		return s, err
	}
	if f.logSize != "" {
		if s.Log.MaxSize, err = parseSize("--log-size", f.logSize); err != nil {
			return s, err
		}
	}
	if s.Labels, err = pairs("--label", f.labels); err != nil {
		return s, err
	}
	if s.Runtime, err = findRuntime(f.runtime); err != nil {
		return s, err
	}
	if f.bundle != "" {
		s.OCI, err = readBundle(f.bundle, args)
		return s, err
	}
	s.DefaultSeccomp = f.ownRoot()
	switch {
	case f.image != "":
		s.OCI, err = f.onImage(ctx, a, args, &s)
	case f.rootfs != "":
		s.OCI, err = f.inRoot(args, &s)
	default:
		s.OCI, err = f.onHost(args)
	}
	if err != nil {
		return s, err
	}
	return s, f.common(fl, s.OCI)
}

// ownRoot reports whether the container has a root of its own that is no bundle's.
func (f *runFlags) ownRoot() bool { return f.rootfs != "" || f.image != "" }

// check refuses flags that mean nothing together.
func (f *runFlags) check(fl *pflag.FlagSet) error {
	given := map[string]bool{
		"--restart": f.restart != "" && f.restart != "no" && f.restart != "never", "--backoff": f.backoff != "", "--log-size": f.logSize != "", "--log-files": f.logFiles != 0,
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if given[name] && !f.detach {
			return fmt.Errorf("%s: %w: it is for containers in the background, with -d", name, sandbox.ErrInvalid)
		}
	}
	for _, name := range []string{"rootfs", "image", "bundle", "name"} {
		// Such as of a shell's variable that is not set.
		if flag := fl.Lookup(name); flag.Changed && flag.Value.String() == "" {
			return fmt.Errorf("--%s \"\": %w: empty", name, sandbox.ErrInvalid)
		}
	}
	for _, name := range []string{"pull", "entrypoint"} {
		if f.image == "" && f.bundle == "" && fl.Changed(name) {
			return fmt.Errorf("--%s: %w: it is for an image, with --image", name, sandbox.ErrInvalid)
		}
	}
	form, acted := "--rootfs", alwaysActed
	switch {
	case f.rootfs != "" && f.image != "":
		return fmt.Errorf("--rootfs, --image: %w: want one of them", sandbox.ErrInvalid)
	case f.bundle != "":
		form, acted = "--bundle", append([]string{"bundle", "init"}, alwaysActed...)
	case !f.ownRoot():
		form, acted = "", append(hostActed, alwaysActed...)
	default:
		return nil
	}
	// A flag without effect, above all one that takes something away, is an error.
	var err error
	fl.Visit(func(flag *pflag.Flag) {
		if err != nil || slices.Contains(acted, flag.Name) {
			return
		}
		if form == "--bundle" {
			err = fmt.Errorf("--bundle: %w: its config.json says what --%s would", sandbox.ErrInvalid, flag.Name)
			return
		}
		err = fmt.Errorf("--%s: %w: it is for a root of its own, with --image or --rootfs", flag.Name, sandbox.ErrInvalid)
	})
	return err
}

// alwaysActed are the flags that mean something with every container, hostActed those
// besides that do with one on the host's filesystem.
var (
	alwaysActed = []string{
		"detach", "rm", "interactive", "name", "restart", "backoff", "stop-signal", "log-size", "log-files", "label", "runtime",
		"root", "state-dir", "log-level", "help",
	}
	hostActed = []string{
		"tty", "env", "workdir", "user", "group-add", "volume", "tmpfs", "pid", "ulimit", "umask", "oom-score-adj", "memory", "cpus",
		"pids-limit", "cpuset-cpus",
	}
)

// onHost is what a program on the host's filesystem is.
func (f *runFlags) onHost(args []string) (*specs.Spec, error) {
	e := execFlags{tty: f.tty, env: f.env, workdir: f.workdir, user: f.user}
	p, err := e.process(args)
	return &specs.Spec{Version: specs.Version, Process: p, Linux: &specs.Linux{}}, err
}

// inRoot is what a program in a root of its own is.
func (f *runFlags) inRoot(args []string, s *supervisor.Spec) (*specs.Spec, error) {
	root, err := filepath.Abs(f.rootfs)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(root); err != nil {
		return nil, fmt.Errorf("--rootfs: %w", err)
	} else if !st.IsDir() {
		return nil, fmt.Errorf("--rootfs %s: %w", root, unix.ENOTDIR)
	}
	o := launcher.Default(root, args...)
	o.Root.Readonly = f.readOnly
	if f.workdir != "" {
		if !path.IsAbs(f.workdir) {
			return nil, fmt.Errorf("--workdir %q: %w: want an absolute path", f.workdir, sandbox.ErrInvalid)
		}
		o.Process.Cwd = f.workdir
	}
	home, err := lookUpIn(root, f.user, &o.Process.User)
	if err != nil {
		return nil, err
	}
	env := newEnv(o.Process.Env)
	env.set("HOME", home)
	return o, f.isolate(o, s, env)
}

// isolate sets what keeps a program in a root of its own apart, and its environment.
func (f *runFlags) isolate(o *specs.Spec, s *supervisor.Spec, env *env) (err error) {
	if o.Process.Terminal = f.tty; f.tty {
		env.set("TERM", "xterm")
		o.Process.ConsoleSize = terminalSize()
	}
	if err := env.setAll(f.env); err != nil {
		return err
	}
	o.Process.Env = env.list
	if o.Linux.UIDMappings, o.Linux.GIDMappings, err = f.idMaps(); err != nil {
		return err
	}
	if len(o.Linux.UIDMappings) > 0 {
		o.Linux.Namespaces = append(o.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	}
	if err := f.security(o, s); err != nil {
		return err
	}
	return f.addDevices(o)
}

// common is what both have.
func (f *runFlags) common(fl *pflag.FlagSet, o *specs.Spec) error {
	if err := f.mounts(o); err != nil {
		return err
	}
	for _, g := range f.groups {
		n, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return fmt.Errorf("--group-add %q: %w: want a number", g, sandbox.ErrInvalid)
		}
		o.Process.User.AdditionalGids = append(o.Process.User.AdditionalGids, uint32(n))
	}
	if f.umask != "" {
		n, err := strconv.ParseUint(f.umask, 8, 32)
		if err != nil || n > 0o777 {
			return fmt.Errorf("--umask %q: %w: want an octal number", f.umask, sandbox.ErrInvalid)
		}
		mask := uint32(n)
		o.Process.User.Umask = &mask
	}
	for _, u := range f.ulimits {
		l, err := units.ParseUlimit(u)
		if err != nil {
			return fmt.Errorf("--ulimit %q: %w: %w", u, sandbox.ErrInvalid, err)
		}
		o.Process.Rlimits = append(o.Process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: uint64(l.Soft), Hard: uint64(l.Hard)})
	}
	if fl.Changed("oom-score-adj") {
		o.Process.OOMScoreAdj = &f.oomScore
	}
	if f.ownRoot() && !fl.Changed("pids-limit") {
		f.limits.pids = defaultPIDs
	}
	limits, err := f.limits.limits()
	if err != nil {
		return err
	}
	o.Linux.Resources = merge(o.Linux.Resources, limits.Resources())
	if f.cpuset != "" {
		o.Linux.Resources = merge(o.Linux.Resources, &specs.LinuxResources{CPU: &specs.LinuxCPU{}})
		o.Linux.Resources.CPU.Cpus = f.cpuset
	}
	return nil
}

// merge adds what limits say to what there is.
func merge(r, limits *specs.LinuxResources) *specs.LinuxResources {
	if r == nil || limits == nil {
		if r == nil {
			r = limits
		}
		return r
	}
	if limits.Memory != nil {
		r.Memory = limits.Memory
	}
	if limits.CPU != nil && r.CPU == nil {
		r.CPU = limits.CPU
	}
	if limits.Pids != nil {
		r.Pids = limits.Pids
	}
	return r
}

func (f *runFlags) setBackoff(r *supervisor.Restart) error {
	if f.backoff == "" {
		return nil
	}
	times := []*time.Duration{&r.Delay, &r.MaxDelay, &r.ResetAfter}
	words := strings.Split(f.backoff, ",")
	for i, w := range words {
		var err error
		if i == len(times) {
			err = errors.New("too many")
		} else if *times[i], err = time.ParseDuration(w); err == nil && *times[i] <= 0 {
			err = errors.New("not positive")
		}
		if err != nil {
			return fmt.Errorf("--backoff %q: %w: want FIRST[,MOST[,RESET]] such as 1s,1m,10m", f.backoff, sandbox.ErrInvalid)
		}
	}
	return nil
}

// settle does what needs the pod: the PID namespace.
func (f *runFlags) settle(pod *supervisor.Pod, s *supervisor.Spec) error {
	kind, name, _ := strings.Cut(f.pid, ":")
	path := ""
	switch {
	case f.pid == "" || f.pid == "private" && f.ownRoot():
		if f.pid == "" && f.ownRoot() {
			shared, err := pod.Shares(sandbox.PID)
			if err != nil {
				return err
			}
			if shared {
				f.setPID(s, nil)
			}
		}
		return nil
	case f.pid == "private":
	case f.pid == "pod":
		shared, err := pod.Shares(sandbox.PID)
		if err != nil {
			return err
		}
		if !shared {
			return fmt.Errorf("--pid pod: %w: the pod does not share its PID namespace: podbox create --share net,ipc,uts,pid", sandbox.ErrInvalid)
		}
		f.setPID(s, nil)
		return nil
	case f.pid == "host":
		path = "/proc/self/ns/pid"
	case kind == "container" && name != "":
		c, err := pod.Container(name)
		if err != nil {
			return err
		}
		if _, err := c.PIDNamespace(); err != nil {
			return err
		}
		f.setPID(s, nil)
		s.PIDOf = c.Name()
		return nil
	default:
		return fmt.Errorf("--pid %q: %w: want private, pod, host or container:NAME", f.pid, sandbox.ErrInvalid)
	}
	f.setPID(s, &specs.LinuxNamespace{Type: specs.PIDNamespace, Path: path})
	return nil
}

// setPID has the container be in a PID namespace: the pod's, or the host's, if ns is
// nil.
func (f *runFlags) setPID(s *supervisor.Spec, ns *specs.LinuxNamespace) {
	l := s.OCI.Linux
	l.Namespaces = slices.DeleteFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	if ns != nil {
		l.Namespaces = append(l.Namespaces, *ns)
	}
}

// readBundle reads the configuration of an OCI bundle; args, if there are any, are
// run instead of what it says.
func readBundle(dir string, args []string) (*specs.Spec, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("--bundle: %w", err)
	}
	o := new(specs.Spec)
	if err := json.Unmarshal(b, o); err != nil {
		return nil, fmt.Errorf("--bundle: %s: %w", filepath.Join(dir, "config.json"), err)
	}
	if o.Root != nil && !filepath.IsAbs(o.Root.Path) {
		o.Root.Path = filepath.Join(dir, o.Root.Path)
	}
	if o.Process == nil {
		o.Process = &specs.Process{Cwd: "/"}
	}
	if len(args) > 0 {
		o.Process.Args = args
	}
	if o.Linux == nil {
		o.Linux = new(specs.Linux)
	}
	// What every bundle says of a pod's namespaces is about a container on its
	// own: they are the pod's here, and so are its host name and cgroup.
	o.Linux.Namespaces = slices.DeleteFunc(o.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Path == "" && (n.Type == specs.NetworkNamespace || n.Type == specs.IPCNamespace || n.Type == specs.UTSNamespace)
	})
	o.Hostname, o.Domainname, o.Linux.CgroupsPath = "", "", ""
	o.Mounts = slices.DeleteFunc(o.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" || m.Type == "cgroup2" })
	return o, nil
}
