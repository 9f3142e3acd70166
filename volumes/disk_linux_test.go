package volumes

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podbox/podbox/internal/testenv"
)

func TestMake(t *testing.T) {
	sameFDs(t)
	group := uint32(os.Getegid())
	if os.Geteuid() == 0 {
		group = 4711
	}
	own := uint32(os.Getegid())
	for _, tt := range []struct {
		v         Volume
		gid, mode uint32
	}{
		{Volume{Name: "zero"}, own, 0o777},
		{Volume{Name: "disk", Disk: &Disk{}}, own, 0o777},
		{Volume{Name: "group", Disk: &Disk{}, FSGroup: &group}, group, 0o2777},
		{Volume{Name: "files", Files: &Files{}}, own, 0o755},
		{Volume{Name: "files-group", Files: &Files{}, FSGroup: &group}, group, 0o2755},
	} {
		parent := t.TempDir()
		for range 2 {
			f, err := tt.v.Make(parent)
			if err != nil {
				t.Fatal(err)
			}
			st := stat(t, f)
			if st.Mode != unix.S_IFDIR|tt.mode || st.Gid != tt.gid || st.Uid != uint32(os.Geteuid()) {
				t.Errorf("%s: mode %o, owners %d:%d", tt.v, st.Mode, st.Uid, st.Gid)
			}
			if _, err := f.Readdirnames(1); !errors.Is(err, unix.EBADF) {
				t.Errorf("the handle can be read: %v", err)
			}
			f.Close()
		}
		if names := must[[]os.DirEntry](t)(os.ReadDir(parent)); len(names) != 1 {
			t.Errorf("%s left %v", tt.v, names)
		}
	}
}

// What members made of a volume stays as it is.
func TestMakeAgain(t *testing.T) {
	parent := t.TempDir()
	v := Volume{Name: "v"}
	must[*os.File](t)(v.Make(parent)).Close()
	ok(t, os.WriteFile(parent+"/v/file", nil, 0o600))
	ok(t, os.Chmod(parent+"/v", 0o700))
	must[*os.File](t)(v.Make(parent)).Close()
	if got, want := list(t, parent), "-rw------- v/file \"\"\ndrwx------ v"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMakeRefuses(t *testing.T) {
	parent := t.TempDir()
	ok(t, os.WriteFile(parent+"/file", nil, 0o600))
	ok(t, os.Symlink("/", parent+"/link"))
	for _, tt := range []struct {
		v      Volume
		parent string
		want   error
	}{
		{Volume{Name: "file"}, parent, unix.ENOTDIR},
		{Volume{Name: "link"}, parent, unix.ELOOP},
		{Volume{Name: "v"}, parent + "/none", fs.ErrNotExist},
		{Volume{Name: ".."}, parent, ErrInvalid},
		{Volume{Name: "v", Memory: &Memory{}}, parent, ErrInvalid},
		{Volume{Name: "v", Files: &Files{Memory: true}}, parent, ErrInvalid},
		{Volume{Name: "v", HostPath: &HostPath{Path: "/"}}, parent, ErrInvalid},
	} {
		if f, err := tt.v.Make(tt.parent); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, %v, want %v", tt.v, f, err, tt.want)
		}
	}
}

// However far a Make came, the volume is not there or whole, the next Make makes
// it, and Remove leaves nothing.
func TestMakeFails(t *testing.T) {
	sameFDs(t)
	v := Volume{Name: "v"}
	for n := 1; ; n++ {
		path := t.TempDir()
		parent := must[dir](t)(openDir(path))
		hook, failed := failAt(n)
		parent.hook = hook
		f, err := v.makeIn(parent)
		if !failed() {
			ok(t, err)
			f.Close()
			parent.Close()
			if n < 4 {
				t.Errorf("only %d changes", n-1)
			}
			return
		}
		if !errors.Is(err, errInjected) {
			t.Errorf("change %d: %v", n, err)
		}
		parent.Close()
		if info, err := os.Stat(path + "/v"); err == nil && info.Mode().Perm() != 0o777 {
			t.Errorf("change %d: mode %s", n, info.Mode())
		}
		if n%2 == 0 {
			must[*os.File](t)(v.Make(path)).Close()
		}
		ok(t, Remove(t.Context(), path, "v"))
		if got := list(t, path); got != "" {
			t.Errorf("change %d left %s", n, got)
		}
	}
}

func TestNewTmpfs(t *testing.T) {
	testenv.NeedRoot(t)
	sameFDs(t)
	before := string(must[[]byte](t)(os.ReadFile("/proc/self/mountinfo")))
	for _, tt := range []struct {
		v         Volume
		gid, mode uint32
	}{
		{Volume{Name: "memory", Memory: &Memory{}}, 0, 0o1777},
		{Volume{Name: "size", Memory: &Memory{Size: 1 << 20}}, 0, 0o1777},
		{Volume{Name: "group", Memory: &Memory{Size: 1 << 20}, FSGroup: ptr[uint32](4711)}, 4711, 0o3777},
		{Volume{Name: "files", Files: &Files{Memory: true}}, 0, 0o755},
		{Volume{Name: "files-group", Files: &Files{Memory: true}, FSGroup: ptr[uint32](4711)}, 4711, 0o2755},
	} {
		f, err := tt.v.NewTmpfs("volume-" + tt.v.Name)
		if err != nil {
			t.Fatal(err)
		}
		st := stat(t, f)
		if st.Mode != unix.S_IFDIR|tt.mode || st.Gid != tt.gid || st.Uid != 0 {
			t.Errorf("%s: mode %o, owners %d:%d", tt.v, st.Mode, st.Uid, st.Gid)
		}
		var sfs unix.Statfs_t
		ok(t, unix.Fstatfs(int(f.Fd()), &sfs))
		if sfs.Type != unix.TMPFS_MAGIC || sfs.Flags&(unix.ST_NOSUID|unix.ST_NODEV|unix.ST_NOEXEC) != unix.ST_NOSUID|unix.ST_NODEV {
			t.Errorf("%s: type %x, flags %x", tt.v, sfs.Type, sfs.Flags)
		}
		if tt.v.Memory != nil && tt.v.Memory.Size != 0 {
			if got := int64(sfs.Blocks) * sfs.Bsize; got != tt.v.Memory.Size {
				t.Errorf("%s: size %d", tt.v, got)
			}
			fd, err := unix.Openat(int(f.Fd()), "file", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
			ok(t, err)
			file := os.NewFile(uintptr(fd), "file")
			if n, err := file.Write(make([]byte, 2<<20)); n != 1<<20 || !errors.Is(err, unix.ENOSPC) {
				t.Errorf("wrote %d bytes: %v", n, err)
			}
			file.Close()
		}
		if tt.v.Files != nil {
			tt.v.Files.Entries = []File{{Path: "a/b", Content: []byte("x")}}
			for _, want := range []bool{true, false} {
				if changed, err := tt.v.Write(f); changed != want || err != nil {
					t.Errorf("write to %s: %v, %v", tt.v, changed, err)
				}
			}
			b, err := openBeneath(f, "a/b", unix.O_RDONLY)
			ok(t, err)
			if st := stat(t, b); st.Gid != tt.gid {
				t.Errorf("%s: group of a file is %d", tt.v, st.Gid)
			}
			b.Close()
		}
		f.Close()
	}
	if after := string(must[[]byte](t)(os.ReadFile("/proc/self/mountinfo"))); after != before {
		t.Errorf("mounts before:\n%s\nafter:\n%s", before, after)
	}
	for _, v := range []Volume{{Name: "v"}, {Name: "v", Files: &Files{}}, {Name: "v", HostPath: &HostPath{Path: "/"}}, {Name: "V", Memory: &Memory{}}} {
		if f, err := v.NewTmpfs("x"); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, %v", v, f, err)
		}
	}
}

// A kernel that can keep a tmpfs out of swap is told to.
func TestNoSwap(t *testing.T) {
	testenv.NeedRoot(t)
	if testenv.Before(t, 6, 4) {
		t.Skip("Linux before 6.4")
	}
	f := must[*os.File](t)(Volume{Name: "v", Memory: &Memory{}}.NewTmpfs("volumes-noswap"))
	defer f.Close()
	at := filepath.Join(t.TempDir(), "at")
	ok(t, os.Mkdir(at, 0o700))
	ok(t, unix.MoveMount(int(f.Fd()), "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH))
	defer unix.Unmount(at, unix.MNT_DETACH)
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile("/proc/self/mounts")))) {
		if strings.HasPrefix(line, "volumes-noswap ") {
			if !strings.Contains(line, ",noswap") {
				t.Errorf("mounted as %s", line)
			}
			return
		}
	}
	t.Error("not mounted")
}
