package launcher

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/podbox/podbox/image/overlay"
)

// overlayType is the type of a mount that is made of directories of the host, such as
// those of an image's layers. It is made while these are in sight.
const overlayType = "overlay"

// overlay reads the options of such a mount: lowerdir, upperdir, workdir and volatile, as
// overlayfs.rst of the kernel has them.
func (m *mount) overlay() (o overlay.Options, err error) {
	for _, opt := range m.options {
		switch opt.Key {
		case "lowerdir":
			o.Lower = splitLower(opt.Value)
		case "upperdir":
			o.Upper = opt.Value
		case "workdir":
			o.Work = opt.Value
		case "volatile":
			o.Volatile = true
		default:
			return o, fmt.Errorf("option %s: %w of an overlay", opt.Key, ErrNotSupported)
		}
	}
	slices.Reverse(o.Lower) // ours are from the lowest
	for _, p := range append(slices.Clone(o.Lower), o.Upper, o.Work) {
		if p != "" && (!path.IsAbs(p) || strings.ContainsRune(p, 0)) {
			return o, fmt.Errorf("directory %q of an overlay: %w: want an absolute path", p, ErrInvalid)
		}
	}
	switch {
	case len(o.Lower) == 0 || slices.Contains(o.Lower, ""):
		return o, fmt.Errorf("option lowerdir: %w: want a list of directories", ErrInvalid)
	case (o.Upper == "") != (o.Work == ""):
		return o, fmt.Errorf("options upperdir, workdir: %w: want both, or none", ErrInvalid)
	}
	return o, nil
}

// splitLower splits a list of directories at colons, of which a backslash makes part of a
// name.
func splitLower(s string) []string {
	var list []string
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == ':':
			list = append(list, b.String())
			b.Reset()
		default:
			b.WriteByte(s[i])
		}
	}
	return append(list, b.String())
}

func (m *mount) newOverlay() (*os.File, error) {
	o, err := m.overlay()
	if err != nil {
		return nil, err
	}
	o.Source = m.source
	tree, err := overlay.New(o)
	if err != nil {
		return nil, err
	}
	if err := m.apply(tree); err != nil {
		tree.Close()
		return nil, err
	}
	return tree, nil
}
