package launcher

import (
	"errors"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
	"github.com/podbox/podbox/sandbox"
)

func hostMounts(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Mounts made later appear on the other side as far as the spec says.
func TestPropagation(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	for _, tt := range []struct {
		options    string
		in, out    bool // of what is mounted on the mount itself
		inBelow    bool // of what is mounted on what is mounted below
		outBelow   bool
		wantShared string
	}{
		{"rbind", false, false, false, false, ""},
		{"rbind rprivate", false, false, false, false, ""},
		{"rbind private", false, false, true, false, ""},
		{"rbind rslave", true, false, true, false, "master"},
		{"rbind slave", true, false, true, false, "master"},
		{"rbind rshared", true, true, true, true, "shared"},
		{"rbind shared", true, true, true, true, "shared"},
		{"rbind runbindable", false, false, false, false, "unbindable"},
	} {
		t.Run(tt.options, func(t *testing.T) {
			src := t.TempDir()
			hostMount(t, src)
			hostMount(t, src+"/below")
			for _, dir := range []string{"host", "inside", "below/host", "below/inside"} {
				if err := os.Mkdir(src+"/"+dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := unix.Mount("", src, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
				t.Fatal(err)
			}
			s := privileged(container(t, newRootfs(t), ""))
			s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: src, Destination: "/m", Options: strings.Fields(tt.options)})
			_, run := running(t, pod, s)
			for _, dir := range []string{"host", "below/host"} {
				hostMount(t, src+"/"+dir)
				write(t, src+"/"+dir+"/seen", "", 0o644)
			}
			got := run("test -e /m/host/seen && echo in; test -e /m/below/host/seen && echo inBelow; " +
				"for d in /m/inside /m/below/inside; do mount -t tmpfs x $d && echo >$d/seen; done; grep ' /m ' /proc/self/mountinfo")
			if is := strings.Contains(got, "in\n"); is != tt.in {
				t.Errorf("a mount on the host appears: %t", is)
			}
			if is := strings.Contains(got, "inBelow\n"); is != tt.inBelow {
				t.Errorf("a mount below on the host appears: %t", is)
			}
			if tt.wantShared != "" && !strings.Contains(got, tt.wantShared) {
				t.Errorf("not %s: %s", tt.wantShared, got)
			}
			if _, err := os.Stat(src + "/inside/seen"); (err == nil) != tt.out {
				t.Errorf("a mount of the container appears on the host: %v", err)
			}
			if _, err := os.Stat(src + "/below/inside/seen"); (err == nil) != tt.outBelow {
				t.Errorf("a mount of the container below appears on the host: %v", err)
			}
		})
	}
}

// The root can share what is mounted in it, but what makes a container never appears
// on the host.
func TestRootPropagation(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	for how, want := range map[string]struct {
		in    bool
		field string
	}{
		"": {false, ""}, "private": {false, ""}, "slave": {true, "master:"}, "shared": {false, "shared:"}, "unbindable": {false, "unbindable"},
	} {
		t.Run(how, func(t *testing.T) {
			shared := t.TempDir()
			hostMount(t, shared)
			if err := unix.Mount("", shared, "", unix.MS_SHARED, ""); err != nil {
				t.Fatal(err)
			}
			root := shared + "/root"
			if err := os.CopyFS(root, os.DirFS(newRootfs(t))); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(root+"/host", 0o755); err != nil {
				t.Fatal(err)
			}
			s := privileged(container(t, root, ""))
			s.Linux.RootfsPropagation = how
			before := hostMounts(t)
			_, run := running(t, pod, s)
			if after := hostMounts(t); after != before {
				t.Errorf("mounts on the host: before\n%safter\n%s", before, after)
			}
			hostMount(t, root+"/host")
			write(t, root+"/host/seen", "", 0o644)
			got := run("test -e /host/seen && echo in; grep ' / / \\| /root / ' /proc/self/mountinfo; mkdir /own; mount -t tmpfs x /own && echo >/own/seen")
			if is := strings.Contains(got, "in\n"); is != want.in {
				t.Errorf("a mount on the host appears: %t", is)
			}
			fields, _, _ := strings.Cut(got[strings.Index(got, " / "):], " - ")
			if !strings.Contains(fields, want.field) || want.field == "" && strings.Contains(fields, ":") && strings.Contains(fields, "shared") {
				t.Errorf("want %q: %s", want.field, got)
			}
			if _, err := os.Stat(root + "/own/seen"); err == nil {
				t.Error("a mount of the container appears on the host")
			}
		})
	}
}

// A mount can show files as those of other users.
func TestMappedMount(t *testing.T) {
	pod := newPod(t, sandbox.Spec{})
	root := newRootfs(t)
	src := t.TempDir()
	attach := hostMount
	if testenv.Before(t, 6, 3) { // where none is made of a tmpfs
		attach = func(t testing.TB, dir string) {
			err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount(t.TempDir(), dir, "", unix.MS_BIND, ""))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		}
	}
	attach(t, src)
	attach(t, src+"/below")
	write(t, src+"/file", "", 0o644)
	write(t, src+"/below/file", "", 0o644)
	for _, name := range []string{src + "/file", src + "/below/file"} {
		if err := os.Chown(name, 1, 2); err != nil {
			t.Fatal(err)
		}
	}
	uids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 5000, Size: 10}}
	gids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 6000, Size: 10}}
	for _, tt := range []struct {
		options, want string
	}{
		{"bind", "5001 6002\n"}, // what is said by the mappings alone
		{"bind idmap", "5001 6002\n"},
		{"rbind idmap", "5001 6002\n1 2\n"},
		{"rbind ridmap", "5001 6002\n5001 6002\n"},
	} {
		s := container(t, root, "stat -c '%u %g' /m/file /m/below/file 2>/dev/null")
		s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: src, Destination: "/m", Options: strings.Fields(tt.options), UIDMappings: uids, GIDMappings: gids})
		if got, _ := output(t, pod, s, nil); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.options, got, tt.want)
		}
	}
	// Not all filesystems know of it.
	s := container(t, root, "true")
	s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: "/proc/sys", Destination: "/m", Options: []string{"bind"}, UIDMappings: uids, GIDMappings: gids})
	if _, err := Start(bg, pod, s, IO{}); !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "mount /m: map IDs: not supported yet by the filesystem of /proc/sys") {
		t.Errorf("of proc: %v", err)
	}
	for want, m := range map[string]specs.Mount{
		"mounts[6] /m: uidMappings":                                   {Options: []string{"bind"}, UIDMappings: uids},
		"mounts[6] /m: option idmap: invalid value: need uidMappings": {Options: []string{"bind", "idmap"}},
		"mounts[6] /m: option idmap: not supported":                   {Type: "tmpfs", UIDMappings: uids, GIDMappings: gids},
		"mount /m: map IDs":                                           {Options: []string{"bind"}, UIDMappings: []specs.LinuxIDMapping{uids[0], uids[0]}, GIDMappings: gids},
	} {
		m.Source, m.Destination = src, "/m"
		s := container(t, root, "true")
		s.Mounts = append(s.Mounts, m)
		if _, err := Start(bg, pod, s, IO{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
