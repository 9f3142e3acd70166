package netns

import (
	"errors"
	"testing"
)

func TestParseRate(t *testing.T) {
	for s, want := range map[string]uint64{
		"0": 0, "0M": 0, "1000": 1000, "10M": 10e6, "1G": 1e9, "100k": 100e3, "512Ki": 512 << 10, "1.5M": 1.5e6,
		"10mbit": 10e6, "10Mbit": 10e6, "2gbit": 2e9, "1000bit": 1000, "8kibit": 8 << 10, "1P": 1e15,
	} {
		got, err := ParseRate(s)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", s, got, err, want)
		}
		if again, err := ParseRate(FormatRate(got)); err != nil || again != got {
			t.Errorf("%q: written as %q, read as %d, %v", s, FormatRate(got), again, err)
		}
	}
	for _, s := range []string{
		"", "M", "10m", "10K", "10mbps", "10 M", "-1M", "+1M", "1e6", "1E", "0.5k", "0x10M", "1..5M", ".", "999", "2P", "1Pi", "10MB", "10mbits",
		"NaN", "inf", "99999999999999999999999", "0.0001",
	} {
		if got, err := ParseRate(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %d, %v, want invalid", s, got, err)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"10M", "512Ki", "10mbit", "1.5G", "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rate, err := ParseRate(s)
		if err != nil {
			return
		}
		if err := (Bandwidth{rate, rate}).Validate(); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if again, err := ParseRate(FormatRate(rate)); err != nil || again != rate {
			t.Errorf("%q: %d is written as %q, read as %d, %v", s, rate, FormatRate(rate), again, err)
		}
	})
}
