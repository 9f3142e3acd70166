package seccomp

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestDifferential compares filters with what the profile says, for profiles and
// calls at random.
func TestDifferential(t *testing.T) {
	for _, goarch := range []string{"amd64", "arm64"} {
		t.Run(goarch, func(t *testing.T) {
			m := machineFor(t, goarch)
			r := rand.New(rand.NewPCG(1, 2))
			seen := map[verdict]int{}
			longest := 0
			for i := range 1500 {
				s := someProfile(r)
				if i%75 == 0 {
					s = largeProfile(r)
				}
				f, err := compile(s, m)
				if err != nil {
					t.Fatalf("%v\n%s", err, text(s))
				}
				longest = max(longest, len(f.Instructions))
				if err := valid(f.Instructions); err != nil {
					t.Fatalf("%v\n%s", err, text(s))
				}
				ref := newReference(s, m)
				for range 30 + len(s.Syscalls)/2 {
					d := someData(r, s, m)
					got, _ := run(f.Instructions, d)
					seen[got.action()]++
					if want := ref.judge(d); got != want {
						t.Fatalf("%+x: %#x, want %#x\n%s", d, got, want, text(s))
					}
				}
			}
			if len(seen) != 7 || longest < 1000 {
				t.Errorf("only these actions were met: %x, and filters of %d instructions", seen, longest)
			}
		})
	}
}

func text(s *specs.LinuxSeccomp) string {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestEveryNumber asks about each number of each architecture, and those around
// them, with Docker's profile.
func TestEveryNumber(t *testing.T) {
	for _, goarch := range []string{"amd64", "arm64"} {
		m := machineFor(t, goarch)
		for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE"}} {
			s := defaultProfile(t, caps)
			s.Architectures = append(s.Architectures, specs.ArchARM) // it may be the other machine's
			f, err := compile(s, m)
			if err != nil {
				t.Fatal(err)
			}
			ref := newReference(s, m)
			deepest := 0
			for _, a := range append(m.compat, m.native) {
				var numbers []uint32
				for nr := range uint32(600) {
					numbers = append(numbers, nr, nr+0xf0000, nr|x32Bit, nr|2*x32Bit, -nr)
				}
				for _, nr := range numbers {
					d := data{nr: nr, arch: a.audit}
					got, steps := run(f.Instructions, d)
					deepest = max(deepest, steps)
					if want := ref.judge(d); got != want {
						t.Errorf("%s %d: %#x, want %#x", a.arch, nr, got, want)
					}
				}
			}
			t.Logf("%s: %d instructions, at most %d for a call", goarch, len(f.Instructions), deepest)
			if deepest > 24 {
				t.Errorf("%s: %d instructions for a call", goarch, deepest)
			}
		}
	}
}

func defaultProfile(t testing.TB, caps []string) *specs.LinuxSeccomp {
	t.Helper()
	s, err := Default(caps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func FuzzCompile(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 30 {
		b, err := json.Marshal(someProfile(r))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint64(1))
	}
	b, err := json.Marshal(defaultProfile(f, nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint64(2))
	f.Fuzz(func(t *testing.T, spec []byte, seed uint64) {
		var s specs.LinuxSeccomp
		if json.Unmarshal(spec, &s) != nil {
			return
		}
		r := rand.New(rand.NewPCG(seed, 0))
		for _, goarch := range []string{"amd64", "arm64"} {
			m := machineFor(t, goarch)
			filter, err := compile(&s, m)
			if err != nil {
				if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNotSupported) {
					t.Errorf("an error of no kind: %v", err)
				}
				continue
			}
			if err := valid(filter.Instructions); err != nil {
				t.Fatal(err)
			}
			ref := newReference(&s, m)
			for range 5 {
				d := someData(r, &s, m)
				got, _ := run(filter.Instructions, d)
				if want := ref.judge(d); got != want {
					t.Fatalf("%+x: %#x, want %#x", d, got, want)
				}
			}
		}
	})
}
