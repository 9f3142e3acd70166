package launcher

import (
	"fmt"
	"os"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
)

// VolumeType is the type of an OCI mount whose source is the name of a volume of
// the pod. Its options are those of a bind mount, and subpath=PATH.
const VolumeType = "volume"

// A mount is an entry of a spec's mounts, read.
type mount struct {
	dest    string // clean and absolute
	fstype  string
	source  string
	bind    bool
	rec     bool   // of a bind mount: with all that is mounted below
	subPath string // of a volume
	idmap   bool
	ids     idMapping // what it is mapped to
	recMap  bool      // with all that is mounted below

	attrs       mnt.Attrs // of the mount
	recAttrs    mnt.Attrs // of it and all that is mounted below
	propagation uint64    // MS_PRIVATE …, 0 if nothing is said
	recProp     bool
	options     []mnt.Option // of the filesystem

	tree   *os.File     // what is mounted
	placed bool         // it is attached
	views  []cgroupView // of a mount of cgroups
}

// isCgroup reports whether a mount is of the container's cgroup.
func (m *mount) isCgroup() bool { return m.fstype == "cgroup" || m.fstype == "cgroup2" }

// parseMount reads an entry of a spec's mounts.
func parseMount(m *specs.Mount) (*mount, error) {
	if !path.IsAbs(m.Destination) || strings.ContainsRune(m.Destination+m.Source, 0) {
		return nil, fmt.Errorf("destination %q: %w: want an absolute path", m.Destination, ErrInvalid)
	}
	p := &mount{dest: path.Clean(m.Destination), fstype: m.Type, source: m.Source, ids: idMapping{m.UIDMappings, m.GIDMappings}}
	for _, o := range m.Options {
		if err := p.option(o); err != nil {
			return nil, err
		}
	}
	if p.fstype == "bind" || p.fstype == VolumeType {
		p.bind = true
	}
	switch {
	case p.dest == "/":
		return nil, fmt.Errorf("destination: %w: the root is given by root.path", ErrInvalid)
	case p.bind && p.fstype != VolumeType && !path.IsAbs(p.source):
		return nil, fmt.Errorf("source %q: %w: want an absolute path", p.source, ErrInvalid)
	case p.bind && len(p.options) > 0:
		return nil, fmt.Errorf("option %q: %w of a bind mount", p.options[0].Key, ErrNotSupported)
	case p.fstype == "" && !p.bind:
		return nil, fmt.Errorf("type: %w: empty", ErrInvalid)
	case p.fstype == VolumeType && p.source == "":
		return nil, fmt.Errorf("source: %w: want the name of a volume", ErrInvalid)
	case len(p.ids.uids) > 0 != (len(p.ids.gids) > 0):
		return nil, fmt.Errorf("uidMappings, gidMappings: %w: want both", ErrInvalid)
	}
	if p.subPath != "" && p.fstype != VolumeType {
		return nil, fmt.Errorf("option subpath: %w: for volumes", ErrInvalid)
	}
	// What is mapped without a word in the options is mapped too.
	p.idmap = p.idmap || p.ids.some()
	if p.bind {
		return p, nil
	}
	// There is nothing below a new mount.
	p.attrs.Add(p.recAttrs.Set, p.recAttrs.Clear)
	return p, p.checkNew()
}

// checkNew reports what is said of a mount that is none of a file or a directory that
// are there, and cannot be done.
func (p *mount) checkNew() error {
	switch {
	case p.idmap:
		return fmt.Errorf("option idmap: %w but of a bind mount", ErrNotSupported)
	case p.isCgroup() && len(p.options) > 0:
		return fmt.Errorf("option %s: %w of the container's own cgroup", p.options[0].Key, ErrNotSupported)
	case p.fstype == overlayType:
		_, err := p.overlay()
		return err
	case p.fstype == "proc" && p.propagation != 0:
		return fmt.Errorf("propagation: %w of a mount of proc", ErrNotSupported)
	}
	return nil
}

// inherit has a mount that is to be mapped, but not how, be mapped as the container's
// user namespace is.
func (p *mount) inherit(l *specs.Linux) error {
	if !p.idmap || p.ids.some() {
		return nil
	}
	if l != nil {
		p.ids = idMapping{l.UIDMappings, l.GIDMappings}
	}
	if !p.ids.some() {
		return fmt.Errorf("option idmap: %w: need uidMappings, or a user namespace", ErrInvalid)
	}
	return nil
}

// An attrOption is an option that sets, or clears, attributes of a mount.
type attrOption struct{ set, clear uint64 }

var attrOptions = map[string]attrOption{
	"ro": {set: unix.MOUNT_ATTR_RDONLY}, "rw": {clear: unix.MOUNT_ATTR_RDONLY},
	"nosuid": {set: unix.MOUNT_ATTR_NOSUID}, "suid": {clear: unix.MOUNT_ATTR_NOSUID},
	"nodev": {set: unix.MOUNT_ATTR_NODEV}, "dev": {clear: unix.MOUNT_ATTR_NODEV},
	"noexec": {set: unix.MOUNT_ATTR_NOEXEC}, "exec": {clear: unix.MOUNT_ATTR_NOEXEC},
	"nodiratime": {set: unix.MOUNT_ATTR_NODIRATIME}, "diratime": {clear: unix.MOUNT_ATTR_NODIRATIME},
	"nosymfollow": {set: unix.MOUNT_ATTR_NOSYMFOLLOW}, "symfollow": {clear: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"relatime": {clear: unix.MOUNT_ATTR__ATIME}, "norelatime": {clear: unix.MOUNT_ATTR__ATIME, set: unix.MOUNT_ATTR_STRICTATIME},
	"noatime":     {clear: unix.MOUNT_ATTR__ATIME, set: unix.MOUNT_ATTR_NOATIME},
	"atime":       {clear: unix.MOUNT_ATTR__ATIME, set: unix.MOUNT_ATTR_RELATIME},
	"strictatime": {clear: unix.MOUNT_ATTR__ATIME, set: unix.MOUNT_ATTR_STRICTATIME},
}

var propagations = map[string]uint64{
	"private": unix.MS_PRIVATE, "slave": unix.MS_SLAVE, "shared": unix.MS_SHARED, "unbindable": unix.MS_UNBINDABLE,
	"rprivate": unix.MS_PRIVATE, "rslave": unix.MS_SLAVE, "rshared": unix.MS_SHARED, "runbindable": unix.MS_UNBINDABLE,
}

// option reads one option, as mount(8) and the OCI specification have them.
func (p *mount) option(o string) error {
	if a, ok := attrOptions[o]; ok {
		p.attrs.Add(a.set, a.clear)
		return nil
	}
	if a, ok := attrOptions[strings.TrimPrefix(o, "r")]; ok && o[0] == 'r' {
		p.recAttrs.Add(a.set, a.clear)
		return nil
	}
	if how, ok := propagations[o]; ok {
		p.propagation, p.recProp = how, o[0] == 'r'
		return nil
	}
	key, value, valued := strings.Cut(o, "=")
	switch {
	case o == "bind":
		p.bind = true
	case o == "rbind":
		p.bind, p.rec = true, true
	case o == "defaults":
	case o == "idmap" || o == "ridmap":
		p.idmap, p.recMap = true, o == "ridmap"
	case key == "subpath" && valued:
		p.subPath = value
	case key == "" || key == "source":
		return fmt.Errorf("option %q: %w", o, ErrInvalid)
	case o == "tmpcopyup" || o == "async" || o == "remount":
		return fmt.Errorf("option %q: %w", o, ErrNotSupported)
	default:
		p.options = append(p.options, mnt.Option{Key: key, Value: value})
	}
	return nil
}
