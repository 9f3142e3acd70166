package ingest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/image"
)

func TestAdd(t *testing.T) {
	s := newStore(t)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	ping := file("bin/ping", "ping")
	ping.Mode, ping.PAXRecords = 0o4755, map[string]string{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.trusted.overlay.opaque": "y"}
	owned := dir("srv")
	owned.Uid, owned.Gid, owned.Mode, owned.ModTime = 1000, 1001, 0o1770, time.Unix(12345, 0)
	root := dir("./")
	root.Mode = 0o711
	base := tarOf(t, root, dir("bin"), ping, hardLink("bin/ping6", "bin/ping"), link("bin/sh", "/bin/busybox"), owned,
		file("/abs/olute", "in the root"), dir("old"), file("old/a", "a"), dir("gone"), file("gone/b", "b"), file("removed", "x"))
	top := tarOf(t, file("srv/new", "new"), dir("old"), file("old/.wh..wh..opq", ""), file("old/c", "c"), file(".wh.removed", ""), file(".wh.gone", ""))
	img, dirs := add(t, s, "nginx", base, top)
	if got, want := img.Names, "docker.io/library/nginx:latest"; len(got) != 1 || got[0] != want {
		t.Errorf("names %q, want %q", got, want)
	}
	lstat := func(path string) (st unix.Stat_t) {
		t.Helper()
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return st
	}
	below, above := dirs[0], dirs[1]
	if st := lstat(below); st.Mode != unix.S_IFDIR|0o711 {
		t.Errorf("mode of the root %o, want 40711", st.Mode)
	}
	if st := lstat(above); st.Mode != unix.S_IFDIR|0o711 {
		t.Errorf("mode of the root that the layer does not have %o, want 40711", st.Mode)
	}
	a, b := lstat(below+"/bin/ping"), lstat(below+"/bin/ping6")
	if a.Ino != b.Ino || a.Mode != unix.S_IFREG|0o4755 || a.Size != 4 {
		t.Errorf("hard links: %+v, %+v", a, b)
	}
	buf := make([]byte, 100)
	if n, err := unix.Lgetxattr(below+"/bin/ping", "security.capability", buf); err != nil || string(buf[:n]) != capability {
		t.Errorf("security.capability %q, %v", buf[:max(n, 0)], err)
	}
	if n, err := unix.Lgetxattr(below+"/bin/ping", "trusted.overlay.opaque", buf); err == nil {
		t.Errorf("trusted attribute %q of the layer was set", buf[:n])
	}
	if to, err := os.Readlink(below + "/bin/sh"); err != nil || to != "/bin/busybox" {
		t.Errorf("link to %q, %v", to, err)
	}
	if b, err := os.ReadFile(below + "/abs/olute"); err != nil || string(b) != "in the root" {
		t.Errorf("absolute name: %q, %v", b, err)
	}
	for _, path := range []string{below + "/srv", above + "/srv"} {
		st := lstat(path)
		if st.Uid != 1000 || st.Gid != 1001 || st.Mode != unix.S_IFDIR|0o1770 || path == below+"/srv" && st.Mtim.Sec != 12345 {
			t.Errorf("%s: owner %d:%d, mode %o, time %d; want 1000:1001, 41770, 12345", path, st.Uid, st.Gid, st.Mode, st.Mtim.Sec)
		}
	}
	for _, name := range []string{"removed", "gone"} {
		if st := lstat(filepath.Join(above, name)); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
			t.Errorf("%s: mode %o, device %d; want a whiteout", name, st.Mode, st.Rdev)
		}
	}
	if n, err := unix.Lgetxattr(above+"/old", "trusted.overlay.opaque", buf); err != nil || string(buf[:n]) != "y" {
		t.Errorf("opaque directory: %q, %v", buf[:max(n, 0)], err)
	}
	if _, err := os.Lstat(above + "/old/.wh..wh..opq"); err == nil {
		t.Error("the mark of an opaque directory is there as a file")
	}
	if left := temporaries(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// temporaries returns what is in a store that does not belong to an image.
func temporaries(t testing.TB, s *image.Store) []string {
	t.Helper()
	var left []string
	for _, dir := range []string{"temporary", "building"} {
		entries, err := os.ReadDir(filepath.Join(s.Dir(), dir))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			left = append(left, dir+"/"+e.Name())
		}
	}
	return left
}
