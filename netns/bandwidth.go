package netns

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bandwidth limits how fast a pod receives and sends by its link; its loopback link
// is not limited. The zero value is no limit.
type Bandwidth struct {
	// Ingress is what the pod receives at most, in bits a second, with the headers of
	// Ethernet. 0: no limit.
	Ingress uint64 `json:"ingress,omitempty"`
	// Egress is what the pod sends at most, in the same way.
	Egress uint64 `json:"egress,omitempty"`
}

// The bounds of a rate, in bits a second, are those of Kubernetes.
const (
	minRate = 1e3
	maxRate = 1e15
)

// Validate reports the first wrong value; it looks at nothing but b.
func (b Bandwidth) Validate() error {
	for _, r := range []struct {
		name string
		rate uint64
	}{{"ingress", b.Ingress}, {"egress", b.Egress}} {
		if r.rate != 0 && (r.rate < minRate || r.rate > maxRate) {
			return fmt.Errorf("%s bandwidth %d: %w: want from 1k to 1P bits a second", r.name, r.rate, ErrInvalid)
		}
	}
	return nil
}

// units are the suffixes of rates: those of Kubernetes' quantities, and those of tc(8)
// for bits, without their ending.
var units = map[string]float64{
	"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
	"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
}

// ParseRate reads a rate in bits a second, as the value of the annotation
// kubernetes.io/ingress-bandwidth has it (10M, 512Ki, 1.5G) or as tc(8) does (10mbit,
// 512kibit). 0 is no limit.
func ParseRate(s string) (uint64, error) {
	wrong := func(why string) (uint64, error) {
		return 0, fmt.Errorf("rate %q: %w: %s", s, ErrInvalid, why)
	}
	const form = "want bits a second, such as 10M, 512Ki, 1G or 10mbit"
	end := strings.LastIndexAny(s, "0123456789.") + 1
	number, unit := s[:end], s[end:]
	factor, known := units[unit]
	if prefix, isTC := strings.CutSuffix(strings.ToLower(unit), "bit"); isTC {
		// tc's prefixes are the same but for their case.
		for u, f := range units {
			if strings.ToLower(u) == prefix {
				factor, known = f, true
			}
		}
	}
	if strings.HasSuffix(strings.ToLower(unit), "bps") {
		return wrong("tc's bps are bytes: " + form)
	}
	if unit == "m" {
		return wrong("Kubernetes' m is a thousandth: " + form)
	}
	if !known || len(number) > 20 || strings.Trim(number, "0123456789.") != "" {
		return wrong(form)
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return wrong(form)
	}
	rate := math.Round(n * factor)
	if rate != 0 && (rate < minRate || rate > maxRate) || rate == 0 && n != 0 {
		return wrong("want from 1k to 1P bits a second, or 0 for no limit")
	}
	return uint64(rate), nil
}

// FormatRate returns the shortest form of a rate that ParseRate reads.
func FormatRate(rate uint64) string {
	for _, u := range []struct {
		suffix string
		factor uint64
	}{{"P", 1e15}, {"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}} {
		if rate != 0 && rate%u.factor == 0 {
			return strconv.FormatUint(rate/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatUint(rate, 10)
}
