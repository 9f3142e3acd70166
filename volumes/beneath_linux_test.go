package volumes

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openPath(t testing.TB, path string) *os.File {
	t.Helper()
	f := must[*os.File](t)(os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0))
	t.Cleanup(func() { f.Close() })
	return f
}

func TestOpenBeneath(t *testing.T) {
	outside := t.TempDir()
	volume := outside + "/volume"
	ok(t, os.MkdirAll(volume+"/a/b", 0o755))
	ok(t, os.Mkdir(outside+"/sub", 0o755))
	ok(t, os.WriteFile(volume+"/a/file", nil, 0o600))
	ok(t, unix.Mkfifo(volume+"/fifo", 0o600))
	for link, target := range map[string]string{
		"within": "a/b", "up-and-within": "a/../a/b", "a/up": "..", "to-file": "a/file", "chain": "within",
		"out": "../sub", "out-deep": "a/b/../../../sub", "absolute": outside + "/sub", "absolute-within": volume + "/a", "root": "/",
		"out-and-in": "../volume/a", "loop": "loop", "dangling": "nothing", "proc": "/proc/self/root",
	} {
		ok(t, os.Symlink(target, volume+"/"+link))
	}
	root := openPath(t, volume)
	before := list(t, outside)
	sameFDs(t)
	for path, want := range map[string]string{
		"": volume, ".": volume, "a": volume + "/a", "./a//b/": volume + "/a/b", "a/file": volume + "/a/file",
		"within": volume + "/a/b", "up-and-within": volume + "/a/b", "a/up/a": volume + "/a", "to-file": volume + "/a/file",
		"chain": volume + "/a/b", "fifo": volume + "/fifo",
	} {
		for _, create := range []bool{false, true} {
			f, err := OpenBeneath(root, path, create)
			if err != nil {
				t.Errorf("%q: %v", path, err)
				continue
			}
			if got := stat(t, f); got.Ino != inode(t, want) {
				t.Errorf("%q is not %s", path, want)
			}
			f.Close()
		}
	}
	for path, want := range map[string]error{
		"..": ErrInvalid, "a/..": ErrInvalid, "../sub": ErrInvalid, "a/../../sub": ErrInvalid, "/": ErrInvalid, "/a": ErrInvalid, "a\x00": ErrInvalid,
		"out": ErrEscapes, "out-deep": ErrEscapes, "absolute": ErrEscapes, "absolute-within": ErrEscapes, "root": ErrEscapes,
		"root/etc": ErrEscapes, "out-and-in": ErrEscapes, "a/up/out": ErrEscapes, "proc": ErrEscapes, "out/new": ErrEscapes, "root/tmp/volumes-new": ErrEscapes,
		"loop": unix.ELOOP, "a/file/x": unix.ENOTDIR,
		"dangling": fs.ErrNotExist, "dangling/x": fs.ErrNotExist,
		strings.Repeat("a/", 3000): unix.ENAMETOOLONG,
	} {
		for _, create := range []bool{false, true} {
			if f, err := OpenBeneath(root, path, create); !errors.Is(err, want) {
				t.Errorf("%q: got %v, %v, want %v", path, f, err, want)
			}
		}
	}
	if f, err := OpenBeneath(root, "new/sub", false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("new/sub: got %v, %v", f, err)
	}
	if after := list(t, outside); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// What is made has the permissions of the volume, whatever the umask.
func TestOpenBeneathCreate(t *testing.T) {
	sameFDs(t)
	defer unix.Umask(unix.Umask(0o077))
	for _, mode := range []uint32{0o777, 0o2777, 0o1777, 0o3777, 0o755, 0o750} {
		volume := t.TempDir()
		ok(t, os.Mkdir(volume+"/a", 0o755))
		ok(t, os.Symlink("a", volume+"/link"))
		ok(t, unix.Chmod(volume, mode))
		ok(t, unix.Chmod(volume+"/a", mode))
		root := openPath(t, volume)
		for range 2 {
			f, err := OpenBeneath(root, "link/b/c", true)
			if err != nil {
				t.Fatal(err)
			}
			if st := stat(t, f); st.Mode != unix.S_IFDIR|mode || st.Ino != inode(t, volume+"/a/b/c") {
				t.Errorf("volume %o: made with %o", mode, st.Mode)
			}
			f.Close()
		}
		var st unix.Stat_t
		ok(t, unix.Stat(volume+"/a/b", &st))
		if st.Mode != unix.S_IFDIR|mode {
			t.Errorf("volume %o: parent made with %o", mode, st.Mode)
		}
	}
	if now := unix.Umask(0o077); now != 0o077 {
		t.Errorf("the umask of the process has become %o", now)
	}
}

// A directory of the volume changes places with a link to the outside all the
// time. What is opened is beneath the volume, and nothing is made outside.
func TestOpenBeneathSwap(t *testing.T) {
	sameFDs(t)
	outside := tempDir(t)
	volume := outside + "/volume"
	ok(t, os.MkdirAll(volume+"/d/sub", 0o755))
	ok(t, os.MkdirAll(outside+"/out/sub", 0o755))
	ok(t, os.Symlink("../out", volume+"/link"))
	root := must[*os.File](t)(os.OpenFile(volume, unix.O_PATH, 0))
	defer root.Close()
	good := inode(t, volume+"/d/sub")
	stop := exchange(t, volume+"/d", volume+"/link")
	var opened, refused int
	for i := 0; i < 10_000 || (opened == 0 || refused == 0) && i < 100_000; i++ {
		f, err := OpenBeneath(root, "d/sub", false)
		switch {
		case err == nil:
			if st := stat(t, f); st.Ino != good {
				t.Fatal("escaped")
			}
			f.Close()
			opened++
		case errors.Is(err, ErrEscapes):
			refused++
		default:
			t.Fatal(err)
		}
		if i%10 == 0 {
			// Each of its own name, so that each is to be made.
			f, err := OpenBeneath(root, "d/new-"+strconv.Itoa(i)+"/x", true)
			if err == nil {
				f.Close()
			} else if !errors.Is(err, ErrEscapes) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
		}
	}
	stop()
	if opened == 0 || refused == 0 {
		t.Errorf("no race: %d opened, %d refused", opened, refused)
	}
	if got := list(t, outside+"/out"); got != "drwxr-xr-x sub" {
		t.Errorf("outside has become:\n%.1000s", got)
	}
	t.Logf("%d opened, %d refused", opened, refused)
}

// A link goes up by ".." through a directory that moves up and down: who counts
// the levels of the path, and not those that there are, gets out.
func TestOpenBeneathUp(t *testing.T) {
	sameFDs(t)
	outside := tempDir(t)
	volume := outside + "/a/volume"
	ok(t, os.MkdirAll(volume+"/a/b/c", 0o755))
	ok(t, os.MkdirAll(volume+"/sub", 0o755))
	ok(t, os.MkdirAll(volume+"/c", 0o755))
	ok(t, os.MkdirAll(outside+"/sub", 0o755))
	ok(t, os.Symlink("a/b/c/here/../../../sub", volume+"/link"))
	// Time for c to move before the kernel comes to "..".
	for _, c := range []string{"/a/b/c", "/c"} {
		ok(t, os.Symlink(strings.Repeat("./", 2000), volume+c+"/here"))
	}
	root := must[*os.File](t)(os.OpenFile(volume, unix.O_PATH, 0))
	defer root.Close()
	good, bad := inode(t, volume+"/sub"), inode(t, outside+"/sub")
	stop := exchange(t, volume+"/a/b/c", volume+"/c")
	defer stop()
	var opened, refused, naive int
	for i := 0; i < 2000 || naive == 0 && i < 50_000; i++ {
		f, err := OpenBeneath(root, "link", false)
		switch {
		case err == nil:
			if st := stat(t, f); st.Ino != good {
				t.Fatal("escaped")
			}
			f.Close()
			opened++
		case errors.Is(err, ErrEscapes) || errors.Is(err, unix.EAGAIN):
			refused++
		default:
			t.Fatal(err)
		}
		var st unix.Stat_t
		if unix.Fstatat(int(root.Fd()), "link", &st, 0) == nil && st.Ino == bad {
			naive++
		}
	}
	if naive == 0 {
		t.Error("no race: nothing would have escaped")
	}
	t.Logf("%d opened, %d refused; without care %d would have escaped", opened, refused, naive)
}

func BenchmarkOpenBeneath(b *testing.B) {
	volume := b.TempDir()
	root := openPath(b, volume)
	for _, path := range []string{"a/b", ""} {
		create := path != ""
		b.Run(strconv.Quote(path), func(b *testing.B) {
			for i := range b.N {
				p := path
				if create {
					p = strconv.Itoa(i)
				}
				f, err := OpenBeneath(root, p, create)
				ok(b, err)
				f.Close()
			}
		})
	}
}
