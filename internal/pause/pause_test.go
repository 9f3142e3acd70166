//go:build linux

package pause_test

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

	"github.com/podbox/podbox/internal/pause"
)

// TestMain is also the entry of the programs that the tests start from their own
// binary, see helpers.
func TestMain(m *testing.M) {
	if os.Args[0] == helperName {
		os.Exit(runHelper(os.Args[1:]))
	}
	status := m.Run()
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		fmt.Fprintln(os.Stderr, "a test left a process behind")
		status = 1
	}
	os.Exit(status)
}

// eachBuild runs test on the embedded program and on a fresh build of its source.
func eachBuild(t *testing.T, test func(t *testing.T, program []byte)) {
	t.Run("embedded", func(t *testing.T) { test(t, pause.Binary()) })
	t.Run("fresh", func(t *testing.T) {
		program, err := freshBuild()
		if errors.Is(err, exec.ErrNotFound) && !(privileged() && os.Getenv("CI") == "true") {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		test(t, program)
	})
}

// freshBuild runs hack/build-c.sh for this architecture, once.
var freshBuild = sync.OnceValues(func() ([]byte, error) {
	if _, err := exec.LookPath("cc"); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "podbox-pause-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command("../../hack/build-c.sh", ".", dir, runtime.GOARCH).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build-c.sh: %w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "pause_linux_"+runtime.GOARCH))
})

func privileged() bool { return os.Getenv("PODBOX_PRIVILEGED") == "1" }

// needRoot skips a test that makes namespaces.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if privileged() {
		t.Fatal("PODBOX_PRIVILEGED=1, but not root")
	}
	t.Skip("needs root")
}

func TestVersion(t *testing.T) {
	eachBuild(t, func(t *testing.T, program []byte) {
		path := filepath.Join(t.TempDir(), "pause")
		if err := os.WriteFile(path, program, 0o700); err != nil {
			t.Fatal(err)
		}
		testVersion(t, exec.Command(path, "-v"))
	})
}

func TestVersionForeign(t *testing.T) {
	// user-mode emulation; the package has both names in use
	for arch, qemu := range map[string]string{"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"} {
		t.Run(arch, func(t *testing.T) {
			if arch == runtime.GOARCH {
				t.Skip("native: see TestVersion")
			}
			path, err := exec.LookPath(qemu)
			if err != nil {
				t.Skip(err)
			}
			testVersion(t, exec.Command(path, "pause_linux_"+arch, "-v"))
		})
	}
}

func testVersion(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if want := "podbox-pause " + pause.Version + "\n"; err != nil || string(out) != want {
		t.Errorf("%v: %q, %v; want %q", cmd, out, err, want)
	}
}

// TestELF looks at the committed files of both architectures.
func TestELF(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			program, err := os.ReadFile("pause_linux_" + arch)
			if err != nil {
				t.Fatal(err)
			}
			if arch == runtime.GOARCH && !bytes.Equal(program, pause.Binary()) {
				t.Error("Binary returns another program")
			}
			if len(program) >= 4096 {
				t.Errorf("%d bytes, want less than a page", len(program))
			}
			f, err := elf.NewFile(bytes.NewReader(program))
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
