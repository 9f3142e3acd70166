package launcher

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// acted are the fields of a configuration that the launcher acts on, or that say nothing
// to it. Whatever else there is, also in later versions of the specification, is refused.
var acted = map[string][]string{
	"":        {"ociVersion", "process", "root", "hostname", "domainname", "mounts", "hooks", "annotations", "linux"},
	"process": {"terminal", "consoleSize", "user", "args", "env", "cwd", "capabilities", "rlimits", "noNewPrivileges", "apparmorProfile", "oomScoreAdj", "scheduler", "selinuxLabel", "ioPriority"},
	"user":    {"uid", "gid", "umask", "additionalGids"},
	"hooks":   {"prestart", "createRuntime", "poststart", "poststop"},
	"linux": {
		"uidMappings", "gidMappings", "sysctl", "resources", "cgroupsPath", "namespaces", "devices", "seccomp", "rootfsPropagation",
		"maskedPaths", "readonlyPaths", "personality",
	},
	"root":         {"path", "readonly"},
	"mounts":       {"destination", "type", "source", "options", "uidMappings", "gidMappings"},
	"namespaces":   {"type", "path"},
	"devices":      {"path", "type", "major", "minor", "fileMode", "uid", "gid"},
	"scheduler":    {"policy", "nice", "priority", "flags", "runtime", "deadline", "period"},
	"ioPriority":   {"class", "priority"},
	"rlimits":      {"type", "hard", "soft"},
	"capabilities": {"bounding", "effective", "inheritable", "permitted", "ambient"},
	"hook":         {"path", "args", "env", "timeout"},
}

// fill sets a value to something that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem())
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Struct:
		fill(v.Field(0))
	default:
		v.Set(reflect.ValueOf(1).Convert(v.Type()))
	}
}

func TestEveryFieldIsActedOnOrRefused(t *testing.T) {
	refused := 0
	for name, of := range map[string]func(*specs.Spec) any{
		"":        func(s *specs.Spec) any { return s },
		"process": func(s *specs.Spec) any { return s.Process },
		"user":    func(s *specs.Spec) any { return &s.Process.User },
		"hooks":   func(s *specs.Spec) any { return s.Hooks },
		"linux":   func(s *specs.Spec) any { return s.Linux },
	} {
		for i := range reflect.TypeOf(of(&specs.Spec{Process: new(specs.Process), Hooks: new(specs.Hooks), Linux: new(specs.Linux)})).Elem().NumField() {
			s := Default("/root", "true")
			s.Linux.Resources, s.Hooks = nil, new(specs.Hooks)
			v := reflect.ValueOf(of(s)).Elem()
			field, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if slices.Contains(acted[name], field) {
				continue
			}
			fill(v.Field(i))
			if err := check(s); !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), field) {
				t.Errorf("%s.%s: %v", name, field, err)
			}
			refused++
		}
	}
	if refused < 10 {
		t.Errorf("%d refused only", refused)
	}
	// What is below the fields above has no others.
	for name, v := range map[string]any{
		"root": specs.Root{}, "mounts": specs.Mount{}, "namespaces": specs.LinuxNamespace{}, "devices": specs.LinuxDevice{}, "scheduler": specs.Scheduler{},
		"ioPriority": specs.LinuxIOPriority{}, "rlimits": specs.POSIXRlimit{}, "capabilities": specs.LinuxCapabilities{}, "hook": specs.Hook{},
	} {
		for i := range reflect.TypeOf(v).NumField() {
			field, _, _ := strings.Cut(reflect.TypeOf(v).Field(i).Tag.Get("json"), ",")
			if !slices.Contains(acted[name], field) {
				t.Errorf("%s has a field %s, which nobody looks at", name, field)
			}
		}
	}
}

func TestWrongValues(t *testing.T) {
	for want, change := range map[string]func(*specs.Spec){
		"process.rlimits":               func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_AS"}, {Type: "RLIMIT_AS"}} },
		"process.oomScoreAdj":           func(s *specs.Spec) { s.Process.OOMScoreAdj = new(1001) },
		"process.capabilities.bounding": func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_NONE"} },
		"process.capabilities.ambient":  func(s *specs.Spec) { s.Process.Capabilities.Ambient = []string{"chown"} },
		"process.scheduler.policy":      func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "x"} },
		"process.scheduler.flags": func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Flags: []specs.LinuxSchedulerFlag{"x"}}
		},
		"process.ioPriority": func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
		},
		"process.user":                   func(s *specs.Spec) { s.Process.User.GID = 1<<32 - 1 },
		"linux.personality":              func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "x"} },
		"linux.rootfsPropagation":        func(s *specs.Spec) { s.Linux.RootfsPropagation = "x" },
		"linux.maskedPaths":              func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"/x/.."} },
		"readonlyPaths":                  func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"/"} },
		"linux.devices[0] /dev/x: type":  func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "d"}} },
		"linux.devices[0] /dev/x: major": func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: -1}} },
		"linux.namespaces[1]":            func(s *specs.Spec) { s.Linux.Namespaces[1].Type = specs.PIDNamespace },
		"mounts[0] proc":                 func(s *specs.Spec) { s.Mounts[0].Destination = "proc" },
		"mounts[0] /":                    func(s *specs.Spec) { s.Mounts[0].Destination = "/x/.." },
		"mounts[0] /proc: type":          func(s *specs.Spec) { s.Mounts[0].Type = "" },
		"mounts[0] /proc: source":        func(s *specs.Spec) { s.Mounts[0].Type, s.Mounts[0].Source = "bind", "relative" },
		"mounts[0] /proc: option subpath": func(s *specs.Spec) {
			s.Mounts[0].Options = []string{"subpath=x"}
		},
		"mounts[0] /proc: option \"source=x\"": func(s *specs.Spec) { s.Mounts[0].Options = []string{"source=x"} },
		"hooks":                                func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "x"}}} },
	} {
		s := Default("/root", "true")
		s.Linux.Resources = nil
		change(s)
		if err := check(s); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for want, change := range map[string]func(*specs.Spec){
		"linux.devices[0] /dev/../etc/x": func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/../etc/x", Type: "c"}} },
		"linux.personality.flags": func(s *specs.Spec) {
			s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux, Flags: make([]specs.LinuxPersonalityFlag, 1)}
		},
		"mounts[0] /proc: propagation":       func(s *specs.Spec) { s.Mounts[0].Options = []string{"rshared"} },
		"mounts[1] /dev: option \"remount\"": func(s *specs.Spec) { s.Mounts[1].Options = []string{"remount"} },
		"mounts[1] /dev: option \"size\"": func(s *specs.Spec) {
			s.Mounts[1] = specs.Mount{Destination: "/dev", Source: "/dev", Options: []string{"bind", "size=1"}}
		},
	} {
		s := Default("/root", "true")
		s.Linux.Resources = nil
		change(s)
		if err := check(s); !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
