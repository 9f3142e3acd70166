package doorstep

import (
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// run runs the program in place of os/exec's, and returns its output and what it has
// left on its status pipe.
func run(t *testing.T, paths, argv []string) (out, status string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "doorstep")
	if err := os.WriteFile(file, Binary(), 0o755); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := &exec.Cmd{Path: file, Args: Args(paths, argv), Env: []string{"X=y"}, ExtraFiles: []*os.File{w}}
	b, _ := cmd.Output()
	w.Close()
	s, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), string(s)
}

func TestExecutes(t *testing.T) {
	out, status := run(t, []string{"/nonexistent/sh", "/etc/passwd", "/bin/sh"}, []string{"sh", "-c", `echo "$0 $1 $X"; test -e /proc/$$/fd/3 && echo open`, "", "z"})
	if out != " z y\n" || status != "" {
		t.Errorf("got %q, status %q", out, status)
	}
}

func TestFails(t *testing.T) {
	for _, tt := range []struct {
		paths []string
		path  int
		err   unix.Errno
	}{
		{[]string{"/nonexistent"}, 0, unix.ENOENT},
		{[]string{"/nonexistent/x", "/etc/passwd/x", "/nonexistent"}, 2, unix.ENOENT},
		{[]string{"/nonexistent", "/etc/passwd", "/nonexistent"}, 1, unix.EACCES},
		{[]string{strings.Repeat("x", 5000), "/bin/sh"}, 0, unix.ENAMETOOLONG},
	} {
		out, status := run(t, tt.paths, []string{"x"})
		path, err, ok := Failed([]byte(status), len(tt.paths))
		if !ok || path != tt.path || err != tt.err || out != "" {
			t.Errorf("%.40q: %d %v %t, %q", tt.paths, path, err, ok, out)
		}
	}
	// Without a program there is nothing to say.
	for _, argv := range [][]string{nil, {}} {
		if out, status := run(t, []string{"/bin/sh"}, argv); out != "" || status != "" {
			t.Errorf("no program: %q, status %q", out, status)
		}
	}
}

func TestFailedDistrusts(t *testing.T) {
	for _, s := range []string{"", "x", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x01\x00\x00\x00\x02\x00\x00\x00", "\x00\x00\x00\x00\xff\xff\xff\xff"} {
		if _, _, ok := Failed([]byte(s), 1); ok {
			t.Errorf("trusted %q", s)
		}
	}
}

// Both binaries are as harmless as they can be: nothing writable, nothing to load.
func TestBinaries(t *testing.T) {
	for name, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		f, err := elf.Open("doorstep_linux_" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if f.Machine != machine || f.Type != elf.ET_EXEC {
			t.Errorf("%s: %v %v", name, f.Machine, f.Type)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC || p.Type == elf.PT_LOAD && p.Flags&elf.PF_W != 0 {
				t.Errorf("%s: segment %v %v", name, p.Type, p.Flags)
			}
		}
	}
}
