package reaper_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/reaper"
)

// TestMain is also the entry of the programs that the tests start from their own
// binary, see helpers.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == helperName {
		os.Exit(runHelper(os.Args[1:]))
	}
	status := m.Run()
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		fmt.Fprintln(os.Stderr, "a test left a process behind")
		status = 1
	}
	os.Exit(status)
}

// A program is a build of the reaper.
type program struct {
	path     string
	emulator []string
}

func (p program) command(args ...string) *exec.Cmd {
	argv := append(append(p.emulator[:len(p.emulator):len(p.emulator)], p.path), args...)
	return exec.Command(argv[0], argv[1:]...)
}

// eachBuild runs test on the embedded program and on a fresh build of its source.
func eachBuild(t *testing.T, test func(t *testing.T, p program)) {
	t.Run("embedded", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "reaper")
		if err := os.WriteFile(path, reaper.Binary(), 0o755); err != nil {
			t.Fatal(err)
		}
		test(t, program{path: path})
	})
	t.Run("fresh", func(t *testing.T) {
		binary, err := freshBuild()
		if errors.Is(err, exec.ErrNotFound) && (os.Getenv("PODBOX_PRIVILEGED") != "1" || os.Getenv("CI") != "true") {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "reaper")
		if err := os.WriteFile(path, binary, 0o755); err != nil {
			t.Fatal(err)
		}
		test(t, program{path: path})
	})
}

// everyBuild also runs test on the program for the other architecture, if there is
// an emulator.
func everyBuild(t *testing.T, test func(t *testing.T, p program)) {
	eachBuild(t, test)
	// The package has both names in use.
	for arch, qemu := range map[string]string{"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"} {
		if arch == runtime.GOARCH {
			continue
		}
		t.Run(arch, func(t *testing.T) {
			emulator, err := exec.LookPath(qemu)
			if err != nil {
				t.Skip(err)
			}
			path, err := filepath.Abs("reaper_linux_" + arch)
			if err != nil {
				t.Fatal(err)
			}
			test(t, program{path, []string{emulator}})
		})
	}
}

// freshBuild runs hack/build-c.sh for this architecture, once.
var freshBuild = sync.OnceValues(func() ([]byte, error) {
	if _, err := exec.LookPath("cc"); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "podbox-reaper-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command("../../hack/build-c.sh", ".", dir, runtime.GOARCH).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build-c.sh: %w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "reaper_linux_"+runtime.GOARCH))
})

func TestVersion(t *testing.T) {
	everyBuild(t, func(t *testing.T, p program) {
		out, err := p.command("-v").CombinedOutput()
		if want := "podbox-reaper " + reaper.Version + "\n"; err != nil || string(out) != want {
			t.Errorf("%q, %v; want %q", out, err, want)
		}
	})
}

// TestELF looks at the committed files of both architectures.
func TestELF(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			binary, err := os.ReadFile("reaper_linux_" + arch)
			if err != nil {
				t.Fatal(err)
			}
			if arch == runtime.GOARCH && !bytes.Equal(binary, reaper.Binary()) {
				t.Error("Binary returns another program")
			}
			if len(binary) >= 4096 {
				t.Errorf("%d bytes, want less than a page", len(binary))
			}
			f, err := elf.NewFile(bytes.NewReader(binary))
			if err != nil {
				t.Fatal(err)
			}
			if f.Machine != machine || f.Type != elf.ET_EXEC {
				t.Errorf("%v for %v, want %v for %v", f.Type, f.Machine, elf.ET_EXEC, machine)
			}
			stack := false
			for _, p := range f.Progs {
				switch p.Type {
				case elf.PT_LOAD:
					if p.Flags&elf.PF_W != 0 {
						t.Errorf("segment at %#x is %v: there is nothing to write", p.Vaddr, p.Flags)
					}
				case elf.PT_GNU_STACK:
					// without this header the kernel makes the stack executable
					stack = p.Flags&elf.PF_X == 0
				default:
					t.Errorf("program header %v", p.Type)
				}
			}
			if !stack {
				t.Error("executable stack")
			}
		})
	}
}
