package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/launcher"
	"github.com/podbox/podbox/sandbox"
	"github.com/podbox/podbox/supervisor"
)

// mounts adds what --volume and --tmpfs say.
func (f *runFlags) mounts(o *specs.Spec) error {
	for _, v := range f.volumes {
		m, err := parseVolumeMount(v)
		if err != nil {
			return err
		}
		o.Mounts = append(o.Mounts, m)
	}
	for _, t := range f.tmpfs {
		dest, options, _ := strings.Cut(t, ":")
		if !path.IsAbs(dest) {
			return fmt.Errorf("--tmpfs %q: %w: want an absolute path", t, sandbox.ErrInvalid)
		}
		m := specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=1777"}}
		if options != "" {
			m.Options = append(m.Options, strings.Split(options, ",")...)
		}
		o.Mounts = append(o.Mounts, m)
	}
	seen := map[string]bool{}
	for _, m := range o.Mounts {
		if dest := path.Clean(m.Destination); seen[dest] {
			return fmt.Errorf("mount at %s: %w: given twice", dest, sandbox.ErrInvalid)
		}
		seen[path.Clean(m.Destination)] = true
	}
	return nil
}

// parseVolumeMount reads VOLUME:/PATH[:OPTIONS]. What begins with a slash is a path
// of the host.
func parseVolumeMount(s string) (specs.Mount, error) {
	words := strings.Split(s, ":")
	if len(words) < 2 || len(words) > 3 || words[0] == "" || !path.IsAbs(words[1]) {
		return specs.Mount{}, fmt.Errorf("--volume %q: %w: want VOLUME:/PATH[:OPTIONS]", s, sandbox.ErrInvalid)
	}
	m := specs.Mount{Source: words[0], Destination: words[1], Type: launcher.VolumeType, Options: []string{"rbind", "nosuid", "nodev"}}
	if path.IsAbs(words[0]) {
		m.Type = "bind"
	} else if strings.ContainsAny(words[0], "/.") {
		return m, fmt.Errorf("--volume %q: %w: want the name of a volume of the pod, or an absolute path of the host", s, sandbox.ErrInvalid)
	}
	if len(words) == 3 {
		m.Options = append(m.Options, strings.Split(words[2], ",")...)
	}
	return m, nil
}

// addDevices adds what --device says.
func (f *runFlags) addDevices(o *specs.Spec) error {
	for _, d := range f.devices {
		words := strings.Split(d, ":")
		access, inside := "rwm", words[0]
		for _, w := range words[1:] {
			switch {
			case path.IsAbs(w):
				inside = w
			case w != "" && strings.Trim(w, "rwm") == "":
				access = w
			default:
				return fmt.Errorf("--device %q: %w: want /dev/NAME[:/dev/NAME][:rwm]", d, sandbox.ErrInvalid)
			}
		}
		var st unix.Stat_t
		if err := unix.Stat(words[0], &st); err != nil {
			return fmt.Errorf("--device %s: %w", words[0], err)
		}
		kind := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[st.Mode&unix.S_IFMT]
		if kind == "" {
			return fmt.Errorf("--device %s: %w: not a device", words[0], sandbox.ErrInvalid)
		}
		mode := os.FileMode(st.Mode & 0o777)
		major, minor := int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
		o.Linux.Devices = append(o.Linux.Devices, specs.LinuxDevice{
			Path: inside, Type: kind, Major: major, Minor: minor, FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
		})
		o.Linux.Resources.Devices = append(o.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: kind, Major: &major, Minor: &minor, Access: access,
		})
	}
	return nil
}

// security sets what --privileged, --cap-add, --cap-drop and --security-opt say.
func (f *runFlags) security(o *specs.Spec, s *supervisor.Spec) error {
	if f.privileged {
		launcher.Privilege(o)
		s.DefaultSeccomp = false
	}
	caps, err := changeCapabilities(o.Process.Capabilities.Bounding, f.capAdd, f.capDrop)
	if err != nil {
		return err
	}
	o.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	if o.Process.User.UID != 0 {
		// As execve(2) would have it: another user than root has none but those that
		// are asked for by name, which are ambient.
		added, err := changeCapabilities(nil, f.capAdd, f.capDrop)
		if err != nil {
			return err
		}
		c := o.Process.Capabilities
		c.Effective, c.Permitted, c.Inheritable, c.Ambient = added, added, added, added
	}
	for _, opt := range f.securityOpts {
		if err := securityOption(o, s, opt); err != nil {
			return err
		}
	}
	return nil
}

// changeCapabilities adds to capabilities and takes from them.
func changeCapabilities(have, add, drop []string) ([]string, error) {
	set := map[string]bool{}
	for _, c := range have {
		set[c] = true
	}
	for _, change := range []struct {
		flag  string
		words []string
		to    bool
	}{{"--cap-drop", drop, false}, {"--cap-add", add, true}} {
		for _, w := range change.words {
			name := strings.ToUpper(w)
			if name == "ALL" {
				// Dropping all, then adding some, is what people mean by both.
				for _, c := range launcher.AvailableCapabilities() {
					set[c] = change.to
				}
				continue
			}
			if !strings.HasPrefix(name, "CAP_") {
				name = "CAP_" + name
			}
			if !slices.Contains(launcher.Capabilities(), name) {
				return nil, fmt.Errorf("%s %q: %w: no such capability", change.flag, w, sandbox.ErrInvalid)
			}
			if change.to && slices.ContainsFunc(drop, func(d string) bool { return "CAP_"+strings.TrimPrefix(strings.ToUpper(d), "CAP_") == name }) {
				return nil, fmt.Errorf("%s %q: %w: dropped too", change.flag, w, sandbox.ErrInvalid)
			}
			set[name] = change.to
		}
	}
	return slices.DeleteFunc(launcher.Capabilities(), func(c string) bool { return !set[c] }), nil
}

func securityOption(o *specs.Spec, s *supervisor.Spec, opt string) error {
	key, value, valued := strings.Cut(opt, "=")
	if !valued { // Docker's older form
		key, value, valued = strings.Cut(opt, ":")
	}
	switch key {
	case "no-new-privileges":
		o.Process.NoNewPrivileges = true
		if valued {
			b, err := strconv.ParseBool(value)
			if err != nil {
				return fmt.Errorf("--security-opt %q: %w: want true or false", opt, sandbox.ErrInvalid)
			}
			o.Process.NoNewPrivileges = b
		}
	case "seccomp":
		return seccompOption(o, s, value)
	case "apparmor":
		o.Process.ApparmorProfile = value
	case "label":
		if value != "disable" {
			o.Process.SelinuxLabel = value
		}
	case "mask":
		o.Linux.MaskedPaths = append(o.Linux.MaskedPaths, strings.Split(value, ":")...)
	case "unmask":
		unmask(o, value)
	default:
		return fmt.Errorf("--security-opt %q: %w: want no-new-privileges, seccomp=, apparmor=, label=, mask= or unmask=", opt, sandbox.ErrInvalid)
	}
	return nil
}

func seccompOption(o *specs.Spec, s *supervisor.Spec, value string) error {
	s.DefaultSeccomp = value == "" || value == "default"
	if s.DefaultSeccomp || value == "unconfined" {
		return nil
	}
	b, err := os.ReadFile(value)
	if err != nil {
		return fmt.Errorf("--security-opt seccomp: %w", err)
	}
	o.Linux.Seccomp = new(specs.LinuxSeccomp)
	if err := json.Unmarshal(b, o.Linux.Seccomp); err != nil {
		return fmt.Errorf("--security-opt seccomp: %s: %w", value, err)
	}
	return nil
}

func unmask(o *specs.Spec, value string) {
	if value == "ALL" {
		o.Linux.MaskedPaths, o.Linux.ReadonlyPaths = nil, nil
		return
	}
	listed := func(p string) bool { return slices.Contains(strings.Split(value, ":"), p) }
	o.Linux.MaskedPaths = slices.DeleteFunc(o.Linux.MaskedPaths, listed)
	o.Linux.ReadonlyPaths = slices.DeleteFunc(o.Linux.ReadonlyPaths, listed)
}

// idMaps reads --uidmap and --gidmap.
func (f *runFlags) idMaps() (uids, gids []specs.LinuxIDMapping, err error) {
	if uids, err = parseIDMaps("--uidmap", f.uidMaps); err != nil {
		return nil, nil, err
	}
	if len(f.gidMaps) == 0 {
		return uids, uids, nil
	}
	if len(uids) == 0 {
		return nil, nil, fmt.Errorf("--gidmap: %w: want --uidmap too", sandbox.ErrInvalid)
	}
	gids, err = parseIDMaps("--gidmap", f.gidMaps)
	return uids, gids, err
}

func parseIDMaps(flag string, words []string) ([]specs.LinuxIDMapping, error) {
	var maps []specs.LinuxIDMapping
	for _, w := range words {
		var n [3]uint64
		parts := strings.Split(w, ":")
		err := fmt.Errorf("%s %q: %w: want INSIDE:OUTSIDE:SIZE", flag, w, sandbox.ErrInvalid)
		if len(parts) != len(n) {
			return nil, err
		}
		for i, p := range parts {
			var perr error
			if n[i], perr = strconv.ParseUint(p, 10, 32); perr != nil {
				return nil, err
			}
		}
		maps = append(maps, specs.LinuxIDMapping{ContainerID: uint32(n[0]), HostID: uint32(n[1]), Size: uint32(n[2])})
	}
	return maps, nil
}
