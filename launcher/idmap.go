package launcher

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/podbox/podbox/internal/mnt"
)

// An idMapping says which IDs of the host those of a user namespace are. Without one
// they are the same.
type idMapping struct{ uids, gids []specs.LinuxIDMapping }

// mapping returns that of a container's user namespace.
func mapping(spec *specs.Spec) idMapping {
	if spec.Linux == nil {
		return idMapping{}
	}
	return idMapping{spec.Linux.UIDMappings, spec.Linux.GIDMappings}
}

func (m idMapping) some() bool { return len(m.uids) > 0 }

// uid returns the host's ID of a user; ErrInvalid if it has none.
func (m idMapping) uid(id uint32) (int, error) { return hostID("user", m.uids, id) }

// gid is uid of a group.
func (m idMapping) gid(id uint32) (int, error) { return hostID("group", m.gids, id) }

// root returns the host's IDs of the user and the group 0, or those of the host's
// root if they are not mapped.
func (m idMapping) root() (uid, gid int) {
	uid, _ = m.uid(0)
	gid, _ = m.gid(0)
	return uid, gid
}

func hostID(kind string, maps []specs.LinuxIDMapping, id uint32) (int, error) {
	if len(maps) == 0 {
		return int(id), nil
	}
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return int(m.HostID + (id - m.ContainerID)), nil
		}
	}
	return 0, fmt.Errorf("%s %d: %w: not mapped in the user namespace", kind, id, ErrInvalid)
}

// own has a new filesystem belong to the root of the container's user namespace: it is
// mounted from outside of that, where the IDs in its options are the host's.
func (m idMapping) own(fstype string, options []mnt.Option) ([]mnt.Option, error) {
	if !m.some() || fstype != "tmpfs" && fstype != "devpts" {
		return options, nil
	}
	var out []mnt.Option
	if fstype == "tmpfs" {
		uid, gid := m.root()
		out = append(out, mnt.Option{Key: "uid", Value: fmt.Sprint(uid)}, mnt.Option{Key: "gid", Value: fmt.Sprint(gid)})
	}
	for _, o := range options {
		translate := map[string]func(uint32) (int, error){"uid": m.uid, "gid": m.gid}[o.Key]
		if translate != nil {
			var id uint32
			if _, err := fmt.Sscan(o.Value, &id); err != nil {
				return nil, fmt.Errorf("option %s=%s: %w", o.Key, o.Value, ErrInvalid)
			}
			host, err := translate(id)
			if err != nil {
				return nil, fmt.Errorf("option %s=%s: %w", o.Key, o.Value, err)
			}
			o.Value = fmt.Sprint(host)
		}
		out = append(out, o)
	}
	return out, nil
}
