package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	runc "github.com/containerd/go-runc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
	"github.com/podbox/podbox/internal/nsthread"
	"github.com/podbox/podbox/internal/proc"
	"github.com/podbox/podbox/internal/spawn"
	"github.com/podbox/podbox/sandbox"
)

// Other is another OCI runtime, such as runc or crun, that starts a container in a
// pod's stead of us.
type Other struct {
	// Path is that of its command.
	Path string
	// Dir is an empty directory, of root's, for the bundle and the runtime's
	// state. The caller removes it when the container has ended.
	Dir string
	// Hook is the command that calls Joined: see Patch.
	Hook []string

	root *os.File // of the container, if it was made
}

// volumesAnnotation carries the mounts of a pod's volumes to Joined: a runtime can
// mount what has a path only.
const volumesAnnotation = "podbox.volumes"

// Launch is launcher.Launch by way of the runtime. Options.Init is not supported, the runtime
// has its own ways; and the program is always Detached. The calling process
// becomes the one that orphans of its descendants are handed to
// (PR_SET_CHILD_SUBREAPER): the container is made one.
func (o Other) Launch(ctx context.Context, pod *sandbox.Sandbox, spec *specs.Spec, opts Options) (*Process, error) {
	p, err := o.launch(ctx, pod, spec, opts)
	if err != nil {
		return nil, fmt.Errorf("run in %v by %s: %w", pod, o.Path, err)
	}
	return p, nil
}

func (o Other) launch(ctx context.Context, pod *sandbox.Sandbox, spec *specs.Spec, opts Options) (_ *Process, err error) {
	switch {
	case spec.Root == nil:
		return nil, fmt.Errorf("a program on the host's filesystem: %w by another runtime", ErrNotSupported)
	case opts.Init != nil:
		return nil, fmt.Errorf("an init: %w by another runtime", ErrNotSupported)
	}
	// Whether something can be started in the pod. It is not held meanwhile: the hook
	// enters it.
	entry, err := pod.Hold(ctx)
	if err != nil {
		return nil, err
	}
	entry.Close()
	root, err := o.openRoot(spec, opts)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if opts.Root != nil {
		o.root = root
		own, place := *spec, *spec.Root
		place.Path = filepath.Join(o.Dir, "rootfs")
		own.Root = &place
		spec = &own
	}
	if err := findProgram(root, spec); err != nil {
		return nil, err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl PR_SET_CHILD_SUBREAPER", err)
	}
	if err := o.writeBundle(pod, spec); err != nil {
		return nil, err
	}
	p := &Process{detached: true, ended: make(chan struct{}), done: make(chan struct{})}
	create := &runc.CreateOpts{PidFile: filepath.Join(o.Dir, "pid"), IO: noIO{}}
	if spec.Process.Terminal {
		socket, err := runc.NewConsoleSocket(filepath.Join(o.Dir, "console.sock"))
		if err != nil {
			return nil, err
		}
		defer socket.Close()
		create.ConsoleSocket = socket
		if err := o.create(ctx, opts.ID, create); err != nil {
			return nil, err
		}
		if p.streams, p.console, err = receiveTerminal(socket, spec.Process, opts.IO); err != nil {
			return nil, errors.Join(err, o.remove(opts.ID))
		}
	} else {
		if p.streams, err = openStreams(opts.IO); err != nil {
			return nil, err
		}
		// The runtime gives the container its own instead.
		if err := p.streams.fill(func() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_RDWR, 0) }); err != nil {
			p.streams.abandon()
			return nil, err
		}
		create.IO = childFiles{files: p.streams.child}
		if err := o.create(ctx, opts.ID, create); err != nil {
			p.streams.abandon()
			return nil, err
		}
	}
	if err := o.start(ctx, p, create.PidFile, opts); err != nil {
		p.streams.abandon()
		return nil, errors.Join(err, o.remove(opts.ID))
	}
	p.poststop = func() { _ = o.remove(opts.ID) }
	p.streams.begin()
	go p.finish()
	return p, nil
}

func (o Other) runtime() *runc.Runc {
	return &runc.Runc{Command: o.Path, Root: filepath.Join(o.Dir, "state"), Log: filepath.Join(o.Dir, "log"), LogFormat: runc.JSON}
}

func (o Other) create(ctx context.Context, id string, opts *runc.CreateOpts) error {
	err := o.inSight(func() error { return o.runtime().Create(ctx, id, o.Dir, opts) })
	if err == nil {
		return nil
	}
	if why := o.lastError(); why != "" {
		err = fmt.Errorf("%w: %s", err, why)
	}
	return errors.Join(err, o.remove(id))
}

// openRoot opens the container's root, or makes it.
func (o Other) openRoot(spec *specs.Spec, opts Options) (*os.File, error) {
	if opts.Root == nil {
		return os.OpenFile(spec.Root.Path, unix.O_PATH|unix.O_DIRECTORY, 0)
	}
	var userns *os.File
	if ids := mapping(spec); ids.some() {
		// The runtime makes another one; what counts are the numbers.
		var err error
		if err = nsthread.Do(func() error {
			userns, err = newUserNamespace(ids)
			return err
		}); err != nil {
			return nil, err
		}
		defer userns.Close()
	}
	return opts.Root(userns)
}

// inSight starts the runtime where it sees the container's root, if that was made: in a
// mount namespace that goes with the container's, so that the host has no mount and a
// crash leaves none.
func (o Other) inSight(start func() error) error {
	if o.root == nil {
		return start()
	}
	place := filepath.Join(o.Dir, "rootfs")
	if err := os.Mkdir(place, 0o700); err != nil {
		return err
	}
	return nsthread.Do(func() error {
		if err := copyMounts(); err != nil {
			return err
		}
		if err := mnt.Attach(o.root, place); err != nil {
			return err
		}
		return start() // a child has the namespaces of the thread that makes it
	})
}

// lastError returns what the runtime has written to its log.
func (o Other) lastError() string {
	b, err := os.ReadFile(filepath.Join(o.Dir, "log"))
	if err != nil {
		return ""
	}
	var last string
	for line := range strings.Lines(string(b)) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Level == "error" {
			last = strings.TrimSpace(entry.Msg)
		}
	}
	return last
}

// start lets a container that was created run.
func (o Other) start(ctx context.Context, p *Process, pidFile string, opts Options) error {
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("%s: %w", pidFile, err)
	}
	// It is our child: its PID is not reused before we reap it.
	if p.pidfd, err = proc.OpenPID(pid); err != nil {
		return err
	}
	if p.identity, err = proc.Identify(pid, p.pidfd); err == nil && opts.Born != nil {
		err = opts.Born(p.identity)
	}
	if err == nil {
		err = o.runtime().Start(ctx, opts.ID)
	}
	if err != nil {
		return errors.Join(err, p.discard())
	}
	return nil
}

// remove removes what the runtime has of a container.
func (o Other) remove(id string) error {
	if _, err := os.Stat(filepath.Join(o.Dir, "state", id)); err != nil {
		return nil
	}
	return o.runtime().Delete(context.Background(), id, &runc.DeleteOpts{Force: true})
}

// writeBundle writes the configuration that the runtime is given.
func (o Other) writeBundle(pod *sandbox.Sandbox, spec *specs.Spec) error {
	s := *spec
	// What is new in later ones, the runtime may not know anyway; some refuse the
	// number alone.
	s.Version = "1.0.2"
	linux := specs.Linux{}
	if s.Linux != nil {
		linux = *s.Linux
	}
	s.Linux = &linux
	linux.Namespaces = slices.Clone(linux.Namespaces)
	if !slices.ContainsFunc(linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.MountNamespace }) {
		linux.Namespaces = append(linux.Namespaces, specs.LinuxNamespace{Type: specs.MountNamespace})
	}
	var volumes []specs.Mount
	s.Mounts = nil
	for _, m := range spec.Mounts {
		if m.Type == VolumeType {
			volumes = append(volumes, m)
		} else {
			s.Mounts = append(s.Mounts, m)
		}
	}
	if len(volumes) > 0 {
		b, err := json.Marshal(volumes)
		if err != nil {
			return err
		}
		if s.Annotations = maps.Clone(s.Annotations); s.Annotations == nil {
			s.Annotations = make(map[string]string)
		}
		s.Annotations[volumesAnnotation] = string(b)
	}
	own := slices.Clone(linux.Namespaces)
	if err := Patch(pod, &s, o.Hook); err != nil {
		return err
	}
	// Patch joins all that the pod shares; what the container has of its own it
	// keeps.
	for _, n := range own {
		i := slices.IndexFunc(linux.Namespaces, func(has specs.LinuxNamespace) bool { return has.Type == n.Type })
		if i >= 0 {
			linux.Namespaces[i] = n
		}
	}
	b, err := json.Marshal(&s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.Dir, "config.json"), b, 0o600)
}

// findProgram returns a *spawn.ExecError if there is no such program in the
// container's root: runtimes tell that in words only.
func findProgram(root *os.File, spec *specs.Spec) error {
	for _, path := range searchPaths(spec.Process) {
		f, err := openIn(root, path, unix.O_PATH, 0)
		if err == nil {
			f.Close()
			return nil
		}
	}
	return &spawn.ExecError{Path: spec.Process.Args[0], Err: unix.ENOENT}
}

func receiveTerminal(socket *runc.Socket, process *specs.Process, stdio IO) (*streams, *os.File, error) {
	master, err := socket.ReceiveMaster()
	if err != nil {
		return nil, nil, err
	}
	defer master.Close()
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	file := os.NewFile(uintptr(fd), "console")
	slave, err := openSlave(file)
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	s := masterStreams(stdio, file, slave)
	if size := process.ConsoleSize; size != nil {
		if err := resize(file, uint16(size.Width), uint16(size.Height)); err != nil {
			s.abandon()
			return nil, nil, err
		}
	}
	return s, file, nil
}

// childFiles are the standard streams of the runtime, which the container gets.
type childFiles struct {
	noIO
	files []*os.File
}

func (f childFiles) Set(cmd *exec.Cmd) {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f.files[0], f.files[1], f.files[2]
}

// noIO gives the runtime none.
type noIO struct{}

func (noIO) Set(*exec.Cmd)         {}
func (noIO) Close() error          { return nil }
func (noIO) Stdin() io.WriteCloser { return nil }
func (noIO) Stdout() io.ReadCloser { return nil }
func (noIO) Stderr() io.ReadCloser { return nil }
