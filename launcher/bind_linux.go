package launcher

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/mnt"
)

// clone returns what a bind mount shows, as a detached mount.
func (m *mount) clone(source string) (*os.File, error) {
	tree, err := mnt.Clone(source, m.rec)
	if err != nil {
		return nil, err
	}
	if err := m.apply(tree); err != nil {
		tree.Close()
		return nil, err
	}
	return tree, nil
}

// apply gives a detached mount the attributes and the propagation it shall have.
func (m *mount) apply(tree *os.File) error {
	if err := m.propagate(tree); err != nil {
		return err
	}
	if m.attrs != (mnt.Attrs{}) {
		if err := mnt.Set(tree, false, m.attrs, 0); err != nil {
			return err
		}
	}
	if m.recAttrs != (mnt.Attrs{}) {
		if err := mnt.Set(tree, true, m.recAttrs, 0); err != nil {
			return err
		}
	}
	if !m.idmap {
		return nil
	}
	userns, err := newUserNamespace(m.ids)
	if err != nil {
		return err
	}
	defer userns.Close()
	return mnt.MapIDs(tree, userns, m.recMap)
}

// propagate says with whom a detached mount, and what is mounted below it, shares
// what is mounted later: with nobody unless something is said.
func (m *mount) propagate(tree *os.File) error {
	if m.propagation == 0 {
		return mnt.Set(tree, true, mnt.Attrs{}, unix.MS_PRIVATE)
	}
	if !m.recProp && m.propagation != unix.MS_SHARED {
		// What is below would share with the host what is mounted there by the
		// container.
		if err := mnt.Set(tree, true, mnt.Attrs{}, unix.MS_SLAVE); err != nil {
			return err
		}
	}
	return mnt.Set(tree, m.recProp, mnt.Attrs{}, m.propagation)
}
