package volumes

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

const wantVolume = "want NAME[:disk|memory[,size=64Mi]] or NAME:hostpath=/PATH[,type=TYPE]"

// Parse returns the volume that a command line names as
//
//	NAME or NAME:disk
//	NAME:memory[,size=64Mi]
//	NAME:hostpath=/PATH[,type=TYPE]
//
// A size is a number of bytes, or one with a unit: k, m, g, t or p, whatever the
// case, alone or with b, i or ib after it. All are powers of 1024, as in docker;
// Kubernetes' Ki, Mi and Gi mean the same in both.
func Parse(s string) (Volume, error) {
	v, err := parse(s)
	if err != nil {
		return Volume{}, fmt.Errorf("volume %q: %w", s, err)
	}
	return v, v.Validate()
}

func parse(s string) (Volume, error) {
	name, rest, found := strings.Cut(s, ":")
	if !found {
		rest = "disk"
	}
	kind, options, found := strings.Cut(rest, ",")
	v := Volume{Name: name}
	var option func(key, value string) error
	switch hostPath, isHostPath := strings.CutPrefix(kind, "hostpath="); {
	case isHostPath:
		v.HostPath = &HostPath{Path: hostPath}
		option = v.HostPath.option
	case kind == "disk":
		v.Disk = &Disk{}
		option = v.Disk.option
	case kind == "memory":
		v.Memory = &Memory{}
		option = v.Memory.option
	default:
		return v, fmt.Errorf("%w: %s", ErrInvalid, wantVolume)
	}
	if !found {
		return v, nil
	}
	for o := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		if err := option(key, value); err != nil {
			return v, err
		}
	}
	return v, nil
}

func (d *Disk) option(key, value string) error {
	if key == "size" {
		return fmt.Errorf("size %q: %w: nothing here enforces the size of a disk volume; memory can have one", value, ErrNotSupported)
	}
	return invalid("option", key, "a disk volume has none")
}

func (m *Memory) option(key, value string) (err error) {
	if key != "size" {
		return invalid("option", key, "want size")
	}
	m.Size, err = parseSize(value)
	return err
}

func (h *HostPath) option(key, value string) error {
	if key != "type" {
		return invalid("option", key, "want type; a path with a comma cannot be written here")
	}
	h.Type = PathType(value)
	return nil
}

const units = "kmgtp"

// parseSize returns the number of bytes that s says, exactly or not at all.
func parseSize(s string) (int64, error) {
	number := strings.TrimRight(s, "bBiI"+units+strings.ToUpper(units))
	unit := strings.ToLower(s[len(number):])
	shift := uint(0)
	if unit != "" && unit != "b" {
		i := strings.IndexByte(units, unit[0])
		if rest := unit[1:]; i < 0 || rest != "" && rest != "b" && rest != "i" && rest != "ib" {
			return 0, invalid("size", s, "want bytes, or a number with a unit such as 64Mi or 64m")
		}
		shift = uint(i+1) * 10
	}
	// big.Rat reads more than a size may be, and some of it would take long.
	if number == "" || len(number) > 32 || strings.Trim(number, "0123456789.") != "" {
		return 0, invalid("size", s, "want bytes, or a number with a unit such as 64Mi or 64m")
	}
	r, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, invalid("size", s, "want a number")
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), shift)))
	if !r.IsInt() || !r.Num().IsInt64() {
		return 0, invalid("size", s, "want whole bytes, less than 8 EiB")
	}
	if n := r.Num().Int64(); n >= minSize {
		return n, nil
	}
	return 0, invalid("size", s, wantSize)
}

// String returns the volume as Parse reads it. Of Files, which Parse does not know,
// it shows no contents; nor does Parse know claims.
func (v Volume) String() string {
	s := v.Name + ":" + v.Kind()
	switch {
	case v.Memory != nil && v.Memory.Size != 0:
		s += ",size=" + formatSize(v.Memory.Size)
	case v.Claim != nil:
		s += "=" + v.Claim.Name
	case v.HostPath != nil:
		s += "=" + v.HostPath.Path
		if v.HostPath.Type != PathAny {
			s += ",type=" + string(v.HostPath.Type)
		}
	}
	return s
}

func formatSize(n int64) string {
	for i := len(units); i > 0; i-- {
		if unit := int64(1) << (10 * i); n%unit == 0 {
			return strconv.FormatInt(n/unit, 10) + strings.ToUpper(units[i-1:i]) + "i"
		}
	}
	return strconv.FormatInt(n, 10)
}
