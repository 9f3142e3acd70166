package launcher

import (
	"errors"
	"fmt"
	"math"
	"path"
	"reflect"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/internal/fault"
)

var (
	// ErrPaused is matched when a program cannot be started in a container because that
	// is frozen.
	ErrPaused = errors.New("container is paused")
	// ErrInvalid is matched by errors about wrong values.
	ErrInvalid = fault.ErrInvalid
	// ErrNotSupported is matched by errors about fields that are not acted on.
	ErrNotSupported = fault.ErrNotSupported
)

// check reports the first field of a spec that is wrong, or that the launcher
// does not act on.
func check(spec *specs.Spec) error {
	if spec == nil || spec.Process == nil || len(spec.Process.Args) == 0 || spec.Process.Args[0] == "" {
		return fmt.Errorf("process.args: %w: want a program", ErrInvalid)
	}
	if err := checkProcess(spec.Process); err != nil {
		return err
	}
	if err := checkRoot(spec); err != nil {
		return err
	}
	if err := checkHooks(spec.Hooks); err != nil {
		return err
	}
	if err := checkLinux(spec); err != nil {
		return err
	}
	return checkRest(spec)
}

func checkProcess(p *specs.Process) error {
	if !path.IsAbs(p.Cwd) {
		return fmt.Errorf("process.cwd %q: %w: want an absolute path", p.Cwd, ErrInvalid)
	}
	for _, s := range slices.Concat([]string{p.Cwd, p.ApparmorProfile, p.SelinuxLabel}, p.Args, p.Env) {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("process: %q: %w: has a NUL byte", s, ErrInvalid)
		}
	}
	for _, e := range p.Env {
		if i := strings.IndexByte(e, '='); i <= 0 {
			return fmt.Errorf("process.env %q: %w: want NAME=VALUE", e, ErrInvalid)
		}
	}
	if b := p.ConsoleSize; b != nil && (b.Width > 65535 || b.Height > 65535) {
		return fmt.Errorf("process.consoleSize: %w: want at most 65535", ErrInvalid)
	}
	for _, id := range append([]uint32{p.User.UID, p.User.GID}, p.User.AdditionalGids...) {
		if id == math.MaxUint32 {
			return fmt.Errorf("process.user %d: %w: no ID, but what setresuid(2) takes for no change", id, ErrInvalid)
		}
	}
	for i, l := range p.Rlimits {
		if _, ok := rlimits[l.Type]; !ok {
			return fmt.Errorf("process.rlimits %q: %w: no such limit", l.Type, ErrInvalid)
		}
		if slices.ContainsFunc(p.Rlimits[:i], func(o specs.POSIXRlimit) bool { return o.Type == l.Type }) {
			return fmt.Errorf("process.rlimits %q: %w: given twice", l.Type, ErrInvalid)
		}
	}
	if adj := p.OOMScoreAdj; adj != nil && (*adj < -1000 || *adj > 1000) {
		return fmt.Errorf("process.oomScoreAdj %d: %w: want -1000 to 1000", *adj, ErrInvalid)
	}
	if _, err := capabilitySets(p.Capabilities); err != nil {
		return err
	}
	if _, err := schedAttr(p.Scheduler); err != nil {
		return err
	}
	_, err := ioPriority(p.IOPriority)
	return err
}

// checkRoot reports what is wrong with a container's files, or is given for a
// program on the host's.
func checkRoot(spec *specs.Spec) error {
	if spec.Root == nil {
		for i := range spec.Mounts {
			if m, err := parseMount(&spec.Mounts[i]); err != nil {
				return fmt.Errorf("mounts[%d] %s: %w", i, spec.Mounts[i].Destination, err)
			} else if !m.bind && m.fstype != "tmpfs" {
				return fmt.Errorf("mounts[%d].type %s: %w for a program on the host's filesystem", i, m.fstype, ErrNotSupported)
			}
		}
		return nil
	}
	if !path.IsAbs(spec.Root.Path) || strings.ContainsRune(spec.Root.Path, 0) {
		return fmt.Errorf("root.path %q: %w: want an absolute path", spec.Root.Path, ErrInvalid)
	}
	for i := range spec.Mounts {
		m, err := parseMount(&spec.Mounts[i])
		if err == nil {
			err = m.inherit(spec.Linux)
		}
		if err == nil && m.isCgroup() && (spec.Linux == nil || spec.Linux.CgroupsPath == "") {
			err = fmt.Errorf("%w: needs linux.cgroupsPath", ErrInvalid)
		}
		if err != nil {
			return fmt.Errorf("mounts[%d] %s: %w", i, spec.Mounts[i].Destination, err)
		}
	}
	return nil
}

func checkLinux(spec *specs.Spec) error {
	l := spec.Linux
	if (spec.Hostname != "" || spec.Domainname != "") && (l == nil || !isNew(l.Namespaces, specs.UTSNamespace)) {
		return fmt.Errorf("hostname: %w: needs a new UTS namespace, or it would be the pod's that changes", ErrInvalid)
	}
	if l == nil {
		return nil
	}
	if spec.Root == nil {
		for field, given := range map[string]bool{
			"devices": len(l.Devices) > 0, "maskedPaths": len(l.MaskedPaths) > 0, "readonlyPaths": len(l.ReadonlyPaths) > 0,
			"rootfsPropagation": l.RootfsPropagation != "", "uidMappings": len(l.UIDMappings) > 0, "gidMappings": len(l.GIDMappings) > 0,
		} {
			if given {
				return fmt.Errorf("linux.%s: %w for a program on the host's filesystem", field, ErrNotSupported)
			}
		}
	}
	seen := map[specs.LinuxNamespaceType]bool{}
	for i, ns := range l.Namespaces {
		_, known := namespaceFlags[ns.Type]
		switch {
		case !known || seen[ns.Type]:
			return fmt.Errorf("linux.namespaces[%d].type %q: %w: unknown, or given twice", i, ns.Type, ErrInvalid)
		case ns.Path != "" && !path.IsAbs(ns.Path):
			return fmt.Errorf("linux.namespaces[%d].path %q: %w: want an absolute path", i, ns.Path, ErrInvalid)
		case ns.Path != "" && (ns.Type == specs.MountNamespace || ns.Type == specs.UserNamespace):
			return fmt.Errorf("linux.namespaces[%d].path of type %s: %w", i, ns.Type, ErrNotSupported)
		case ns.Type == specs.TimeNamespace:
			return fmt.Errorf("linux.namespaces[%d].type %s: %w", i, ns.Type, ErrNotSupported)
		}
		seen[ns.Type] = true
	}
	if err := checkMapped(spec); err != nil {
		return err
	}
	if mapped := len(l.UIDMappings) > 0 && len(l.GIDMappings) > 0; seen[specs.UserNamespace] != mapped {
		return fmt.Errorf("linux.uidMappings, linux.gidMappings: %w: want both together with a new user namespace", ErrInvalid)
	}
	for i, d := range l.Devices {
		if _, err := parseDevice(&d); err != nil {
			return fmt.Errorf("linux.devices[%d] %s: %w", i, d.Path, err)
		}
	}
	for _, p := range slices.Concat(l.MaskedPaths, l.ReadonlyPaths) {
		if !path.IsAbs(p) || strings.ContainsRune(p, 0) || path.Clean(p) == "/" {
			return fmt.Errorf("linux.maskedPaths or linux.readonlyPaths %q: %w: want an absolute path, not the root's", p, ErrInvalid)
		}
	}
	if _, ok := propagations[l.RootfsPropagation]; l.RootfsPropagation != "" && !ok {
		return fmt.Errorf("linux.rootfsPropagation %q: %w: want private, slave, shared or unbindable", l.RootfsPropagation, ErrInvalid)
	}
	if _, err := personality(l.Personality); err != nil {
		return err
	}
	if l.Resources != nil && l.CgroupsPath == "" {
		return fmt.Errorf("linux.resources: %w: need linux.cgroupsPath", ErrInvalid)
	}
	return checkSysctls(l)
}

// checkMapped reports an ID of the program that its user namespace does not have.
func checkMapped(spec *specs.Spec) error {
	ids, u := mapping(spec), spec.Process.User
	if _, err := ids.uid(u.UID); err != nil {
		return fmt.Errorf("process.user.uid: %w", err)
	}
	for _, id := range append([]uint32{u.GID}, u.AdditionalGids...) {
		if _, err := ids.gid(id); err != nil {
			return fmt.Errorf("process.user.gid: %w", err)
		}
	}
	return nil
}

func isNew(namespaces []specs.LinuxNamespace, kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind && ns.Path == "" })
}

// checkRest reports a field that nothing above knows: what is left when all that
// is acted on is taken away must be nothing.
func checkRest(spec *specs.Spec) error {
	rest, proc := *spec, *spec.Process
	rest.Version, rest.Process, rest.Root, rest.Mounts, rest.Hostname, rest.Domainname = "", nil, nil, nil, "", ""
	rest.Annotations = nil // which mean something to others only
	proc.Terminal, proc.ConsoleSize = false, nil
	proc.User.UID, proc.User.GID, proc.User.AdditionalGids, proc.User.Umask = 0, 0, nil, nil
	proc.Args, proc.Env, proc.Cwd = nil, nil, ""
	proc.Rlimits, proc.NoNewPrivileges, proc.Capabilities, proc.OOMScoreAdj = nil, false, nil, nil
	proc.Scheduler, proc.IOPriority, proc.ApparmorProfile, proc.SelinuxLabel = nil, nil, "", ""
	if h := spec.Hooks; h != nil {
		hooks := *h
		//lint:ignore SA1019 deprecated, but in use
		hooks.Prestart, hooks.CreateRuntime, hooks.Poststart, hooks.Poststop = nil, nil, nil, nil
		if rest.Hooks = &hooks; reflect.ValueOf(hooks).IsZero() {
			rest.Hooks = nil
		}
	}
	if l := spec.Linux; l != nil {
		linux := *l
		linux.Namespaces, linux.UIDMappings, linux.GIDMappings, linux.Devices, linux.Sysctl = nil, nil, nil, nil, nil
		linux.CgroupsPath, linux.Resources, linux.Seccomp, linux.Personality = "", nil, nil, nil
		linux.MaskedPaths, linux.ReadonlyPaths, linux.RootfsPropagation = nil, nil, ""
		if rest.Linux = &linux; reflect.ValueOf(linux).IsZero() {
			rest.Linux = nil
		}
	}
	if reflect.ValueOf(&rest).Elem().IsZero() && reflect.ValueOf(&proc).Elem().IsZero() {
		return nil // without looking at each field's name
	}
	field := firstSet(reflect.ValueOf(proc))
	if field != "" {
		field = "process." + field
	} else {
		field = firstSet(reflect.ValueOf(rest))
	}
	if field != "" {
		return fmt.Errorf("%s: %w", field, ErrNotSupported)
	}
	return nil
}

// firstSet returns the JSON path of the first field below v that is not zero, or
// "".
func firstSet(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	for i := range v.NumField() {
		f := v.Field(i)
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		switch f.Kind() {
		case reflect.Struct:
		case reflect.Pointer:
			// Also an empty structure may mean something: no capabilities.
			if f.IsNil() {
				continue
			}
			if f.Elem().Kind() == reflect.Struct {
				if inner := firstSet(f); inner != "" {
					return name + "." + inner
				}
			}
			return name
		case reflect.Slice, reflect.Map, reflect.String:
			if f.Len() > 0 {
				return name
			}
			continue
		default:
			if !f.IsZero() {
				return name
			}
			continue
		}
		if inner := firstSet(f); inner != "" {
			return name + "." + inner
		}
	}
	return ""
}
