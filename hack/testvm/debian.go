package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A distribution is where packages come from.
type distribution struct {
	suite   string
	mirrors []string // lines of sources.list
	keyring keyring  // of its signatures; the zero value for Debian
	pkg     string   // of a kernel
}

// A keyring is a file with the keys that a distribution signs by. Debian does not have all
// others': then it is taken out of a package of theirs, which has to be the very one.
type keyring struct{ path, url, sha256 string }

var ubuntu = keyring{
	path:   "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
	url:    "http://archive.ubuntu.com/ubuntu/pool/main/u/ubuntu-keyring/ubuntu-keyring_2021.03.26_all.deb",
	sha256: "0d0e7ed6b112f5d03eabf3c7eb01ebdacf9c57714b279e90495cfc58c8c4520f",
}

// find returns where the keyring is, on this machine or in dir, and puts it there.
func (k keyring) find(ctx context.Context, dir string) (string, error) {
	if _, err := os.Stat(k.path); err == nil {
		return k.path, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	deb, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("get %s: %w", k.url, err)
	}
	if sum := sha256.Sum256(deb); hex.EncodeToString(sum[:]) != k.sha256 {
		return "", fmt.Errorf("get %s: %s: it has another SHA-256 than it should: %x", k.url, resp.Status, sum)
	}
	file := filepath.Join(dir, "keyring.deb")
	if err := os.WriteFile(file, deb, 0o644); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", file, filepath.Join(dir, "keyring")).CombinedOutput(); err != nil {
		return "", fmt.Errorf("dpkg-deb: %w: %s", err, out)
	}
	return filepath.Join(dir, "keyring", k.path), nil
}

func bookworm(pkg string) distribution {
	return distribution{suite: "bookworm", pkg: pkg, mirrors: []string{
		"deb http://deb.debian.org/debian bookworm main",
		"deb http://deb.debian.org/debian bookworm-updates main",
		"deb http://deb.debian.org/debian-security bookworm-security main",
	}}
}

// kernels are those that podbox can be tried on, from the oldest.
var kernels = map[string]distribution{
	"5.15": {
		suite: "jammy", pkg: "linux-image-virtual", keyring: ubuntu,
		mirrors: []string{
			"deb http://archive.ubuntu.com/ubuntu jammy main universe",
			"deb http://archive.ubuntu.com/ubuntu jammy-updates main universe",
		},
	},
	"6.1":  bookworm("linux-image-cloud-amd64"),
	"6.12": bookworm("linux-image-6.12-cloud-amd64"),
	"sid": {suite: "sid", pkg: "linux-image-cloud-amd64", mirrors: []string{
		"deb http://deb.debian.org/debian sid main",
	}},
}

func kernelNames() []string { return slices.Sorted(maps.Keys(kernels)) }

// inDebian is what is in the image of a whole Debian: an init and what people have beside
// it, and what the tests use.
var inDebian = []string{
	"systemd", "systemd-sysv", "udev", "libpam-systemd", "dbus", "apparmor", "apparmor-utils",
	"openssh-server", "openssh-client", "nginx-light", "redis-server",
	"busybox-static", "strace", "runc", "crun", "docker-registry", "iproute2", "nftables", "conntrack",
	"procps", "util-linux", "bsdutils", "kmod", "curl", "iputils-ping", "ca-certificates", "e2fsprogs",
	"containernetworking-plugins", "ufw", "firewalld",
}

// cacheDir is a directory of what was made of packages. What is in it has a name that
// follows from all that it was made of, and is there whole or not at all.
type cacheDir string

//go:embed guest/image.sh
var imageScript string

//go:embed guest/kernel.sh
var kernelScript string

//go:embed guest/init.sh
var initScript string

// debian returns the directory with root.ext4, a whole Debian.
func (c cacheDir) debian(ctx context.Context) (string, error) {
	d := bookworm("")
	return c.make(ctx, "debian", imageScript, d, "--variant=minbase", "--include="+strings.Join(inDebian, ","), "--customize-hook")
}

// kernel returns the directory with vmlinuz, initrd and modules.ext4.
func (c cacheDir) kernel(ctx context.Context, name string) (string, error) {
	d, ok := kernels[name]
	if !ok {
		return "", fmt.Errorf("there is no kernel %q, but %s", name, strings.Join(kernelNames(), ", "))
	}
	// Nothing is installed: of hooks, mmdebstrap then calls only the one of what was extracted.
	return c.make(ctx, "kernel-"+name, kernelScript, d, "--variant=extract", "--include="+d.pkg+",busybox-static", "--extract-hook")
}

// make has mmdebstrap make a root of packages, and the script make of that what is kept:
// with the root and a directory for its arguments, while the root is there. It is the script that
// runs with the owners of the root's files, whoever we are. The last of args is the option that
// names it.
func (c cacheDir) make(ctx context.Context, kind, script string, d distribution, args ...string) (string, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q %q %q", script, initScript, args, d)
	dir := filepath.Join(string(c), kind+"-"+hex.EncodeToString(sum.Sum(nil))[:12])
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	fmt.Printf("testvm: making %s of the packages of %s\n", kind, d.suite)
	if err := os.MkdirAll(string(c), 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(string(c), ".making-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	// mmdebstrap without root is another user than we are.
	if err := os.Chmod(tmp, 0o777); err != nil {
		return "", err
	}
	for name, text := range map[string]string{"script": script, "init": initScript} {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(text), 0o755); err != nil {
			return "", err
		}
	}
	args[len(args)-1] += fmt.Sprintf(`='%s/script' "$1" '%[1]s'`, tmp)
	if d.keyring != (keyring{}) {
		path, err := d.keyring.find(ctx, tmp)
		if err != nil {
			return "", fmt.Errorf("keys of %s: %w", d.suite, err)
		}
		args = append(args, "--keyring="+path)
	}
	args = append(args, "--format=null", d.suite, "/dev/null")
	args = append(args, d.mirrors...)
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make %s: mmdebstrap: %w\n%s", kind, err, out)
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return dir, nil
}
