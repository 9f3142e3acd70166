package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// guestScripts are what a guest runs.
//
//go:embed guest/*.sh
var guestScripts embed.FS

const module = "github.com/podbox/podbox"

// ofSource are packages whose tests look at the source, as a compiler or a linter does: they
// have nothing to find out about a kernel.
var ofSource = []string{"internal", "hack/testvm"}

// skipped are single tests of that kind: they ask Go or a C compiler.
const skipped = "^(TestTables|TestRebuild|TestFreshBuild|TestSource.*)$"

// skipped matches all tests that are not run.
func (o options) skipped() string {
	if o.skip == "" {
		return skipped
	}
	return skipped + "|" + o.skip
}

// pack makes an image of the disk with all that a guest is given:
//
//	dist/   the package for Debian, if make dist has made it and the machine is a whole one
//	bin/    podbox, podbox-kube, podtalk; a go that hands out what was built here
//	guest/  the guest's scripts
//	src/    the repository
//	tests   the packages, each with the seconds after which it is killed, the program to run, and its flags
func pack(ctx context.Context, o options, image string) error {
	dir := strings.TrimSuffix(image, ".ext4")
	for _, sub := range []string{"bin", "dist", "guest", "src", "test"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	defer os.RemoveAll(dir)
	if err := extract(guestScripts, dir); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, "guest/go.sh"), filepath.Join(dir, "bin/go")); err != nil {
		return err
	}
	if err := sources(ctx, filepath.Join(dir, "src")); err != nil {
		return err
	}
	fmt.Println("testvm: building")
	programs := []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "bin") + "/", "./cmd/...", "./examples/..."}
	if err := goTool(ctx, programs...); err != nil {
		return err
	}
	if o.full {
		if err := packages(dir); err != nil {
			return err
		}
	} else if err := tests(ctx, o, dir); err != nil {
		return err
	}
	return makeImage(ctx, dir, image)
}

// packages copies what make dist has made.
func packages(dir string) error {
	debs, err := filepath.Glob("dist/*_amd64.deb")
	if err != nil {
		return err
	}
	for _, deb := range debs {
		b, err := os.ReadFile(deb)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "dist", filepath.Base(deb)), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// tests builds the test programs of packages.
func tests(ctx context.Context, o options, dir string) error {
	const format = "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}"
	out, err := exec.CommandContext(ctx, "go", append([]string{"list", "-f", format}, strings.Fields(o.pkgs)...)...).Output()
	if err != nil {
		return fmt.Errorf("go list %s: %w", o.pkgs, withStderr(err))
	}
	var list bytes.Buffer
	for pkg := range strings.FieldsSeq(string(out)) {
		pkg = strings.TrimPrefix(pkg, module+"/")
		if contains(ofSource, pkg) {
			continue
		}
		program := filepath.Join("test", strings.ReplaceAll(pkg, "/", "-")+".test")
		if err := goTool(ctx, "test", "-c", "-vet=off", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, program), "./"+pkg); err != nil {
			return err
		}
		fmt.Fprintf(&list, "%s %d /testvm/%s -test.v -test.timeout=%s -test.skip=%s", pkg, int((o.each + time.Minute).Seconds()), program, o.each, o.skipped())
		if o.short {
			list.WriteString(" -test.short")
		}
		if o.run != "" {
			fmt.Fprintf(&list, " -test.run=%s", o.run)
		}
		list.WriteByte('\n')
	}
	if list.Len() == 0 {
		return fmt.Errorf("no tests in %s", o.pkgs)
	}
	return os.WriteFile(filepath.Join(dir, "tests"), list.Bytes(), 0o644)
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// goTool runs Go so that what it builds is static, as users have it.
func goTool(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", args[0], err, out)
	}
	return nil
}

func extract(from fs.FS, dir string) error {
	return fs.WalkDir(from, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, path), b, 0o755)
	})
}

// sources copies what is in the repository, as it is now: tests read of it what they
// compare with.
func sources(ctx context.Context, dir string) error {
	out, err := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", withStderr(err))
	}
	for path := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		fi, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) { // removed, and not committed yet
			continue
		}
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, b, fi.Mode().Perm())); err != nil {
			return err
		}
	}
	return nil
}

// makeImage makes an image of a directory. Its files are root's.
func makeImage(ctx context.Context, dir, image string) error {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		size += fi.Size() + 8<<10
		return nil
	})
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(
		ctx, "mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", dir, image, fmt.Sprintf("%dM", size*11/10>>20+32),
	).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mke2fs: %w\n%s", err, out)
	}
	return nil
}

// withStderr adds what a program said to the error of how it ended.
func withStderr(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return err
}
