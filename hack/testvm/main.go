//go:build linux

// Testvm runs the privileged tests in virtual machines: on kernels and systems that the
// machine at hand does not have. Each is Debian, made of its packages, under qemu.
//
// usage: testvm [-kernels "6.1 6.12"] [-pkgs "./sandbox ./netns"] [-run REGEXP] [-skip REGEXP] [-short] [-full]
//
// A bare machine has cgroup v2, a shell for process 1, and nothing else that runs. It is given
// the test programs of the packages, built here, and runs as many at once as it has processors. With
// -full the machine is one as people have it, with systemd, AppArmor, D-Bus and sshd, and what is
// run is guest/full.sh.
//
// What comes from Debian is kept in $XDG_CACHE_HOME/podbox-vm, and with it, of each kernel, the
// log of the last run and what was said on its console. It needs qemu-system-x86, mmdebstrap,
// e2fsprogs, kmod and cpio, and no root where mmdebstrap does not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "testvm:", err)
		stop()
		os.Exit(1)
	}
}

// options are those of the command line.
type options struct {
	kernels string
	pkgs    string
	run     string
	skip    string
	short   bool
	full    bool
	verbose bool
	accel   string
	timeout time.Duration // of a machine
	each    time.Duration // of a package's tests
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("testvm", flag.ContinueOnError)
	flags.StringVar(&o.kernels, "kernels", "6.1 6.12", "the kernels: "+strings.Join(kernelNames(), ", "))
	flags.StringVar(&o.pkgs, "pkgs", "./...", "the packages whose tests are run")
	flags.StringVar(&o.run, "run", "", "only tests, or checks of a whole Debian, that match")
	flags.StringVar(&o.skip, "skip", "", "no tests that match")
	flags.BoolVar(&o.short, "short", false, "as for go test")
	flags.BoolVar(&o.full, "full", false, "a whole Debian, and its own checks, instead of the packages' tests")
	flags.BoolVar(&o.verbose, "v", false, "print all that the guest says")
	flags.StringVar(&o.accel, "accel", "", "kvm or tcg; else what works")
	flags.DurationVar(&o.timeout, "timeout", 3*time.Hour, "for one machine")
	flags.DurationVar(&o.each, "each", 20*time.Minute, "for the tests of one package: one that hangs does not cost the others")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, re := range []string{o.run, o.skip} {
		if strings.ContainsAny(re, " \t\n") {
			return fmt.Errorf("%q: it goes to the guest as one word", re)
		}
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("what is %q?", flags.Arg(0))
	}
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("it knows machines of amd64 only, and this is one of %s", runtime.GOARCH)
	}
	for _, tool := range []string{"qemu-system-x86_64", "mmdebstrap", "mke2fs", "depmod", "cpio"} {
		if err := look(tool); err != nil {
			return err
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	store := cacheDir(filepath.Join(cache, "podbox-vm"))

	tmp, err := os.MkdirTemp("", "testvm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	payload := filepath.Join(tmp, "payload.ext4")
	if err := pack(ctx, o, payload); err != nil {
		return err
	}
	debian, err := store.debian(ctx)
	if err != nil {
		return err
	}

	var errs []error
	for _, name := range strings.Fields(o.kernels) {
		k, err := store.kernel(ctx, name)
		if err != nil {
			return err
		}
		if o.accel == "" {
			o.accel = accelerator(ctx, k)
		}
		m := machine{
			kernel: k, root: filepath.Join(debian, "root.ext4"), payload: payload,
			accel: o.accel, timeout: o.timeout, verbose: o.verbose, full: o.full, only: o.run,
			log: filepath.Join(string(store), "log-"+name),
		}
		if o.full {
			m.log += "-full"
		}
		if err := m.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("linux %s: %w; its log is %s, its console %s.console", name, err, m.log, m.log))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// look says which package has a program that is missing.
func look(tool string) error {
	packages := map[string]string{"qemu-system-x86_64": "qemu-system-x86", "mke2fs": "e2fsprogs", "depmod": "kmod"}
	if _, err := exec.LookPath(tool); err != nil {
		pkg := packages[tool]
		if pkg == "" {
			pkg = tool
		}
		return fmt.Errorf("%s is not installed; cure: apt-get install %s", tool, pkg)
	}
	return nil
}
